"""Several processes rank and teach together, and end with the bytes of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import shared_out
from conftest import WORDS, build_bert, build_causal, build_t5
from forked import run_ranks

from tevatron_distill.driver import merge, rerank, teach, train
from tevatron_distill.formats.groups import group_to_line, read_groups
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.schema import Candidates, Group, InputError, Passage

pytestmark = pytest.mark.distributed
SIZES = [5, 1, 4, 6, 3, 4, 7, 2, 5, 5, 3, 6, 1, 2, 8, 4, 4, 3]
SEED_OF_TEXT = 7


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Eighteen queries with up to eight passages of different lengths; two queries are the same but for their names."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lists = []
    for number, size in enumerate(SIZES):
        texts = [WORDS[(number * SEED_OF_TEXT + place) % 14 :][: 2 + place] * (1 + place % 3) for place in range(size)]
        passages = tuple(Passage(f"d{number}_{place}", " ".join(text)) for place, text in enumerate(texts))
        lists.append(Candidates(f"q{number}", f"what is {WORDS[number % 14]}", passages, tuple(range(size, 0, -1))))
    lists.append(Candidates("twin", lists[3].query, lists[3].passages, lists[3].scores))
    path.write_text("".join(f"{line}\n" for line in write_candidates_lines(lists)))
    return path


@pytest.fixture(scope="module")
def models(make_folder, tmp_path_factory) -> dict[str, list[str]]:
    """Flags of a student of each layout."""
    folder = tmp_path_factory.mktemp("pair")
    passages = (Passage("a", "red green"), Passage("b", "blue"))
    (folder / "groups.jsonl").write_text(group_to_line(Group("q", "what", passages, (1, 0), 2)) + "\n")
    train.main(
        [
            *("--model_name_or_path", str(make_folder(build_bert)), "--student", "pair_ranker", "--loss", "rank_net"),
            *("--dataset_path", str(folder / "groups.jsonl"), "--max_steps", "1", "--use_cpu"),
            *("--save_strategy", "no", "--report_to", "none", "--output_dir", str(folder / "out")),
        ]
    )
    listwise = ["--student", "listwise", "--window_size", "4", "--step_size", "2", "--rerank_max_len", "1000"]
    return {
        "point": ["--model_name_or_path", str(make_folder(build_bert, head=True))],
        "dual": ["--model_name_or_path", str(make_folder(build_bert)), "--student", "colbert"],
        "pair": ["--model_name_or_path", str(folder / "out")],
        "list": ["--model_name_or_path", str(make_folder(build_causal, "llama")), *listwise],
    }


def commands(rows: Path, models, make_folder, folder: Path, *more: str) -> list[tuple[str, list[str]]]:
    """Rerank with each student, and teach by an engine, a generated list and judgements."""
    found = [
        (
            "rerank",
            [
                *("--dataset_path", str(rows), "--rerank_output_path", str(folder / f"{kind}.tsv")),
                *("--output_dir", str(folder / "temp"), "--batch_tokens", "200", "--use_cpu", *flags, *more),
            ],
        )
        for kind, flags in models.items()
    ]
    (folder / "qrels.txt").write_text("".join(f"q{n} 0 d{n}_0 1\n" for n in range(0, len(SIZES), 3)))
    llama = str(make_folder(build_causal, "llama"))
    teachers = {
        "prp": ["--model_name_or_path", str(make_folder(build_t5)), "--batch_tokens", "500"],
        "list": ["--model_name_or_path", llama, "--teacher", "listwise", "--max_unparsed", "1", "--window_size", "4"],
        "qrels": ["--teacher", "qrels", "--qrels_path", str(folder / "qrels.txt")],
    }
    teachers["list"] += ["--step_size", "2"]
    side = () if "--num_shards" in more else ("--run_path", str(folder / "prp.trec"))
    found += [
        (
            "teach",
            [
                *("--dataset_path", str(rows), "--output_path", str(folder / f"{kind}.jsonl")),
                *("--cache_path", str(folder / f"{kind}.sqlite"), "--queries_per_round", "3", *flags),
                *(side if kind == "prp" else ()),
                *more,
            ],
        )
        for kind, flags in teachers.items()
    ]
    return found


def run_all(found: list[tuple[str, list[str]]], folder: Path, processes: int, writes: int | None = None) -> str:
    """Run commands in processes that work together, or until one dies in front of a write; returns what they said."""
    said, failed = run_ranks(shared_out.work, (job_of(found, folder), writes), processes, folder / "said.txt")
    assert failed == (writes is not None), said
    return said


def job_of(found: list[tuple[str, list[str]]], folder: Path) -> str:
    job = folder / "commands.json"
    job.write_text(json.dumps(found))
    return str(job)


def launch(found: list[tuple[str, list[str]]], folder: Path, processes: int) -> str:
    """The same under ``torchrun``."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [sys.executable, *launcher, shared_out.__file__, job_of(found, folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def whole(rows, models, make_folder, tmp_path_factory) -> Path:
    """What one process makes."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rerank, "BLOCK_PAIRS", shared_out.BLOCK_PAIRS)
        for driver, words in commands(rows, models, make_folder, folder):
            {"rerank": rerank.main, "teach": teach.main}[driver](words)
    return folder


def check_equal(folder: Path, whole: Path) -> None:
    """All outputs are there, whole, and nothing else is."""
    for name in ("point.tsv", "dual.tsv", "pair.tsv", "list.tsv", "prp.jsonl", "list.jsonl", "qrels.jsonl", "prp.trec"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    assert not [path.name for path in folder.iterdir() if path.name.endswith((".parts", ".partial", ".tmp"))]


@pytest.mark.parametrize(("run", "processes"), [(launch, 2), (run_all, 3)])
def test_processes_of_a_launcher_end_with_the_bytes_of_one(run, processes, rows, models, make_folder, tmp_path, whole):
    said = run(commands(rows, models, make_folder, tmp_path), tmp_path, processes)
    check_equal(tmp_path, whole)
    assert said.count(" pairs/s, ") == len(models), "one process reports"
    for name in ("point.tsv", "prp.jsonl"):
        report = json.loads((tmp_path / f"{name}.run_config.json").read_text())["report"]
        assert len(report["processes"]) == processes
        assert report["queries"] == len(SIZES) + 1
        assert sum(one["queries"] for one in report["processes"]) == len(SIZES) + 1
        assert all(one["peak_memory_mib"] > 0 for one in report["processes"])


def test_a_killed_run_goes_on_with_other_numbers_of_processes(rows, models, make_folder, tmp_path, whole):
    found = commands(rows, models, make_folder, tmp_path)
    for command, kills, processes in ((found[0], ((3, 1), (1, 1)), 2), (found[4], ((1, 7), (2, 3)), 3)):  # point, prp
        for number, writes in kills:
            run_all([command], tmp_path, number, writes)
        run_all([command], tmp_path, processes)
    for name in ("point.tsv", "prp.jsonl", "prp.trec"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name


def test_an_error_of_the_input_is_said_once(rows, models, make_folder, tmp_path):
    (driver, words), *_ = commands(rows, models, make_folder, tmp_path)
    job = job_of([(driver, [*words, "--dataset_path", str(tmp_path / "none.jsonl")])], tmp_path)
    said, failed = run_ranks(shared_out.work, (job,), 2, tmp_path / "said.txt")
    assert failed
    assert said.count("error: ") == 1
    assert "none.jsonl" in said


def test_a_job_array_is_merged_to_the_same_bytes(rows, models, make_folder, tmp_path, whole, monkeypatch):
    monkeypatch.setattr(rerank, "BLOCK_PAIRS", shared_out.BLOCK_PAIRS)
    for index in (2, 0, 1):
        for driver, words in commands(rows, models, make_folder, tmp_path, *shard_flags(3, index)):
            {"rerank": rerank.main, "teach": teach.main}[driver](words)
    for name in ("point.tsv", "dual.tsv", "pair.tsv", "list.tsv", "prp.jsonl", "list.jsonl", "qrels.jsonl"):
        merge.main(["--output_path", str(tmp_path / name)])
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name
    assert len(read_groups(tmp_path / "prp.jsonl")) == len(SIZES) + 1


def test_a_shard_has_no_files_of_all_queries(rows, models, make_folder, tmp_path):
    words = commands(rows, models, make_folder, tmp_path)[4][1]
    with pytest.raises(InputError, match="--run_path and --permutation_path need all queries"):
        teach.main([*words, *shard_flags(2, 0)])
    with pytest.raises(InputError, match=r"--shard_index lie in 0\.\.num_shards - 1"):
        teach.main([*words, *shard_flags(2, 2)])


def shard_flags(count: int, index: int) -> tuple[str, ...]:
    return ("--num_shards", str(count), "--shard_index", str(index))

"""The driver rerank, end to end."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import WORDS, build_causal
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.arguments.rerank import RerankArguments
from tevatron_distill.driver import rerank as driver
from tevatron_distill.driver.rerank import main, mix, normalise, ranked_lines
from tevatron_distill.formats.runs import read_run
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, InputError, Passage


@pytest.fixture
def rows(tmp_path) -> Path:
    """Five queries with up to six candidates; titles missing, null or given, one score tied."""
    path = tmp_path / "rerank_input.jsonl"
    lines = []
    for query in range(5):
        for place in range(2 + query):
            row = {
                "query_id": f"q{query}",
                "query": WORDS[query],
                "docid": f"d{place}",
                "text": " ".join(WORDS[place : place + 4] + ["the mat"] * query),
                "score": 20.0 - place // 2,
            }
            if place % 3:
                row["title"] = None if place % 3 == 1 else "a-title"
            lines.append(json.dumps(row))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def command(rows, tmp_path, bert_classifier_folder):
    """RankLLaMA's documented command line, with other paths."""

    def build(*more: str, model: Path = bert_classifier_folder) -> list[str]:
        return [
            *("--output_dir", str(tmp_path / "temp")),
            *("--model_name_or_path", str(model)),
            *("--tokenizer_name", str(model)),
            *("--dataset_path", str(rows)),
            *("--dataset_name", "json"),
            *("--per_device_eval_batch_size", "64"),
            *("--rerank_max_len", "164"),
            *("--query_prefix", "query: "),
            *("--passage_prefix", "document: "),
            *("--dataloader_num_workers", "8"),
            *("--rerank_output_path", str(tmp_path / "run.tsv")),
            *("--use_cpu", "True"),
            *more,
        ]

    return build


def test_tevatrons_command_line_writes_tevatrons_run(command, rows, tmp_path, capsys):
    main(command())
    lines = [line.split("\t") for line in (tmp_path / "run.tsv").read_text().splitlines()]
    assert len(lines) == 2 + 3 + 4 + 5 + 6
    assert [query for query, *_ in lines] == [f"q{n}" for n in range(5) for _ in range(2 + n)]
    for query, ranked in read_run(tmp_path / "run.tsv").items():
        scores = list(ranked.values())
        assert all(above > below for above, below in itertools.pairwise(scores)), query
    assert "20 pairs" in capsys.readouterr().out
    record = json.loads((tmp_path / "run.tsv.run_config.json").read_text())
    assert record["report"]["pairs"] == 20
    assert 0 < record["report"]["real_token_share"] <= 1
    assert record["report"]["device"] == f"cpu, {torch.get_num_threads()} threads"
    assert record["arguments"]["rerank_max_len"] == 164
    assert str(rows) in record["inputs"]


def test_rank_llamas_scores_are_those_of_plain_transformers_code(command, make_folder, rows, tmp_path):
    base = make_folder(build_causal, "llama")
    torch.manual_seed(6)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    main(command("--append_eos_token", model=tmp_path / "model"))
    run = read_run(tmp_path / "run.tsv")
    for line in rows.read_text().splitlines():
        row = json.loads(line)
        title = (row.get("title") or "").replace("-", " ").strip()
        text = f"query:  {row['query']} document:  {title} {row['text']}".strip()
        ids = [*tokenizer(text, truncation=True, max_length=163)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits.item()
        assert run[row["query_id"]][row["docid"]] == pytest.approx(expected, abs=1e-5)


def test_trec_output_has_six_columns_and_ranks(command, tmp_path):
    main(command("--output_format", "trec"))
    lines = [line.split() for line in (tmp_path / "run.tsv").read_text().splitlines()]
    assert {len(columns) for columns in lines} == {6}
    assert [columns[3] for columns in lines[:5]] == ["1", "2", "1", "2", "3"]


def test_the_depth_cuts_the_first_stage(command, tmp_path):
    main(command("--depth", "2"))
    assert {tuple(sorted(ranked)) for ranked in read_run(tmp_path / "run.tsv").values()} == {("d0", "d1")}


def test_equal_scores_keep_the_first_stages_order():
    candidates = Candidates("q", "?", tuple(Passage(docid, "text") for docid in "abc"), (3.0, 2.0, 1.0))
    lines = ranked_lines(candidates, [0.5, 2.0, 0.5], RerankArguments("run.tsv"))
    assert [line.split("\t")[1] for line in lines] == ["b", "a", "c"]


def test_shards_together_are_the_whole(command, tmp_path):
    whole, parts = tmp_path / "whole.tsv", [tmp_path / f"{n}.tsv" for n in range(2)]
    main(command("--rerank_output_path", str(whole)))
    for index, part in enumerate(parts):
        shard = ("--dataset_number_of_shards", "2", "--dataset_shard_index", str(index))
        main(command("--rerank_output_path", str(part), *shard))
    first, second = (read_run(part) for part in parts)
    assert not first.keys() & second.keys()
    joined, expected = {**first, **second}, read_run(whole)
    assert joined.keys() == expected.keys()
    for query_id, ranked in expected.items():
        assert joined[query_id] == pytest.approx(ranked, abs=1e-5)


def test_a_complete_run_is_not_overwritten_unasked(command, tmp_path):
    main(command())
    before = (tmp_path / "run.tsv").read_bytes()
    with pytest.raises(InputError, match="--overwrite_output_dir"):
        main(command())
    main(command("--overwrite_output_dir"))
    assert (tmp_path / "run.tsv").read_bytes() == before


def dies_after(monkeypatch, calls, run):
    """Run something that is stopped by Ctrl-C after so many blocks."""
    score, left = Reranker.score_candidates, [calls]

    def dies(self, candidates):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return score(self, candidates)

    with monkeypatch.context() as patch:
        patch.setattr(Reranker, "score_candidates", dies)
        with pytest.raises(KeyboardInterrupt):
            run()


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(command, tmp_path, monkeypatch, calls):
    monkeypatch.setattr(driver, "BLOCK_PAIRS", 4)
    main(command())
    whole = (tmp_path / "run.tsv").read_bytes()
    (tmp_path / "run.tsv").unlink()
    dies_after(monkeypatch, calls, lambda: main(command()))
    partial = tmp_path / "run.tsv.partial"
    assert not (tmp_path / "run.tsv").exists()
    assert whole.startswith(partial.read_bytes())
    partial.write_bytes(partial.read_bytes()[:-3])  # a torn last line
    main(command())
    assert (tmp_path / "run.tsv").read_bytes() == whole


def test_an_unfinished_run_of_another_command_is_refused(command, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "BLOCK_PAIRS", 4)
    dies_after(monkeypatch, 1, lambda: main(command()))
    with pytest.raises(InputError, match="depth"):
        main(command("--depth", "1"))


def test_a_run_that_has_done_nothing_leaves_nothing(command, tmp_path, monkeypatch):
    dies_after(monkeypatch, 0, lambda: main(command()))
    assert [file.name for file in tmp_path.glob("run.tsv*")] == []
    main(command("--depth", "1"))


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=9), st.sampled_from(["zscore", "minmax"]))
def test_normalising_keeps_the_order_and_fixes_the_scale(scores, norm):
    normal = normalise(scores, norm)
    for one, other, left, right in zip(scores, scores[1:], normal, normal[1:], strict=False):
        assert (one < other) == (left < right)
    if len(set(scores)) > 1 and norm == "minmax":
        assert (min(normal), max(normal)) == (0.0, 1.0)
    elif len(set(scores)) > 1:
        assert sum(normal) == pytest.approx(0.0, abs=1e-9)
        assert sum(value**2 for value in normal) == pytest.approx(len(normal))
    else:
        assert set(normal) == {0.0}


def test_the_weight_goes_from_the_student_alone_to_the_first_stage_alone(command, tmp_path):
    assert mix([1.0, 3.0], [9.0, 1.0], 0.25, "zscore") == [0.75 * -1 + 0.25 * 1, 0.75 * 1 + 0.25 * -1]
    main(command("--first_stage_weight", "1"))
    assert [list(ranked) for ranked in read_run(tmp_path / "run.tsv").values()] == [
        [f"d{place}" for place in range(2 + query)] for query in range(5)
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--first_stage_weight", "1.5"), "must lie in 0..1"),
        (("--depth", "0"), "--depth must be at least 1"),
        (("--batch_tokens", "0"), "--batch_tokens must be auto or a number from 1; got '0'"),
        (("--batch_tokens", "many"), "--batch_tokens must be auto or a number from 1; got 'many'"),
        (("--rerank_max_len", "0"), "--rerank_max_len must be more than 0"),
        (("--rerank_output_path", ""), "--rerank_output_path must name the run"),
        (("--fp16", "True", "--bf16", "True", "--use_cpu", "False"), "GPU|TrainingArguments"),
    ],
)
def test_wrong_values_are_errors_of_the_input(command, flags, message):
    with pytest.raises(InputError, match=message):
        main(command(*flags))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_without_a_gpu_is_one_clear_error(command):
    with pytest.raises(InputError, match="--fp16 needs a GPU"):
        main(command("--fp16"))


def test_a_launcher_that_does_not_say_who_is_who_is_refused(command, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="torchrun --nproc_per_node 2"):
        main(command())


def test_a_random_head_is_refused_and_a_plain_folder_needs_its_student(command, bert_folder, t5_folder, tmp_path):
    with pytest.raises(InputError, match="would be random"):
        main(command(model=bert_folder))
    main(command("--student", "colbert", "--overwrite_output_dir", model=bert_folder))
    main(command("--student", "yes_token", "--prompt", "instructdistill", "--overwrite_output_dir", model=t5_folder))
    assert len(read_run(tmp_path / "run.tsv")) == 5


def test_t5_in_half_precision_is_refused(command, t5_folder):
    with pytest.raises(InputError, match="T5 overflows in float16"):
        main(command("--student", "yes_token", "--dtype", "float16", model=t5_folder))


def test_flags_may_stand_in_one_file_and_an_unknown_key_is_refused(command, tmp_path):
    words = command()
    values = dict(zip((word[2:] for word in words[::2]), words[1::2], strict=True))
    values |= {"per_device_eval_batch_size": 64, "rerank_max_len": 164, "dataloader_num_workers": 0, "use_cpu": True}
    path = tmp_path / "rerank.json"
    path.write_text(json.dumps(values))
    main([str(path)])
    assert (tmp_path / "run.tsv").exists()
    path.write_text(json.dumps({**values, "colour": "red"}))
    with pytest.raises(InputError, match=r"unknown key .colour"):
        main([str(path)])


def test_as_a_program_it_says_its_error_in_one_line(command, bert_folder):
    done = subprocess.run(
        [sys.executable, "-m", "tevatron_distill.driver.rerank", *command(model=bert_folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ") and "would be random" in line]

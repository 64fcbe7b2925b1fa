from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import build_t5

from tevatron_distill.driver import teach
from tevatron_distill.engines import HFEngine
from tevatron_distill.formats.groups import read_groups
from tevatron_distill.formats.instructdistill import read_permutations
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.formats.runs import read_run
from tevatron_distill.schema import Candidates, InputError, Passage

WORDS = [
    *("red", "green", "blue", "yellow", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("cat", "dog", "mat"),
]


def some_candidates(sizes):
    for number, size in enumerate(sizes):
        passages = tuple(
            Passage(f"d{number}_{place}", " ".join(WORDS[(number + place) % 9 :][: 3 + place]), "a title" * (place % 2))
            for place in range(size)
        )
        yield Candidates(f"q{number}", f"what is {WORDS[number % 14]}", passages, tuple(map(float, range(size, 0, -1))))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rerank_input.jsonl"
    path.write_text("".join(f"{line}\n" for line in write_candidates_lines(some_candidates([5, 1, 4, 6, 3, 4]))))
    return path


def flags(rows, model, output, *more):
    return [
        *("--dataset_path", str(rows), "--model_name_or_path", str(model), "--output_path", str(output)),
        *("--queries_per_round", "3", *more),
    ]


class InterruptedTeachingError(Exception):
    pass


@pytest.fixture
def stop_after(monkeypatch):
    """Make the engine fail after so many batches; returns what it was asked until then."""
    answer = HFEngine.answer

    def arrange(num_batches):
        batches = []

        def failing(self, requests):
            if len(batches) == num_batches:
                raise InterruptedTeachingError
            batches.append(len(requests))
            return answer(self, requests)

        monkeypatch.setattr(HFEngine, "answer", failing)
        return batches

    return arrange


@pytest.mark.parametrize(
    ("sort", "num_ranked"), [("allpair", [4, 1, 4, 4, 3, 4]), ("heapsort", [2, 1, 2, 2, 2, 2])], ids=["all", "heap"]
)
def test_groups_run_permutations_and_report_are_written(rows, t5_folder, tmp_path, capsys, sort, num_ranked):
    out = tmp_path / "out" / "groups.jsonl"
    side = ["--run_path", str(tmp_path / "t.trec"), "--permutation_path", str(tmp_path / "t.json")]
    teach.main(flags(rows, t5_folder, out, "--sort", sort, "--top_k", "2", "--depth", "4", *side))
    groups = read_groups(out)
    assert [group.query_id for group in groups] == [f"q{number}" for number in range(6)]
    assert [len(group.passages) for group in groups] == [4, 1, 4, 4, 3, 4]
    assert [group.num_ranked for group in groups] == num_ranked
    assert groups[0].teacher == {
        "name": "pairwise",
        "sort": sort,
        "model": str(t5_folder),
        "prompt": "instructdistill",
    }
    run = read_run(tmp_path / "t.trec")
    for group in groups:
        assert list(run[group.query_id]) == [group.passages[position].docid for position in group.permutation]
    assert read_permutations(tmp_path / "t.json") == [group.permutation for group in groups]
    report = json.loads((tmp_path / "out" / "groups.jsonl.run_config.json").read_text())["report"]
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(printed) == set(report)
    assert report["queries"] == 6
    assert report["asked"] == 2 * report["pairs"] == 2 * sum(len(group.preferences) for group in groups)
    assert 0 <= report["disagreement"] <= 1
    assert -0.5 <= report["position_bias"] <= 0.5
    assert (tmp_path / "out" / "answer_cache.sqlite").exists()


@pytest.mark.parametrize("sort", ["allpair", "sliding_window"])
@pytest.mark.parametrize("num_batches", [0, 1, 4, 7])
def test_a_run_that_was_cut_goes_on_and_ends_with_the_same_bytes(
    rows, t5_folder, tmp_path, stop_after, sort, num_batches
):
    settings = ["--sort", sort, "--batch_tokens", "1000"]
    whole, cut = tmp_path / "whole" / "groups.jsonl", tmp_path / "cut" / "groups.jsonl"
    asked = stop_after(-1)
    teach.main(flags(rows, t5_folder, whole, *settings, "--run_path", str(whole.parent / "t.trec")))
    assert len(asked) > 7
    before = stop_after(num_batches)
    with pytest.raises(InterruptedTeachingError):
        teach.main(flags(rows, t5_folder, cut, *settings, "--run_path", str(cut.parent / "t.trec")))
    assert not cut.exists()
    after = stop_after(-1)
    teach.main(flags(rows, t5_folder, cut, *settings, "--run_path", str(cut.parent / "t.trec")))
    assert cut.read_bytes() == whole.read_bytes()
    assert (cut.parent / "t.trec").read_bytes() == (whole.parent / "t.trec").read_bytes()
    assert before + after == asked


def test_another_sort_depth_or_rerun_asks_nothing_twice(rows, t5_folder, tmp_path, stop_after):
    cache = ["--cache_path", str(tmp_path / "answers.sqlite")]
    asked = stop_after(-1)
    teach.main(flags(rows, t5_folder, tmp_path / "a.jsonl", *cache))
    assert sum(asked) == 5 * 4 + 0 + 4 * 3 + 6 * 5 + 3 * 2 + 4 * 3
    stop_after(0)
    teach.main(flags(rows, t5_folder, tmp_path / "b.jsonl", *cache))
    teach.main(flags(rows, t5_folder, tmp_path / "c.jsonl", "--sort", "heapsort", *cache))
    teach.main(flags(rows, t5_folder, tmp_path / "d.jsonl", "--depth", "3", *cache))
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_the_number_of_queries_in_a_round_does_not_change_the_verdicts(rows, llama_folder, tmp_path):
    for size in ("1", "6"):
        out = tmp_path / size / "groups.jsonl"
        teach.main(flags(rows, llama_folder, out, "--queries_per_round", size, "--prompt", "llm_rankers"))
    one, six = (read_groups(tmp_path / size / "groups.jsonl") for size in ("1", "6"))
    assert [(group.permutation, group.scores) for group in one] == [(group.permutation, group.scores) for group in six]


def test_shards_together_are_the_whole(rows, t5_folder, tmp_path):
    teach.main(flags(rows, t5_folder, tmp_path / "whole.jsonl"))
    shard = ["--dataset_number_of_shards", "2", "--cache_path", str(tmp_path / "answers.sqlite")]
    for index in "01":
        teach.main(flags(rows, t5_folder, tmp_path / f"{index}.jsonl", *shard, "--dataset_shard_index", index))
    whole = [group.permutation for group in read_groups(tmp_path / "whole.jsonl")]
    assert [group.permutation for group in read_groups(tmp_path / "0.jsonl")] == whole[0::2]
    assert [group.permutation for group in read_groups(tmp_path / "1.jsonl")] == whole[1::2]


def test_the_stand_in_teaches_its_mix_of_similarity_and_first_stage(rows, bert_folder, tmp_path):
    out = tmp_path / "groups.jsonl"
    teach.main(flags(rows, bert_folder, out, "--engine", "similarity", "--similarity_weight", "0"))
    for group in read_groups(out):
        assert group.permutation == tuple(range(len(group.passages)))
        assert all(probability > 0.5 for *_, probability in group.preferences)
    report = json.loads((tmp_path / "groups.jsonl.run_config.json").read_text())["report"]
    assert (report["position_bias"], report["disagreement"]) == (0.0, 0.0)


def test_judgements_teach_without_an_engine(rows, tmp_path, caplog):
    qrels = tmp_path / "qrels.txt"
    qrels.write_text("q0 0 d0_2 1\nq2 0 d2_0 0\nq3 0 d3_5 2\nq3 0 d3_1 1\n")
    out = tmp_path / "groups.jsonl"
    judged = ["--teacher", "qrels", "--qrels_path", str(qrels), "--queries_per_round", "2"]
    teach.main(["--dataset_path", str(rows), "--output_path", str(out), *judged])
    groups = read_groups(out)
    assert [(group.query_id, group.permutation, group.num_ranked) for group in groups] == [
        ("q0", (2, 0, 1, 3, 4), 1),
        ("q3", (5, 1, 0, 2, 3, 4), 2),
    ]
    assert groups[0].judgements == (0.0, 0.0, 1.0, 0.0, 0.0)
    assert "4 of 6 queries have no candidate that is judged relevant" in caplog.text
    assert not (tmp_path / "answer_cache.sqlite").exists()


def test_judgements_of_other_queries_are_refused(rows, tmp_path):
    (tmp_path / "qrels.txt").write_text("other 0 d0_2 1\n")
    with pytest.raises(InputError, match="no query has a candidate that is judged relevant"):
        teach.main(
            [
                *("--dataset_path", str(rows), "--output_path", str(tmp_path / "groups.jsonl")),
                *("--teacher", "qrels", "--qrels_path", str(tmp_path / "qrels.txt")),
            ]
        )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sort", "sliding_window", "--window_size", "20", "--step_size", "10"], "--window_size must be 2"),
        (["--sort", "heapsort", "--num_child", "3"], "--num_child must be 1"),
        (["--depth", "0"], "--depth must be at least 1"),
        (["--qrels_path", "qrels.txt"], "--qrels_path is for --teacher qrels"),
        (["--similarity_weight", "2"], r"--similarity_weight must lie in 0\.\.1"),
        (["--similarity_temperature", "0"], "--similarity_temperature above 0"),
    ],
)
def test_flags_that_do_not_fit_are_refused(rows, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        teach.main(flags(rows, "model", tmp_path / "groups.jsonl", *more))


def test_missing_flags_are_named(rows, tmp_path):
    words = ["--dataset_path", str(rows), "--output_path", str(tmp_path / "groups.jsonl")]
    with pytest.raises(InputError, match="--engine hf needs --model_name_or_path"):
        teach.main(words)
    with pytest.raises(InputError, match="--teacher qrels needs --qrels_path"):
        teach.main([*words, "--teacher", "qrels"])


def test_a_choice_in_a_file_is_checked_too(rows, tmp_path):
    config = {"dataset_path": str(rows), "output_path": str(tmp_path / "groups.jsonl"), "sort": "bogosort"}
    (tmp_path / "teach.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"teach.json: sort: .*'bogosort' .*pointwise.*bubblesort"):
        teach.main([str(tmp_path / "teach.json")])


def test_finished_output_is_kept_unless_told_otherwise(rows, t5_folder, tmp_path):
    out, run = tmp_path / "groups.jsonl", tmp_path / "t.trec"
    teach.main(flags(rows, t5_folder, out))
    with pytest.raises(InputError, match="exists already"):
        teach.main(flags(rows, t5_folder, out))
    run.write_text("mine")
    with pytest.raises(InputError, match=r"t\.trec: the output exists already"):
        teach.main(flags(rows, t5_folder, tmp_path / "other.jsonl", "--run_path", str(run)))
    assert run.read_text() == "mine"
    teach.main(flags(rows, t5_folder, out, "--run_path", str(run), "--overwrite_output_dir"))
    assert len(read_run(run)) == 6


@pytest.mark.slow
def test_a_killed_process_goes_on_and_ends_with_the_same_bytes(make_folder, tmp_path):
    folder = make_folder(build_t5)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f"{line}\n" for line in write_candidates_lines(some_candidates([7] * 40))))
    whole, cut = tmp_path / "whole" / "groups.jsonl", tmp_path / "cut" / "groups.jsonl"
    teach.main(flags(rows, folder, whole))
    command = [sys.executable, "-m", "tevatron_distill.driver.teach", *flags(rows, folder, cut)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = cut.with_name("groups.jsonl.partial")
    deadline = time.monotonic() + 120
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert partial.exists()
    assert not cut.exists()
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert finished.returncode == 0, finished.stderr
    assert cut.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("line", ['["nan"]', "3", '{"query_id": "q"}', "{"])
def test_an_unfinished_line_that_is_no_group_is_refused_with_its_place(line):
    with pytest.raises(InputError, match=r"groups\.jsonl:2: unfinished output must hold .* no group"):
        teach.group_of("groups.jsonl:2", line)

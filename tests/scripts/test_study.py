"""The study: its queries, its intervals, what it refuses, and numbers that guard quality."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from tevatron_distill.schema import Candidates, Passage

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "scripts" / "results"


@pytest.fixture(autouse=True)
def scripts_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def test_a_known_item_query_is_a_sentence_and_leaves_its_passage():
    from study_data import known_items

    sentences = ["One two three four five six.", "Seven is short.", " ".join(["word"] * 30) + "."]
    ((query, rest),) = known_items([Passage("d", " ".join(sentences), "title")])
    assert query == sentences[0]
    assert rest == Passage("d", f"{sentences[1]} {sentences[2]}", "")


@pytest.mark.parametrize("text", ["Too short.", "One two three four five six. And little else."])
def test_a_passage_that_says_too_little_gives_no_known_item(text):
    from study_data import known_items

    assert list(known_items([Passage("d", text)])) == []


def test_relevant_passages_stand_first_and_the_others_by_score():
    from study_data import ordered_group

    entry = Candidates("q", "?", tuple(Passage(docid, docid) for docid in "abcde"), ())
    group = ordered_group(entry, {"d": 1, "e": 2}, {"a": -5.0, "c": 3.0, "d": -9.0})
    assert [group.passages[position].docid for position in group.permutation] == ["e", "d", "c", "a", "b"]


def test_a_test_query_among_the_training_data_ends_the_study(tmp_path):
    from study_data import StudyData

    from tevatron_distill.formats.groups import write_groups

    class Data(StudyData):
        test_queries = {"what is a cat"}  # noqa: RUF012

    passages = (Passage("a", "one"), Passage("b", "two"))
    entry = Candidates("q7", "What is a cat?", passages, (2.0, 1.0))
    (tmp_path / "groups").mkdir()
    write_groups(tmp_path / "groups" / "leaky.jsonl", [entry.judged({"a": 1})])
    with pytest.raises(SystemExit, match=r"leaky\.jsonl trains on 1 test queries, q7 first"):
        Data(tmp_path, tmp_path, tmp_path).check_no_test_query()


def test_seeds_that_differ_widen_the_interval():
    from study_results import interval

    same = {f"q{number}": 0.5 + 0.01 * (number % 3) for number in range(30)}
    shifted = [{query_id: value + shift for query_id, value in same.items()} for shift in (-0.1, 0.0, 0.1)]
    mean, low, high = interval([same, same, same])
    wide_mean, wide_low, wide_high = interval(shifted)
    assert wide_mean == pytest.approx(mean)
    assert low < mean < high
    assert wide_high - wide_low > 5 * (high - low)


def test_speed_is_measured_of_each_kind_once(tmp_path, bert_classifier_folder, monkeypatch):
    import study_results
    from study_trainings import Training

    timed = []

    class OneFolder:
        data = SimpleNamespace(out=tmp_path)

        def folder(self, training, seed):
            timed.append((training.student, seed))
            return bert_classifier_folder

        def lists(self, test):
            passages = tuple(Passage(f"d{number}", f"apple {number}") for number in range(12))
            return [Candidates(f"q{number}", f"pear {number}", passages, ()) for number in range(12)]

    trainings = (Training("cross_encoder", "mix"), Training("pair_ranker", "mix", seeds=(4, 5)))
    monkeypatch.setattr(study_results, "EVERY_STUDENT", trainings)
    for _ in range(2):
        study_results.measure_speed(OneFolder())
    assert timed == [("cross_encoder", 1), ("pair_ranker", 4)]
    found = json.loads((tmp_path / "speed.json").read_text())
    weights = sum(array.numel() for array in load_file(bert_classifier_folder / "model.safetensors").values())
    assert {name: row["params"] for name, row in found.items()} == dict.fromkeys(
        ("cross_encoder", "pair_ranker"), weights
    )
    assert all(row["ms_per_query"] > 0 for row in found.values())


def test_every_row_of_the_results_says_what_was_measured():
    rows = json.loads((RESULTS / "study.json").read_text(encoding="utf-8"))
    keys = {"train", "test", "student", "loss", "ndcg10", "low", "high", "ms_per_query", "params", "seeds", "commit"}
    assert all(keys <= row.keys() for row in rows)
    assert all(row["low"] <= row["ndcg10"] <= row["high"] for row in rows)
    assert {row["test"] for row in rows} == {"dl19", "nfcorpus", "scifact"}


def test_the_readme_has_the_tables_of_the_results():
    from study_results import with_tables

    rows = json.loads((RESULTS / "study.json").read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert with_tables(text, rows) == text


@pytest.mark.gates
@pytest.mark.data
@pytest.mark.timeout(1500)
def test_the_quick_study_is_as_good_as_it_was(tmp_path, data_dir):
    """Trained on a few verdicts, each student is within what other seeds make of it."""
    command = [sys.executable, "scripts/study.py", "--quick", "--data_dir", str(data_dir)]
    paths = ["--output_dir", str(tmp_path / "study"), "--results_dir", str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *paths], cwd=ROOT, env=environment, check=True, timeout=1400)
    measured = {_key(row): row["ndcg10"] for row in json.loads((tmp_path / "study_quick.json").read_text())}
    gates = json.loads((RESULTS / "study_quick.json").read_text(encoding="utf-8"))
    assert measured.keys() == {_key(gate) for gate in gates}
    # What is not trained has no seeds, and moves by nothing
    allowed = {_key(gate): gate["tolerance"] or 0.0005 for gate in gates}
    moved = [
        f"{key}: {measured[key]} instead of {gate['ndcg10']} ± {allowed[key]}"
        for gate in gates
        if abs(measured[key := _key(gate)] - gate["ndcg10"]) > allowed[key]
    ]
    assert moved == []


def _key(row: dict) -> tuple:
    return row["student"], row["train"], row["test"]

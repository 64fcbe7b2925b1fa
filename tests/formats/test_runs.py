"""Runs are read in every width and written so that trec_eval reads the same order."""

from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.formats.runs import RUN_FORMATS, format_run_lines, read_run, strictly_decreasing, write_run
from tevatron_distill.schema import InputError


@pytest.fixture
def write(tmp_path):
    def write_text(text):
        path = tmp_path / "run.txt"
        path.write_text(text)
        return path

    return write_text


@pytest.mark.parametrize(
    "text",
    [
        "q1\td1\t2.5\nq1\td2\t0.5\n",
        "q1 d1 1 2.5\nq1 d2 2 0.5\n",
        "q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 0.5 tag\n",
        "q1\tQ0\td1\t1\t2.5\ttag\n\nq1\tQ0\td2\t2\t0.5\ttag",
        "q1 d2 2 0.5\r\nq1 d1 1 2.5\r\n",
    ],
)
def test_three_four_and_six_columns_give_the_same_run_best_first(write, text):
    run = read_run(write(text))
    assert run == {"q1": {"d1": 2.5, "d2": 0.5}}
    assert list(run["q1"]) == ["d1", "d2"]


def test_equal_scores_stand_in_the_order_of_their_lines(write):
    assert list(read_run(write("q z 1\nq a 1\nq m 2\n"))["q"]) == ["m", "z", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q d 1\nq d2\n", r"run\.txt:2: a run line must have 3 .*got 2"),
        ("q d 1\nq Q0 d2 2 0.5 tag\n", r"run\.txt:2: all lines must have the same columns; got 6 after 3"),
        ("q d nan\n", r"run\.txt:1: the score must be a finite number; got 'nan'"),
        ("q d inf\n", r"run\.txt:1: the score must be a finite number"),
        ("q d high\n", r"run\.txt:1: the score must be a finite number; got 'high'"),
        ("q d 2\nq d 1\n", r'run\.txt:2: docid "d" stands twice under query_id "q"'),
        ("q\t\t1\n", r"run\.txt:1: "),
        ("\n", r"run\.txt: a run must hold at least one line"),
    ],
)
def test_a_broken_run_is_refused_with_its_line(write, text, message):
    with pytest.raises(InputError, match=message):
        read_run(write(text))


def test_a_missing_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="must be readable; got No such file"):
        read_run(tmp_path / "missing.run")


def test_ranks_in_the_place_of_scores_are_warned_of(write, caplog):
    with caplog.at_level(logging.WARNING):
        read_run(write("q\td1\t1\nq\td2\t2\n"))
    assert "MS MARCO" in caplog.text


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), max_size=30))
def test_lowered_scores_strictly_decrease_in_single_precision_and_by_at_most_what_is_needed(scores):
    scores.sort(reverse=True)
    lowered = strictly_decreasing(scores)
    printed = [np.float32(float(str(np.float32(score)))) for score in lowered]
    assert all(first > second for first, second in itertools.pairwise(printed))
    if len(set(scores)) == len(scores):
        assert lowered == scores


def test_near_ties_and_wrong_orders_are_pushed_below():
    step = np.nextafter(np.float32(1), np.float32(0))
    assert strictly_decreasing([1.0, 1.0 - 1e-12, 2.0]) == [1.0, step, np.nextafter(step, np.float32(0))]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), 1e300])
def test_scores_that_a_run_cannot_hold_are_refused(score):
    with pytest.raises(InputError, match="finite single-precision"):
        format_run_lines("q", [("d", score)])


@pytest.mark.parametrize(
    ("fmt", "lines"),
    [
        ("tevatron", ["q1\td2\t2.53125", "q1\td1\t-0.1"]),
        ("trec", ["q1 Q0 d2 1 2.53125 me", "q1 Q0 d1 2 -0.1 me"]),
        ("marco", ["q1\td2\t1", "q1\td1\t2"]),
    ],
)
def test_each_format_has_its_columns(fmt, lines):
    assert format_run_lines("q1", [("d2", 2.53125), ("d1", -0.1)], fmt, "me") == lines


def test_every_format_is_known_and_no_other():
    for fmt in RUN_FORMATS:
        assert format_run_lines("q", [("d", 1.0)], fmt)
    with pytest.raises(InputError, match="tevatron, trec, marco"):
        format_run_lines("q", [("d", 1.0)], "csv")


def test_names_with_white_space_would_break_the_columns():
    with pytest.raises(InputError, match="white space"):
        format_run_lines("q 1", [("d", 1.0)])


names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=4)


@given(
    run=st.dictionaries(names, st.dictionaries(names, st.floats(-100, 100, width=32), min_size=1), min_size=1),
    fmt=st.sampled_from(["tevatron", "trec"]),
)
def test_a_written_run_reads_back_in_the_same_order(tmp_path_factory, run, fmt):
    path = tmp_path_factory.mktemp("run") / "run"
    write_run(path, run, fmt)
    again = read_run(path)
    for query_id, scores in run.items():
        assert list(again[query_id]) == sorted(scores, key=lambda docid: -scores[docid])
        values = list(again[query_id].values())
        assert len(set(values)) == len(values)

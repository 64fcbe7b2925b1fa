"""The report's parts: scales, names beside points, curves, names of systems, what is embedded, what is kept."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.metrics import bootstrap_interval, measured_order
from tevatron_distill.report.charts import Chart, Mark, Series, log_ticks, ticks
from tevatron_distill.report.curves import find_log, read_curves
from tevatron_distill.report.figures import draw_png
from tevatron_distill.report.queries import cut, embedded_json, fit_texts
from tevatron_distill.report.results import build_results
from tevatron_distill.report.scales import fit_scale, place_labels
from tevatron_distill.report.svg import draw_svg
from tevatron_distill.report.systems import System, names_of, seconds_per_query, share_of_cached
from tevatron_distill.schema import InputError

ROOT = Path(__file__).parent.parent.parent
NUMBERS = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@given(NUMBERS, st.floats(1e-3, 1e6))
def test_ticks_are_round_rise_and_lie_inside(low, extent):
    found = ticks(low, low + extent)
    assert 2 <= len(found) <= 7
    assert found == sorted(found)
    assert low - 1e-6 * extent <= found[0] <= found[-1] <= low + extent * (1 + 1e-6)


@given(st.floats(1e-4, 1e4), st.floats(2.0, 1e6))
def test_logarithmic_ticks_are_few_and_lie_inside(low, factor):
    found = log_ticks(low, low * factor)
    assert len(found) <= 12
    assert all(low * (1 - 1e-6) <= tick <= low * factor * (1 + 1e-6) for tick in found)


@given(st.lists(NUMBERS, min_size=1), st.booleans())
def test_an_axis_holds_all_its_values(values, zero):
    scale = fit_scale(values, 10.0, 110.0, zero=zero)
    assert all(10.0 < scale(value) < 110.0 for value in [*values, *([0.0] if zero else [])])


def test_one_time_alone_has_an_axis_too():
    scale = fit_scale([20.0], 0.0, 100.0, log=True)
    assert scale(20.0) == pytest.approx(50.0)
    assert scale.ticks()


@given(st.lists(st.tuples(st.floats(60, 700), st.floats(10, 300)), max_size=6))
def test_no_two_names_cover_each_other_on_the_same_side(points):
    labels = place_labels(points, 740.0)
    assert len(labels) == len(points)
    for number, label in enumerate(labels):
        for other in labels[:number]:
            if label.ends == other.ends and abs(label.x - other.x) < 150:
                assert abs(label.y - other.y) >= 16 - 1e-9


@given(st.text(), st.integers(1, 20))
def test_a_text_is_cut_to_its_length(text, length):
    assert len(cut(text, length)) <= length
    assert cut(text, length) == text or cut(text, length)[:-1] == text[: length - 1]


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_embedded_json_says_the_same_and_cannot_end_its_element(value):
    text = embedded_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


def test_half_of_a_surrogate_pair_does_not_stop_a_page():
    assert embedded_json("a\ud800b") == '"a?b"'


@given(st.lists(st.text(alphabet="aä<😀", min_size=200, max_size=400), min_size=1, max_size=8), st.integers(4000, 9000))
def test_texts_fill_their_room_and_no_more(texts, room):
    view = {"queries": [], "passages": [[str(place), "", text] for place, text in enumerate(texts)]}
    fitted, length = fit_texts(view, room)
    size = sum(len(embedded_json(text).encode()) - 2 for _, _, text in fitted["passages"])
    assert size <= room
    if length is None:
        assert fitted is view
    else:
        assert max(len(text) for _, _, text in fitted["passages"]) == length


def test_files_give_their_names_and_paths_where_these_are_alike():
    assert names_of(["x/bm25.test.trec", "x/teacher.jsonl.gz"], []) == ["bm25.test", "teacher"]
    assert names_of(["x/a.trec", "y/a.tsv", "b.run"], []) == ["x/a.trec", "y/a.tsv", "b"]
    assert names_of([".tsv", "x/.gz", "c.tsv.gz"], []) == [".tsv", ".gz", "c"]  # an ending alone is a name


@pytest.mark.parametrize(
    ("report", "seconds"),
    [
        ({"seconds_per_query": 0.25}, 0.25),
        ({"seconds_per_query": 0}, None),
        ({"seconds_per_query": "fast"}, None),
        ({"seconds_per_query": math.nan}, None),
        ({}, None),
        ({"processes": []}, None),
        ({"processes": "none"}, None),
        # one process ranked 1 query, one 3: (1 * 4 + 3 * 2) / 4
        ({"processes": [{"queries": 1, "seconds_per_query": 4}, {"queries": 3, "seconds_per_query": 2}]}, 2.5),
        # a process without work says nothing
        ({"processes": [{"queries": 0, "seconds_per_query": 9}, {"queries": 3, "seconds_per_query": 2}]}, 2.0),
        ({"processes": [{"queries": 1}, {"queries": 3, "seconds_per_query": 2}]}, None),
    ],
)
def test_a_time_is_read_from_a_drivers_record(report, seconds):
    assert seconds_per_query(report) == seconds


def test_the_caches_share_is_of_all_answers():
    assert share_of_cached({"asked": 30, "cached": 10}) == 10 / 40
    assert share_of_cached({"asked": 30, "cached": 0}) == 0.0
    assert share_of_cached({}) == 0.0


def test_a_log_is_found_in_the_record_the_state_or_the_latest_checkpoint(tmp_path):
    def line(loss):
        return {"log_history": [{"loss": loss, "step": 1}]}

    for number in (9, 10):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(json.dumps(line(number)))
    assert find_log(tmp_path) == [{"loss": 10, "step": 1}]
    (tmp_path / "run_config.json").write_text(json.dumps({"complete": False}))  # training goes on
    assert find_log(tmp_path) == [{"loss": 10, "step": 1}]
    (tmp_path / "run_config.json").write_text(json.dumps({"report": line(0.5)}))
    assert find_log(tmp_path) == [{"loss": 0.5, "step": 1}]
    assert read_curves([str(tmp_path / "checkpoint-9" / "trainer_state.json")])[0].points == ((1.0, 9.0),)


@pytest.mark.parametrize("content", ["[]", "{}", '{"log_history": "x"}', '{"report": null}'])
def test_a_file_without_a_log_is_refused(tmp_path, content):
    (tmp_path / "trainer_state.json").write_text(content)
    with pytest.raises(InputError, match="a training must have logged something"):
        read_curves([str(tmp_path)])


def test_trainings_of_the_same_name_go_by_their_paths(tmp_path):
    for parent in ("a", "b"):
        (tmp_path / parent / "student").mkdir(parents=True)
        text = json.dumps({"log_history": [{"loss": 1.0, "step": 1}]})
        (tmp_path / parent / "student" / "trainer_state.json").write_text(text)
    paths = [str(tmp_path / parent / "student") for parent in ("a", "b")]
    assert [curve.training for curve in read_curves(paths)] == paths


def test_an_interval_is_the_one_of_resampled_queries():
    interval = bootstrap_interval({f"q{number}": float(number % 2) for number in range(400)})
    # a mean of 400 coins: standard error .5 / 20, so 1.96 of it on each side
    assert interval.mean == 0.5
    assert (interval.low, interval.high) == (pytest.approx(0.5 - 1.96 / 40, abs=5e-3), pytest.approx(0.549, abs=5e-3))
    with pytest.raises(InputError, match="at least one query"):
        bootstrap_interval({})


def test_orders_are_shown_as_they_are_measured():
    assert measured_order({"a": 1.0, "b": 1.0 + 1e-12, "c": 2.0}) == ["c", "b", "a"]


def system(name, run, **keywords):
    return System(name, name, run, **keywords)


def test_counts_have_no_interval_and_sums_stand():
    run = {"q1": {"a": 1.0}, "q2": {"b": 1.0}}
    results = build_results([system("x", run)], {"q1": {"a": 1}, "q2": {"b": 1}}, ["NumRet", "RR"])
    assert results.evaluations["x"].mean["NumRet"] == 2.0
    assert results.intervals["x"]["NumRet"] is None
    assert results.intervals["x"]["RR"].mean == 1.0


def test_the_share_of_a_teachers_gain_is_said_with_its_time():
    qrels = {f"q{number}": {"a": 1} for number in range(2)}
    good, bad = {"a": 2.0, "b": 1.0}, {"a": 1.0, "b": 2.0}  # reciprocal ranks 1 and 1/2
    systems = [
        system("first", {"q0": bad, "q1": bad}, seconds=0.001),
        system("student", {"q0": good, "q1": bad}, seconds=0.01),
        system("teacher", {"q0": good, "q1": good}, is_teacher=True, seconds=4.0),
    ]
    results = build_results(systems, qrels, ["RR"])
    assert results.focus.name == "student"
    assert results.kept("RR") == [
        "student keeps 50% of the gain of teacher over first in RR, at 0.0025 of its time a query."
    ]
    assert [(gain.query_id, gain.change) for gain in results.gains("student", "RR")] == [("q0", 0.5), ("q1", 0.0)]


def test_a_teacher_without_a_gain_is_not_compared():
    run = {"q": {"a": 1.0}}
    results = build_results([system("first", run), system("t", run, is_teacher=True)], {"q": {"a": 1}}, ["RR"])
    assert results.kept("RR") == []
    assert results.focus.name == "t"


CHARTS = [
    Chart("a", "intervals", "t", "x", "", (Series("<b>", 0, (Mark(0.5, 0.0, 0.5, 0.5, "<b>"),)),)),
    Chart("b", "scatter", "t", "x", "y", (Series("$x_1$", 9, (Mark(5.0, 0.5, 0.4, 0.6, "<b>"),)),), log_x=True),
    Chart("c", "lines", "t", "x", "y", (Series("one", 0, (Mark(1.0, 0.5, 0.5, 0.5, "one"),)),)),
    Chart("d", "bars", "t", "x", "y", (Series("<b>", 1, (Mark(1.0, 0.0, 0.0, 0.0, "<b>"),)),)),
]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.kind)
def test_a_picture_of_a_single_point_is_drawn_both_ways(chart):
    drawn = draw_svg(chart)
    assert "<b>" not in drawn
    assert "nan" not in drawn
    assert draw_png(chart).startswith(b"\x89PNG")


def test_the_page_travels_in_a_wheel(tmp_path):
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True)
    folder = tmp_path / "tevatron_distill" / "report" / "templates"
    assert sorted(path.name for path in folder.iterdir()) == ["page.css", "page.html", "page.js"]

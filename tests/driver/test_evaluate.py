"""driver.evaluate end to end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tevatron_distill.driver.evaluate import main
from tevatron_distill.schema import InputError


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels").write_text("q1 0 a 1\nq2 0 b 1\nq3 0 c 1\n")
    (tmp_path / "first.run").write_text("q1 x 2\nq1 a 1\nq2 b 1\nq2 x 0.5\n")
    (tmp_path / "second.tsv").write_text("q1\ta\t2\nq1\tx\t1\nq2\tb\t1\nq3\tx\t1\n")
    return tmp_path


def test_one_run_gives_one_aligned_line(files, capsys):
    main(["--qrels_path", "qrels", "--run_path", "first.run", "--measures", "RR@10", "R@1"])
    assert capsys.readouterr().out == (
        "run         RR@10     R@1\n"  # (1/2 + 1 + 0) / 3 and (0 + 1 + 0) / 3
        "first.run  0.5000  0.3333\n"
    )


def test_further_runs_are_tested_against_the_first(files, capsys):
    main(["--qrels_path", "qrels", "--run_path", "first.run", "second.tsv", "--measures", "RR@10"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["second.tsv", "0.6667"]
    assert lines[4].split()[:2] == ["against", "first.run"]
    # differences 1/2, 0, 0: mean 1/6, standard error 1/6, so t = 1 with two degrees of freedom
    assert lines[5].split() == ["second.tsv", "RR@10", "+0.1667", "+0.0000", "+0.5000", "0.42"]
    assert len({len(line) for line in lines[4:6]}) == 1


def test_queries_are_listed_on_demand_and_everything_goes_into_the_json(files, capsys):
    words = ["--qrels_path", "qrels", "--run_path", "first.run", "second.tsv", "--measures", "RR@10", "nDCG@10"]
    main([*words, "--per_query", "--output_path", "report.json"])
    assert ["q1", "RR@10", "0.5000", "1.0000"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    report = json.loads((files / "report.json").read_text())
    assert report["first.run"]["per_query"]["RR@10"] == {"q1": 0.5, "q2": 1.0, "q3": 0.0}
    assert report["second.tsv"]["against_first"]["RR@10"]["difference"] == pytest.approx(1 / 6)
    assert "against_first" not in report["first.run"]
    record = json.loads((files / "report.json.run_config.json").read_text())
    assert set(record["inputs"]) == {"qrels", "first.run", "second.tsv"}
    with pytest.raises(InputError, match="exists already"):
        main([*words, "--output_path", "report.json"])


def test_means_alone_stand_in_the_json_where_queries_are_not_asked_for(files):
    main(["--qrels_path", "qrels", "--run_path", "first.run", "--measures", "RR", "--output_path", "report.json"])
    report = json.loads((files / "report.json").read_text())
    assert report == {"first.run": {"mean": {"RR": 0.5}, "interval": {"RR": [0.0, 1.0]}}}  # of 1/2, 1 and 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--run_path", "first.run", "first.run"], "must name each run once"),
        (["--run_path", "missing.run"], "must be readable"),
        (["--run_path", "first.run", "--measures", "nonsense"], "a measure must be"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(files, words, message):
    with pytest.raises(InputError, match=message):
        main(["--qrels_path", "qrels", *words])


def test_as_a_program_it_prints_its_error_and_ends_with_status_one(files):
    command = [sys.executable, "-m", "tevatron_distill.driver.evaluate", "--qrels_path", "qrels", "--run_path", "none"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: none: the file must be readable")
    assert "Traceback" not in result.stderr


def blender_row(name, *texts_and_scores):
    candidates = [
        {"model": model, "decoding_method": "greedy", "text": "x", "scores": {"bart": bart, "bleu": bleu}}
        for model, bart, bleu in texts_and_scores
    ]
    return {"id": name, "instruction": "say", "input": "", "output": "gold", "candidates": candidates}


@pytest.fixture
def measured(files):
    rows = [
        blender_row("q1", ("m1", -3.0, 10.0), ("m2", -1.0, 30.0)),
        blender_row("q2", ("m1", -2.0, 20.0), ("m2", -4.0, 20.0)),
    ]
    (files / "blender.json").write_text(json.dumps(rows))
    (files / "blender.run").write_text("q1 m1/greedy 2\nq1 m2/greedy 1\nq2 m1/greedy 2\nq2 m2/greedy 1\n")
    return files


def test_candidates_with_metrics_are_measured_by_what_a_run_selects(measured, capsys):
    main(["--metrics_path", "blender.json", "--run_path", "blender.run", "--using_metrics", "bart"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:5] == [
        ["run", "bart"],
        ["blender.run", f"{(-3.0 - 2.0) / 2:.4f}"],
        ["oracle", f"{(-1.0 - 2.0) / 2:.4f}"],
        ["random", f"{(-2.0 - 3.0) / 2:.4f}"],
        ["best", "single", "(m1/greedy)", f"{(-3.0 - 2.0) / 2:.4f}"],
    ]
    assert lines[6:] == [["run", "Pearson", "Spearman", "footrule"], ["blender.run", "0.0000", "0.0000", "1.0000"]]


def test_judgements_and_metrics_stand_side_by_side(measured, capsys):
    (measured / "qrels").write_text("q1 0 m1/greedy 1\nq2 0 m1/greedy 1\n")
    words = ["--metrics_path", "blender.json", "--qrels_path", "qrels", "--run_path", "blender.run", "--measures", "RR"]
    main([*words, "--using_metrics", "bart,bleu", "--per_query", "--output_path", "report.json"])
    out = capsys.readouterr().out
    assert "1.0000" in out
    report = json.loads((measured / "report.json").read_text())
    assert report["blender.run"]["mean"] == {"RR": 1.0}
    chosen = report["selection"]["blender.run"]["mean"]
    assert chosen == pytest.approx({"bart": -2.5, "bleu": 15.0, "score": (-2.5 + 0.01 * 15.0) / 2})
    assert report["agreement"]["blender.run"]["mean"]["footrule"] == 1.0


def test_runs_are_compared_by_the_candidate_they_select(measured, capsys):
    (measured / "other.run").write_text("q1 m2/greedy 2\nq2 m1/greedy 2\n")
    main(["--metrics_path", "blender.json", "--run_path", "blender.run", "other.run", "--using_metrics", "bart"])
    out = capsys.readouterr().out
    assert "against blender.run" in out
    assert ["other.run", "bart", "+1.0000"] in [line.split()[:3] for line in out.splitlines()]


def test_groups_with_metrics_serve_as_well(measured, capsys):
    from tevatron_distill.driver.convert import main as convert

    convert(["--to", "groups", "--input", "blender.json", "--using_metrics", "bart", "--output", "groups.jsonl"])
    main(["--metrics_path", "groups.jsonl", "--run_path", "blender.run", "--using_metrics", "bleu"])
    assert ["oracle", "25.0000"] in [line.split() for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of --qrels_path"),
        (["--qrels_path", "qrels", "--using_metrics", "bart"], "--using_metrics is for --metrics_path"),
        (["--metrics_path", "blender.json"], "must say which metrics count; the candidates have bart, bleu"),
        (["--metrics_path", "blender.json", "--using_metrics", "rouge1"], "got rouge1, there are bart, bleu"),
    ],
)
def test_metrics_that_are_not_there_are_refused(measured, words, message):
    with pytest.raises(InputError, match=message):
        main(["--run_path", "blender.run", *words])


def test_a_filter_of_candidates_is_one_of_the_oracle_too(measured, capsys):
    (measured / "one.run").write_text("q1 m1/greedy 2\nq2 m1/greedy 2\n")
    main(
        [
            "--metrics_path",
            "blender.json",
            "--run_path",
            "one.run",
            "--using_metrics",
            "bart",
            "--candidate_model",
            "m1",
        ]
    )
    assert ["oracle", "-2.5000"] in [line.split() for line in capsys.readouterr().out.splitlines()]

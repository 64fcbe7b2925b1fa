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
    assert json.loads((files / "report.json").read_text()) == {"first.run": {"mean": {"RR": 0.5}}}


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

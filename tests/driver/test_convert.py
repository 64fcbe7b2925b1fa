"""driver.convert end to end."""

from __future__ import annotations

import json

import pytest

from tevatron_distill.driver.convert import main
from tevatron_distill.formats.runs import read_run
from tevatron_distill.schema import InputError

RUN = "q1\td2\t2.53125\nq1\tq1\t1.5\nq1\td1\t1.5\nq2\td1\t-1\n"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "run.tsv"
    path.write_text(RUN)
    return path


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--to", "trec"], "q1 Q0 d2 1 2.53125 tevatron_distill\nq1 Q0 q1 2 1.5 tevatron_distill\n"),
        (["--to", "marco"], "q1\td2\t1\nq1\tq1\t2\nq1\td1\t3\nq2\td1\t1\n"),
        (["--to", "tevatron", "--remove_query"], "q1\td2\t2.53125\nq1\td1\t1.5\nq2\td1\t-1.0\n"),
        ([], "q1 Q0 d2 1 2.53125 tevatron_distill\n"),
    ],
)
def test_a_run_becomes_the_columns_that_are_asked_for(source, tmp_path, flags, expected):
    output = tmp_path / "new"
    main(["--input", str(source), "--output", str(output), *flags])
    assert output.read_text().startswith(expected)
    assert json.loads((tmp_path / "new.run_config.json").read_text())["arguments"]["input"] == str(source)


def test_trec_and_back_keeps_every_order_and_tied_scores_are_parted(source, tmp_path):
    main(["--input", str(source), "--output", str(tmp_path / "trec")])
    main(["--input", str(tmp_path / "trec"), "--output", str(tmp_path / "back"), "--to", "tevatron"])
    before, after = read_run(source), read_run(tmp_path / "back")
    assert {query: list(scores) for query, scores in before.items()} == {q: list(s) for q, s in after.items()}
    assert after["q1"]["q1"] > after["q1"]["d1"]


def test_a_complete_output_is_not_written_over(source, tmp_path):
    output = tmp_path / "new"
    output.write_text("old")
    with pytest.raises(InputError, match="exists already"):
        main(["--input", str(source), "--output", str(output)])
    assert output.read_text() == "old"
    main(["--input", str(source), "--output", str(output), "--overwrite_output_dir"])
    assert output.read_text() != "old"


def test_an_unknown_kind_is_refused_from_a_file_of_flags_too(source, tmp_path):
    flags = tmp_path / "flags.json"
    flags.write_text(json.dumps({"input": str(source), "output": str(tmp_path / "new"), "to": "csv"}))
    with pytest.raises(InputError, match="--to must be one of tevatron, trec, marco"):
        main([str(flags)])

"""driver.convert end to end."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tevatron_distill.driver.convert import main
from tevatron_distill.formats.groups import read_groups
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
    assert json.loads((tmp_path / "new.run_config.json").read_text())["arguments"]["input"] == [str(source)]


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
    with pytest.raises(InputError, match=r"flags.json: to: .*'csv' .*tevatron.*parquet"):
        main([str(flags)])


@pytest.fixture
def rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, *rows):
        (tmp_path / name).write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
        return name

    return write


OPEN = {"query": "q", "positive": ["p"], "negative": ["n0", "n1"]}
TAUGHT = {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1.0], "neg_scores": [2.0]}


def test_rows_of_several_dialects_become_one_file_of_groups(rows, tmp_path, capsys):
    first, second = rows("open.jsonl", OPEN, OPEN), rows("flag.jsonl", TAUGHT)
    main(["--to", "groups", "--input", first, second, "--output", "groups.jsonl"])
    groups = read_groups("groups.jsonl")
    assert [group.query_id for group in groups] == ["1", "2", "3"]
    assert groups[2].permutation == (1, 0)
    assert capsys.readouterr().out == "3 groups from 3 rows, 0 rows left out: groups.jsonl\n"
    report = json.loads((tmp_path / "groups.jsonl.run_config.json").read_text())
    assert report["report"].pop("peak_memory_mib") > 0
    assert report["report"] == {"rows": 3, "groups": 3, "skipped": {}, "notes": {}}
    assert set(report["inputs"]) == {first, second}


def test_what_could_not_be_taken_is_counted_by_reason(rows, tmp_path, capsys, caplog):
    path = rows(
        "open.jsonl", OPEN, "{", {**OPEN, "positive": []}, {**OPEN, "query": " "}, OPEN, {**OPEN, "positive": []}
    )
    main(["--to", "groups", "--input", path, "--output", "groups.jsonl", "--max_skipped", "0.7"])
    assert "2 groups from 6 rows, 4 rows left out" in capsys.readouterr().out
    assert "skipped: positive must not be empty: 2 times (open.jsonl:3, open.jsonl:6)" in caplog.text
    skipped = json.loads((tmp_path / "groups.jsonl.run_config.json").read_text())["report"]["skipped"]
    assert sorted(skipped.values()) == [1, 1, 2]


def test_too_many_broken_rows_write_nothing(rows, tmp_path):
    path = rows("open.jsonl", OPEN, {**OPEN, "positive": []})
    with pytest.raises(
        InputError, match=r"1 of 2 rows break a rule, more than the share 0\.1(.|\n)*positive must not be"
    ):
        main(["--to", "groups", "--input", path, "--output", "groups.jsonl"])
    with pytest.raises(InputError, match=r"groups are needed; got none that fits\nskipped: query is empty: 1 times"):
        main(
            ["--to", "groups", "--input", rows("x.jsonl", {**OPEN, "query": ""}), "--output", "g", "--max_skipped", "1"]
        )
    assert not list(tmp_path.glob("g*"))


def test_permutations_stay_with_their_rows_when_a_row_is_left_out(rows, tmp_path):
    row = {"query": "q", "retrieved_passages": [{"docid": "a", "text": "x"}, {"docid": "b", "text": "y"}]}
    path = rows("data.jsonl", row, "{", {**row, "query": ""}, row)
    (tmp_path / "p.json").write_text('["1 > 2", "1 > 2", "1 > 2", "2 > 1"]')
    words = ["--to", "groups", "--input", path, "--permutation_path", "p.json", "--output", "g.jsonl"]
    main([*words, "--max_skipped", "0.5"])
    assert [(group.query_id, group.permutation) for group in read_groups("g.jsonl")] == [("1", (0, 1)), ("4", (1, 0))]


@pytest.fixture
def first_stage(rows):
    rows("corpus.jsonl", *({"_id": f"d{n}", "text": f"text {n}"} for n in range(6)))
    rows("queries.jsonl", *({"_id": f"q{n}", "text": f"query {n}"} for n in range(1, 5)))
    rows("run", "q1 d1 3", "q1 d2 2", "q1 d3 1", "q2 d1 1", "q3 d1 1", "q4 d1 2", "q4 d9 1")
    rows("qrels", "q1 0 d2 2", "q1 0 d5 1", "q1 0 d1 0", "q2 0 d1 1", "q4 0 d1 1")
    return ["--run_path", "run", "--qrels_path", "qrels", "--queries_path", "queries.jsonl", "--corpus_path"]


def test_a_run_with_judgements_and_texts_gives_hard_negatives(first_stage, tmp_path):
    words = ["--to", "groups", *first_stage, "corpus.jsonl", "--output", "g.jsonl", "--max_skipped", "0.25"]
    main([*words, "--depth", "2"])
    [group] = read_groups("g.jsonl")
    assert [passage.docid for passage in group.passages] == ["d1", "d2", "d5"]  # what the first stage missed is last
    assert (group.judgements, group.permutation, group.num_ranked) == ((0.0, 2.0, 1.0), (1, 2, 0), 2)
    report = json.loads((tmp_path / "g.jsonl.run_config.json").read_text())["report"]
    assert report["skipped"] == {'run: docid "…" of query_id "…" is not in the collection': 1}
    assert report["notes"] == {
        "queries whose passages are all equally relevant are left out": 1,
        "queries without a relevant passage are left out": 1,
    }


def test_candidates_and_judgements_make_groups_too(rows):
    texts = [{"query_id": "q", "query": "?", "docid": d, "text": d, "score": s} for d, s in (("a", 2), ("b", 1))]
    path, qrels = rows("rows.jsonl", *texts), rows("qrels", "q 0 b 1")
    main(["--to", "groups", "--input", path, "--qrels_path", qrels, "--output", "g.jsonl"])
    assert read_groups("g.jsonl")[0].permutation == (1, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "x"], "--output must name the new file"),
        (["--output", "o"], "--input must name one run; got 0"),
        (["--output", "o", "--input", "x", "y"], "--input must name one run; got 2"),
        (["--output", "o", "--to", "groups"], "needs either --input or --run_path; got neither"),
        (["--output", "o", "--to", "groups", "--run_path", "r", "--input", "x"], "got both"),
        (["--output", "o", "--to", "groups", "--run_path", "r"], "give --qrels_path and --queries_path and --corpus"),
        (["--output", "o", "--input", "x", "--using_metrics", "bleu"], "--using_metrics is for --to groups"),
        (["--output", "o", "--input", "x", "--qrels_path", "q"], "--qrels_path is for --to groups"),
        (["--output", "o", "--to", "groups", "--input", "x", "--depth", "0"], "--depth must be at least 1"),
        (["--output", "o", "--to", "groups", "--input", "x", "--max_skipped", "2"], "--max_skipped lie in 0..1"),
        (["--output", "o", "--to", "groups", "--input", "x", "y", "--teacher_run_path", "t"], "belong to one --input"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        main(words)


@pytest.mark.parametrize("driver", ["convert", "evaluate"])
def test_help_is_given_without_torch(driver):
    code = (
        f"import sys\nfrom tevatron_distill.driver.{driver} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, capture_output=True)

"""open-retrievals' and FlagEmbedding's rows, labelled pairs and lists, and the three-table layout."""

from __future__ import annotations

import gzip
import json
import logging

import pytest

from tevatron_distill.formats import FORMATS, load_candidates, load_groups
from tevatron_distill.formats.reading import ReadOptions, Tally, names_of
from tevatron_distill.schema import InputError, Passage

OPEN = {"query": "q", "positive": ["p0", {"title": "T", "text": "p1"}], "negative": ["n0", "n1"]}


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write_rows


def test_each_positive_can_make_a_group_of_its_own(write):
    groups = load_groups(write(OPEN, OPEN), options=ReadOptions(unfold_each_positive=True))
    assert [group.query_id for group in groups] == ["1-1", "1-2", "2-1", "2-2"]
    assert [[p.text for p in group.passages] for group in groups[:2]] == [["p0", "n0", "n1"], ["p1", "n0", "n1"]]
    assert groups[1].passages[0].title == "T"
    assert {group.judgements for group in groups} == {(1.0, 0.0, 0.0)}
    assert {group.num_ranked for group in groups} == {1}


def test_the_keys_of_a_row_may_be_named(write):
    row = {"question": "q", "good": "one text", "bad": ["n"], "positive": "not this"}
    options = ReadOptions(query_key="question", positive_key="good", negative_key="bad")
    [group] = load_groups(write(row), options=options)
    assert [passage.text for passage in group.passages] == ["one text", "n"]
    with pytest.raises(InputError, match="the row has no 'worse', which --negative_key names"):
        load_groups(write(row), options=ReadOptions(query_key="question", positive_key="good", negative_key="worse"))


def test_a_key_that_the_rows_lack_is_refused_unless_only_what_fits_is_asked_for(write):
    path = write({"query": "q", "pos": ["p"], "neg": ["n"]})
    with pytest.raises(InputError, match=r"--positive_key is for rows of open_retrievals; .* holds flagembedding rows"):
        load_groups(path, options=ReadOptions(positive_key="good"))
    assert load_groups(path, options=ReadOptions(positive_key="good", only_fitting=True)) == load_groups(path)
    [judged] = load_groups(path, options=ReadOptions(positive_key="pos", negative_key="neg"))
    assert judged.passages[0].docid == "1-pos0"


def test_a_positive_among_the_negatives_is_no_negative(write, caplog):
    with caplog.at_level(logging.WARNING):
        [group] = load_groups(write({**OPEN, "negative": ["p0", "n0", "n0"]}))
    assert [passage.text for passage in group.passages] == ["p0", "p1", "n0"]
    assert group.judgements == (1.0, 1.0, 0.0)
    assert "texts that stand twice under a query are left out: 2 times" in caplog.text


def test_scores_of_flagembedding_stay_with_their_texts_when_one_stands_twice(write):
    row = {"query": "q", "pos": ["p"], "neg": ["p", "n"], "pos_scores": [1.0], "neg_scores": [9.0, 2.0]}
    [group] = load_groups(write(row))
    assert (group.scores, group.permutation) == ((1.0, 2.0), (1, 0))


PAIRS = [
    {"query": "a", "document": "x", "label": 1},
    {"query": "b", "document": "x", "label": 0},
    {"query": "a", "document": "y", "label": 0},
    {"query": "a", "document": "x", "label": 1},
    {"query": "c", "document": "x", "label": 0},
]


def test_labelled_pairs_are_brought_together_by_their_query(write, caplog):
    rows = [*PAIRS, {"query": "b", "document": "z", "label": 2}]
    with caplog.at_level(logging.WARNING):
        first, second = load_groups(write(*rows))
    assert (first.query_id, [p.text for p in first.passages], first.judgements) == ("1", ["x", "y"], (1.0, 0.0))
    assert (second.query_id, second.permutation, second.num_ranked) == ("2", (1, 0), 1)
    assert "pairs that stand twice are taken once: 1 times" in caplog.text
    assert "queries whose labels are all equal are left out: 1 times" in caplog.text


@pytest.mark.parametrize("key", ["document", "passage", "text", "answer", "words of any kind"])
def test_the_text_of_a_pair_may_stand_under_any_name(write, key):
    rows = [
        {"query_id": 7, "_id": "row", "query": "a", key: text, "label": n, "docid": f"d{n}"}
        for n, text in enumerate("xy")
    ]
    [group] = load_groups(write(*rows))
    assert group.query_id == "7"
    assert group.passages == (Passage("d0", "x"), Passage("d1", "y"))
    assert group.permutation == (1, 0)


def test_labels_that_are_no_grades_are_a_teachers_scores(write):
    rows = [{"query": "a", "text": "x", "score": -1.5}, {"query": "a", "text": "y", "score": 2.25}]
    [group] = load_groups(write(*rows))
    assert (group.scores, group.judgements, group.permutation, group.num_ranked) == ((-1.5, 2.25), None, (1, 0), 2)


@pytest.mark.parametrize(
    "row",
    [
        {"query": "q", "docs": ["x", "y", "z"], "labels": [0, 1, 0]},
        {"labels": [0, 1, 0], "anchor": "q", "positive": ["x", "y", "z"]},
        {"question": "q", "answers": ["x", "y", "z"], "label": [0.0, 1.0, 0.0], "query_id": "1"},
    ],
)
def test_labelled_lists_are_judged_whatever_their_columns_are_called(write, row):
    [group] = load_groups(write(row))
    assert (group.query_id, group.query) == ("1", "q")
    assert [passage.text for passage in group.passages] == ["x", "y", "z"]
    assert (group.judgements, group.permutation, group.num_ranked) == ((0.0, 1.0, 0.0), (1, 0, 2), 1)
    [candidates] = load_candidates(write(row))
    assert [passage.text for passage in candidates.passages] == ["x", "y", "z"]


def test_scores_of_a_labelled_list_are_the_verdict(write):
    [group] = load_groups(write({"query": "q", "docs": ["x", "y"], "scores": [0.25, 0.5]}))
    assert (group.scores, group.judgements, group.permutation) == ((0.25, 0.5), None, (1, 0))


@pytest.fixture
def tables(write):
    queries = write({"query_id": 1, "text": "what"}, {"query_id": 2, "text": "who"}, name="queries.jsonl")
    corpus = write(*({"document_id": n, "text": f"t{n}" if n else ""} for n in range(4)), name="corpus.jsonl")
    return ReadOptions(queries_path=str(queries), corpus_path=str(corpus))


@pytest.mark.parametrize(
    "row",
    [
        {"query_id": 2, "document_ids": [3, 1, 2], "scores": [0.5, 0.25, 0.75]},
        {"query_id": "2", "document_ids": "[3, 1, 2]", "scores": "[0.5, 0.25, 0.75]"},
        {"query_id": 2, "corpus_id": ["3", "1", "2"], "score": [0.5, 0.25, 0.75]},
    ],
)
def test_three_tables_are_joined(write, tables, row):
    [group] = load_groups(write(row), options=tables)
    assert (group.query_id, group.query) == ("2", "who")
    assert group.passages == (Passage("3", "t3"), Passage("1", "t1"), Passage("2", "t2"))
    assert (group.scores, group.permutation) == ((0.5, 0.25, 0.75), (2, 0, 1))
    assert load_candidates(write(row), options=tables)[0].scores == (0.0, -1.0, -2.0)


def test_documents_without_score_or_text_are_left_out(write, tables, caplog):
    row = '{"query_id": 1, "document_ids": [0, 1, 2, 3], "scores": [1, 2, NaN, 3]}'
    with caplog.at_level(logging.WARNING):
        [group] = load_groups(write(row), options=tables)
    assert ([p.docid for p in group.passages], group.permutation) == (["1", "3"], (1, 0))
    assert "without a score are left out: 1 times" in caplog.text
    assert "without text are left out: 1 times" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query_id": 3, "document_ids": [1], "scores": [1]}, 'query_id "3" must stand in .*queries.jsonl'),
        ({"query_id": 1, "document_ids": [9], "scores": [1]}, 'docid "9" must stand in .*corpus.jsonl'),
        ({"query_id": 1, "document_ids": [1, 1], "scores": [1, 2]}, 'docid "1" stands twice'),
        ({"query_id": 1, "document_ids": [1, 2], "scores": [1]}, r"one number a document \(2\); got 1"),
        ({"query_id": 1, "document_ids": "[1", "scores": [1]}, "document_ids must be a list"),
        ({"query_id": 1, "document_ids": [1]}, "must hold scores to be learned from"),
        ({"query_id": 1, "document_ids": [0], "scores": [1]}, "a query needs candidates"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(write, tables, row, message):
    with pytest.raises(InputError, match=message):
        load_groups(write(row), options=tables)


def test_ids_alone_need_their_tables(write):
    with pytest.raises(InputError, match="three_tables rows hold ids alone; give their texts by --corpus_path"):
        load_groups(write({"query_id": 1, "document_ids": [1], "scores": [1]}))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**OPEN, "positive": []}], "positive must not be empty"),
        ([{**OPEN, "negative": [" "]}], "text is empty"),
        ([{**OPEN, "negative": [None]}], "a passage must be an object"),
        ([PAIRS[0], {**PAIRS[0], "label": 0}], "rows.jsonl:2: a text must have one label a query; got 0.0 after 1.0"),
        ([PAIRS[0], {**PAIRS[0], "label": None}], "rows.jsonl:2: a labelled pair must hold query, document and label"),
        ([{**PAIRS[0], "query_id": 1}, {**PAIRS[1], "query_id": 1}], 'query_id "1" must have one text'),
        (['{"query": "q", "text": "x", "label": NaN}'], "label must be a finite number"),
        ([{"query": "q", "docs": ["x"], "labels": [1, 0]}], r"labels must hold one number a text \(1\); got 2"),
        ([{"query": "q", "docs": ["x", "y"], "labels": [1, 0]}, {"query": "q", "docs": []}], "a labelled list must"),
        ([PAIRS[4]], "groups are needed; got none"),
    ],
)
def test_a_broken_row_is_refused_with_its_place(write, rows, message):
    with pytest.raises(InputError, match=message):
        load_groups(write(*rows))


def test_what_a_file_was_taken_for_is_said(write, caplog):
    with caplog.at_level(logging.INFO):
        load_groups(write(OPEN))
    assert "rows.jsonl: read as open_retrievals (query, positive, negative" in caplog.text


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "open_retrievals"])
def test_a_dialect_that_does_not_fit_is_refused(write, name):
    with pytest.raises(InputError, match=f"--dataset_format {name} needs rows of .*; got keys query, positive"):
        load_groups(write(OPEN), options=ReadOptions(dataset_format=name))


def test_an_option_that_the_rows_have_no_use_for_is_refused(write):
    with pytest.raises(InputError, match=r"--using_metrics is for rows of groups or llm_blender; .* holds open_r"):
        load_groups(write(OPEN), options=ReadOptions(using_metrics="bleu"))
    assert load_groups(write(OPEN), options=ReadOptions(using_metrics="bleu", only_fitting=True))


def test_only_the_first_queries_are_read_on_demand(write):
    path = write(OPEN, OPEN, OPEN)
    counts = [len(load_groups(path, options=ReadOptions(max_queries=size))) for size in (-1, 0, 1, 2, 9)]
    assert counts == [3, 3, 1, 2, 3]


def test_packed_files_and_folders_of_files_are_read(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    with gzip.open(folder / "a.jsonl.gz", "wt") as file:
        file.write(json.dumps(OPEN) + "\n")
    (folder / "b.json").write_text(json.dumps([{**OPEN, "query": "other"}]))
    (folder / "notes.txt").write_text("no rows")
    assert [group.query for group in load_groups(folder)] == ["q", "other"]
    assert load_groups(folder / "a.jsonl.gz") == load_groups(folder)[:1]


def test_a_torn_archive_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps(OPEN) + "\n").encode() * 99)[:60])
    with pytest.raises(InputError, match="the file must be readable"):
        load_groups(path)
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match="the file must be readable"):
        load_groups(path)


def test_a_tally_leaves_broken_rows_out_and_counts_them_by_reason(write):
    tally = Tally(skip=True)
    path = write("{", OPEN, {**OPEN, "positive": []}, [1], {**OPEN, "query": ""}, {**OPEN, "positive": []})
    [group] = load_groups(path, tally=tally)
    assert group.query_id == "2"  # named by its row
    assert {rule[:40]: len(places) for rule, places in tally.skipped.items()} == {
        "each line must be one JSON object": 1,
        "positive must not be empty": 2,
        "each row must be a JSON object": 1,
        "query is empty": 1,
    }
    assert (tally.num_rows, tally.num_skipped()) == (6, 5)


def test_blank_lists_of_names_are_none():
    assert (names_of(None), names_of(" , "), names_of("a,b ")) == ((), (), ("a", "b"))

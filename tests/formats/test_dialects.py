"""Every dialect of training rows and candidates is told by its first row and checked."""

from __future__ import annotations

import json
import logging

import datasets
import pytest

from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.formats.instructdistill import format_permutation, format_permutations, read_permutations
from tevatron_distill.schema import InputError, Passage

P = {name: {"docid": name, "title": "", "text": f"text {name}"} for name in "abcd"}
TEVATRON = {
    "query_id": "1",
    "query": "q",
    "positive_passages": [P["a"]],
    "negative_passages": [P["b"], {"docid": "c", "text": "untitled"}],
}
DISTILL = {"query": "q", "positive_passages": [P["b"]], "retrieved_passages": [P["a"], P["b"], P["c"]]}
ANNOTATED = {"query_id": "1", "query": "q", "passages": [{"title": "", "text": t} for t in "xyz"], "scores": [1, 3, 2]}
HITS = {
    "query": "q",
    "hits": [
        {"content": "text a", "qid": 7, "docid": "a", "rank": 1, "score": 9.5},
        {"content": "text b", "qid": 7, "docid": "b", "rank": 2, "score": 8.5},
        {"content": "text c", "qid": 7, "docid": "c", "rank": 3, "score": 7.5},
    ],
}
RERANK = {"query_id": "7", "query": "q", "docid": "a", "title": "", "text": "text a", "score": 9.5}
FLAG = {"query": "q", "pos": ["p"], "neg": ["n0", "n1"]}
OURS = {"query_id": "1", "query": "q", "passages": [P["a"], P["b"]], "permutation": [1, 0], "num_ranked": 2}


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_text(content)
        return path

    return write_file


def test_tevatron_rows_are_judged_positives_first(write):
    [group] = load_groups(write("train.jsonl", [TEVATRON]))
    assert [passage.docid for passage in group.passages] == ["a", "b", "c"]
    assert group.permutation == (0, 1, 2)
    assert group.num_ranked == 1
    assert group.judgements == (1.0, 0.0, 0.0)


def test_our_groups_are_told_by_their_permutation(write):
    [group] = load_groups(write("groups.jsonl", [OURS]))
    assert json.loads(group_to_line(group)) == OURS


def test_instructdistill_pairs_the_nth_row_with_the_nth_permutation(write):
    rows = write("data.jsonl", [DISTILL, DISTILL])
    first, second = load_groups(rows, permutation_path=write("p.json", '["3 > 1 > 2", "[2]"]'))
    assert (first.query_id, first.permutation, first.num_ranked) == ("1", (2, 0, 1), 3)
    assert (second.query_id, second.permutation, second.num_ranked) == ("2", (1, 0, 2), 1)
    assert first.judgements is None  # the permutation is the verdict


def test_instructdistills_rows_are_candidates_too(write):
    [candidates] = load_candidates(write("data.jsonl", [DISTILL]))
    assert [passage.docid for passage in candidates.passages] == [row["docid"] for row in DISTILL["retrieved_passages"]]
    assert candidates.scores == (0.0, -1.0, -2.0)


def test_written_permutations_read_back(toy_groups, tmp_path):
    path = tmp_path / "p.json"
    path.write_text(format_permutations(group.permutation for group in toy_groups))
    assert read_permutations(path) == [group.permutation for group in toy_groups]
    assert json.loads(path.read_text())[3] == format_permutation((1, 0)) == "2 > 1"


def test_annotated_rows_are_ordered_by_their_scores(write):
    [group] = load_groups(write("annotated.jsonl", [ANNOTATED]))
    assert group.permutation == (1, 2, 0)
    assert group.scores == (1.0, 3.0, 2.0)
    assert group.judgements is None  # the scores are the verdict
    assert len({passage.docid for passage in group.passages}) == 3


def test_a_missing_teacher_score_drops_its_passage_with_one_warning(write, caplog):
    text = json.dumps({**ANNOTATED, "scores": [float("nan"), 3, 2]}) + "\n"
    text += json.dumps({**ANNOTATED, "query_id": "2", "scores": [None] * 3}) + "\n"
    with caplog.at_level(logging.WARNING):
        [group] = load_groups(write("annotated.jsonl", text))
    assert [passage.text for passage in group.passages] == ["y", "z"]
    assert group.permutation == (0, 1)
    assert "passages without a score are left out: 4 times" in caplog.text
    assert "queries that keep no passage are left out: 1 times" in caplog.text


def test_a_save_to_disk_folder_of_annotated_rows_is_read(tmp_path):
    rows = datasets.Dataset.from_list([ANNOTATED])
    rows.save_to_disk(tmp_path / "plain")
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "splits")
    assert load_groups(tmp_path / "plain") == load_groups(tmp_path / "splits")
    assert load_groups(tmp_path / "plain")[0].permutation == (1, 2, 0)
    with pytest.raises(InputError, match="the split must be one of train; got 'dev'"):
        load_groups(tmp_path / "splits", dataset_split="dev")


def test_a_named_dataset_builder_is_read_with_its_files(write, tmp_path):
    path = write("annotated.jsonl", [ANNOTATED])
    plain = load_groups(path)
    rows = datasets.Dataset.from_list([ANNOTATED])
    rows.to_parquet(tmp_path / "a.parquet")
    named = load_groups(tmp_path / "a.parquet", dataset_name="parquet", dataset_cache_dir=str(tmp_path / "cache"))
    assert named == plain


@pytest.mark.parametrize("layout", [json.dumps([HITS]), json.dumps([HITS], indent=1), json.dumps(HITS) + "\n"])
def test_hits_and_a_teachers_run_make_groups(write, layout):
    [group] = load_groups(
        write("hits.json", layout), teacher_run_path=write("t.run", "7 Q0 c 1 3 t\n7 Q0 a 2 2 t\n7 Q0 b 3 1 t\n")
    )
    assert group.query_id == "7"
    assert group.passages[0] == Passage("a", "text a")
    assert group.permutation == (2, 0, 1)
    assert group.num_ranked == 3
    assert group.scores == (2.0, 1.0, 3.0)


def test_candidates_that_the_teachers_run_leaves_out_are_tied_behind(write):
    rows = [RERANK, {**RERANK, "docid": "b", "score": 8}, {**RERANK, "docid": "c", "score": 7}]
    [group] = load_groups(write("rows.jsonl", rows), teacher_run_path=write("t.run", "7 c 1.5\n"))
    assert (group.permutation, group.num_ranked, group.scores) == ((2, 0, 1), 1, None)
    assert group.ranks() == (2, 2, 1)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("7 x 1\n", r'docid "x" of query_id "7" is not among its 3 candidates'),
        ("7 a 1\n8 a 1\n", r'query_id "8" of the run has no row with texts'),
        ("8 a 1\n", r'query_id "8" of the run has no row with texts'),
    ],
)
def test_a_run_and_rows_that_disagree_are_refused(write, run, message):
    with pytest.raises(InputError, match=message):
        load_groups(write("hits.json", [HITS]), teacher_run_path=write("t.run", run))


def test_a_query_whose_candidates_the_run_does_not_have_is_refused(write):
    other = {**HITS, "hits": [{**hit, "qid": 8} for hit in HITS["hits"]]}
    with pytest.raises(InputError, match='query_id "8" has candidates but no line in the run'):
        load_groups(write("hits.json", [HITS, other]), teacher_run_path=write("t.run", "7 a 1\n"))


def test_flagembedding_rows_take_the_teachers_scores_where_there_are_some(write):
    scored = {**FLAG, "pos_scores": [0.5], "neg_scores": [0.1, 0.9]}
    bare, taught = load_groups(write("flag.jsonl", [FLAG, scored]))
    assert (bare.permutation, bare.num_ranked, bare.scores) == ((0, 1, 2), 1, None)
    assert (taught.permutation, taught.num_ranked, taught.scores) == ((2, 0, 1), 3, (0.5, 0.1, 0.9))
    assert (bare.judgements, taught.judgements) == ((1.0, 0.0, 0.0), None)


def test_open_retrievals_rows_may_hold_titles(write):
    row = {"query": "q", "positive": [{"title": "T", "text": "p"}], "negative": ["n"]}
    [group] = load_groups(write("rows.jsonl", [row]))
    assert group.passages[0] == Passage("1-positive0", "p", "T")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**TEVATRON, "positive_passages": []}, "positive_passages of query_id .1. must not be empty"),
        ({**TEVATRON, "negative_passages": [P["a"]]}, 'docid "a" stands twice'),
        ({**TEVATRON, "negative_passages": [{"docid": "x", "text": ""}]}, "text is empty"),
        ({**TEVATRON, "query": ""}, "query is empty"),
        ({**ANNOTATED, "scores": [1.0]}, r"scores must hold one number a passage \(3\); got 1"),
        ({**ANNOTATED, "scores": [1, 2, "x"]}, r"scores\[2\] must be a finite number"),
        ({**ANNOTATED, "passages": [], "scores": []}, "a query needs candidates"),
        ({**FLAG, "pos": []}, "pos must not be empty"),
        ({**FLAG, "pos_scores": [1.0], "neg_scores": [1.0]}, r"neg_scores must hold one number a passage \(2\)"),
        ({"text": "loose"}, "rows must be of a known dialect"),
        (RERANK, "rerank_rows rows hold no verdict; give it by --teacher_run_path"),
        (HITS, "rank_llm rows hold no verdict; give it by --teacher_run_path"),
        (DISTILL, "instructdistill rows hold no verdict; give it by --permutation_path"),
    ],
)
def test_a_row_that_breaks_its_dialects_rule_is_refused(write, row, message):
    with pytest.raises(InputError, match=message):
        load_groups(write("rows.jsonl", [row]))


@pytest.mark.parametrize("row", [TEVATRON, ANNOTATED, OURS])
def test_a_query_that_stands_twice_is_refused_in_every_dialect(write, row):
    with pytest.raises(InputError, match=r'jsonl:2: query_id "1" must stand once'):
        load_groups(write("rows.jsonl", [row, row]))


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ('["3 > 1 > 1"]', r"a permutation must name passages of 1\.\.3, each once; got .3 > 1 > 1."),
        ('["4 > 1"]', r"a permutation must name passages of 1\.\.3, each once"),
        ('["0 > 1"]', r"a permutation must name passages of 1\.\.3, each once"),
        ('["three"]', "a permutation must be a string such as"),
        ("[3]", "a permutation must be a string such as"),
        ("[]", "one permutation a row is needed; got 0"),
        ('["1", "2"]', "one permutation a row is needed; got 2 for 1 rows"),
        ('{"1": "2"}', "must be a JSON list"),
        ("[", "must be one JSON text"),
    ],
)
def test_a_broken_permutation_file_is_refused(write, permutations, message):
    with pytest.raises(InputError, match=message):
        load_groups(write("data.jsonl", [DISTILL]), permutation_path=write("p.json", permutations))


def test_side_files_that_would_not_be_used_are_refused(write):
    rows = write("train.jsonl", [TEVATRON])
    with pytest.raises(InputError, match="--permutation_path is for rows of instructdistill"):
        load_groups(rows, permutation_path=write("p.json", '["1"]'))
    with pytest.raises(
        InputError, match="--teacher_run_path is for rows of rank_llm or rank_llm_requests or rerank_rows"
    ):
        load_groups(rows, teacher_run_path=write("t.run", "1 a 1\n"))


def test_candidates_come_from_rows_hits_and_groups(write):
    [rows] = load_candidates(write("rows.jsonl", [RERANK]))
    [hits] = load_candidates(write("hits.json", [HITS]))
    [group] = load_candidates(write("groups.jsonl", [OURS]))
    assert rows.scores == (9.5,)
    assert hits.scores == (9.5, 8.5, 7.5)
    assert [passage.docid for passage in group.passages] == ["a", "b"]
    assert group.scores == (0.0, -1.0)
    with pytest.raises(InputError, match=r"candidates must be rows of one of these kinds .*; got tevatron rows"):
        load_candidates(write("train.jsonl", [TEVATRON]))
    with pytest.raises(InputError, match="rows are needed"):
        load_candidates(write("empty.jsonl", []))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**HITS, "hits": []}, "a query needs candidates; 'q' has no hits"),
        ({**HITS, "hits": [HITS["hits"][0], {**HITS["hits"][1], "qid": 8}]}, "must have one qid; got 7, 8"),
        ({**HITS, "hits": [HITS["hits"][0]] * 2}, 'docid "a" stands twice'),
        ({**HITS, "hits": [{**HITS["hits"][0], "content": " "}]}, "content is empty"),
        ({**HITS, "hits": ["a"]}, "a hit must be an object"),
    ],
)
def test_broken_hits_are_refused(write, row, message):
    with pytest.raises(InputError, match=message):
        load_candidates(write("hits.json", [row]))


def test_a_query_with_two_lists_of_hits_is_refused(write):
    with pytest.raises(InputError, match='query_id "7" must stand once'):
        load_candidates(write("hits.json", json.dumps([HITS, HITS])))


def test_a_dataset_that_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(InputError, match="no dataset of this name could be loaded"):
        load_groups(tmp_path / "missing.parquet", dataset_name="parquet")
    with pytest.raises(InputError, match="--dataset_path or --dataset_name"):
        load_groups(None)


@pytest.mark.data
def test_the_shipped_teacher_runs_fit_the_shipped_candidates(data_dir):
    folder = data_dir / "rank_llm"
    for retrieved in sorted((folder / "retrieve_results").glob("*/retrieve_results_dl20.json")):
        [run] = (folder / "rerank_results" / retrieved.parent.name).glob("output_*_4096_100_*dl20_*")
        groups = load_groups(retrieved, teacher_run_path=run)
        assert len(groups) == 54
        assert {group.num_ranked for group in groups} == {100}

"""What is written reads back as itself, whatever is in the texts; whatever bytes are read, our own error or a value."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tevatron_distill.formats import load_groups
from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.conversations import read_prompt
from tevatron_distill.formats.groups import group_to_line, read_groups, write_groups
from tevatron_distill.formats.jsonl import MAX_DEPTH, finite, parse_json, read_json_rows
from tevatron_distill.formats.parquet import group_rows, write_parquet
from tevatron_distill.formats.parts import Parts
from tevatron_distill.formats.provenance import describe_groups
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.reading import ReadOptions
from tevatron_distill.formats.rerank_input import read_candidates, write_candidates_lines
from tevatron_distill.formats.runs import format_run_lines, read_run, write_run
from tevatron_distill.schema import Candidates, Group, InputError, Passage

BOM = "\ufeff"
NASTY = st.sampled_from(
    ["\0", "\x1c", "\x85", "\u2028", "\u2029", BOM, "\t", "\n", "\r\n", '"', "\\", "😀", "\x7f", "{}"]
)
TEXTS = st.lists(NASTY | st.text(max_size=5), max_size=5).map("".join)
NAMES = TEXTS.filter(str.strip)
NUMBERS = st.floats(-1e6, 1e6)
MANY = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def refusal(do):
    """The message of our own error; None without it."""
    try:
        do()
    except InputError as error:
        return str(error)
    return None


@st.composite
def groups(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    passages = tuple(Passage(name, draw(NAMES), draw(TEXTS)) for name in names)
    size = len(names)
    values = st.none() | st.lists(NUMBERS, min_size=size, max_size=size).map(tuple)
    return Group(
        draw(NAMES),
        draw(NAMES),
        passages,
        tuple(draw(st.permutations(range(size)))),
        draw(st.integers(0, size)),
        scores=draw(values),
        judgements=draw(values),
        preferences=draw(st.none() | st.just(((0, size - 1, 0.25),) if size > 1 else ())),
        teacher=draw(st.none() | st.dictionaries(TEXTS, TEXTS | NUMBERS | st.none(), max_size=2)),
        metrics=draw(st.none() | st.dictionaries(NAMES, values.filter(bool), max_size=2)),
        reference=draw(st.none() | NAMES),
    )


LISTS = st.lists(groups(), min_size=1, max_size=3, unique_by=lambda group: group.query_id)


@MANY
@given(LISTS)
def test_written_groups_read_back_plain_packed_marked_and_with_carriage_returns(tmp_path, written):
    path = tmp_path / "groups.jsonl"
    write_groups(path, written, overwrite=True)
    data = path.read_bytes()
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(data))
    (tmp_path / "marked.jsonl").write_bytes(BOM.encode() + data)
    (tmp_path / "windows.jsonl").write_bytes(data.replace(b"\n", b"\r\n"))
    for name in ("groups.jsonl", "packed.jsonl.gz", "marked.jsonl", "windows.jsonl"):
        assert read_groups(tmp_path / name) == written


@settings(MANY, max_examples=8)
@given(groups())
def test_a_group_goes_through_parquet(tmp_path, group):
    path = tmp_path / "groups.parquet"
    plain = replace(group, teacher=None, metrics=None, preferences=group.preferences or None)
    write_parquet(path, group_rows([plain]), overwrite=True)
    assert load_groups(path) == [plain]


@MANY
@given(LISTS)
def test_written_candidates_read_back(tmp_path, lists):
    candidates = [
        Candidates(group.query_id, group.query, group.passages, tuple(-float(n) for n in range(len(group.passages))))
        for group in lists
    ]
    path = tmp_path / "rows.jsonl"
    path.write_bytes("".join(f"{line}\n" for line in write_candidates_lines(candidates)).encode())
    assert read_candidates(path) == candidates


@MANY
@given(NAMES, st.dictionaries(NAMES, NUMBERS, min_size=1, max_size=4), st.sampled_from(["tevatron", "trec"]))
def test_a_written_run_reads_back_in_its_order_or_is_refused(tmp_path, query_id, scores, fmt):
    path = tmp_path / "run.txt"
    said = refusal(lambda: write_run(path, {query_id: scores}, fmt, overwrite=True))
    if said:
        assert "a run has no room for white space, NUL or byte-order marks" in said
        return
    [(name, found)] = read_run(path).items()
    assert name == query_id
    assert list(found) == sorted(scores, key=lambda docid: -scores[docid])


READERS = {
    "rows": lambda path: list(read_json_rows(path)),
    "groups": read_groups,
    "any": load_groups,
    "run": read_run,
    "qrels": read_qrels,
    "passages": read_passages,
    "queries": read_queries,
}


@pytest.mark.parametrize("ending", [".jsonl", ".tsv", ".jsonl.gz", ".tsv.gz", ".parquet"])
@pytest.mark.parametrize("name", READERS)
@settings(MANY, max_examples=8)
@given(data=st.binary(max_size=60) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_a_value_or_our_error_with_the_file(tmp_path, name, ending, data):
    path = tmp_path / f"file{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith(".gz") and len(data) % 2 else data)
    assert str(path) in (refusal(lambda: READERS[name](path)) or str(path))


ROW = {"query_id": "q", "query": "who?", "passages": [{"docid": "a", "text": "x"}], "permutation": [0]}
HALF = "\ud83d"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_id": HALF}, "query_id must be valid Unicode"),
        ({"passages": [{"docid": HALF, "text": "x"}]}, "docid must be valid Unicode"),
        ({"teacher": {"name": HALF}}, "teacher must be what can be written"),
        ({"teacher": {"name": float("nan")}}, "teacher must be what can be written"),
        ({"metrics": {HALF: [1]}}, "metric must be valid Unicode"),
        ({"scores": [10**400]}, r"scores\[0\] must be a finite number"),
    ],
)
def test_what_could_not_be_written_again_is_refused_with_its_line(tmp_path, change, message):
    path = tmp_path / "groups.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (ROW, {**ROW, "query_id": "r", **change})))
    with pytest.raises(InputError, match=rf"groups\.jsonl:2: {message}"):
        read_groups(path)


def test_half_a_surrogate_pair_is_not_written(tmp_path):
    group = Group("q", HALF, (Passage("a", "x"),), (0,), 1)
    with pytest.raises(InputError, match=r"groups\.jsonl: what is written must be valid Unicode"):
        write_groups(tmp_path / "groups.jsonl", [group])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), "7" * 5000])
def test_json_that_python_itself_cannot_hold_is_refused_with_its_line(tmp_path, text):
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 1}}\n{{"a": {text}}}\n')
    with pytest.raises(InputError, match=r"rows\.jsonl:2: each line must be one JSON object"):
        list(read_json_rows(path))


def test_json_may_be_nested_as_deep_as_is_said():
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    assert parse_json('["]]]]", {"a": []}]') == ["]]]]", {"a": []}]
    assert [finite(value) for value in (1, 2.5, -(10**400), float("inf"), None, True)] == [1.0, 2.5, *[None] * 4]


def test_a_packed_table_of_passages_is_read(tmp_path):
    path = tmp_path / "corpus.tsv.gz"
    path.write_bytes(gzip.compress(b"a\ttitle\ttext\n"))
    assert read_passages(path) == [Passage("a", "text", "title")]


def test_a_judgement_with_an_empty_column_is_refused(tmp_path):
    path = tmp_path / "qrels.tsv"
    path.write_text("q\ta\t1\n\ta\t1\n")
    with pytest.raises(InputError, match=r"qrels\.tsv:2: a column is empty"):
        read_qrels(path)


@pytest.mark.parametrize("name", ["\ufeffq", "a\0"])
def test_a_name_that_would_not_read_back_is_no_name_of_a_run(name):
    with pytest.raises(InputError, match="no room for white space, NUL or byte-order marks"):
        format_run_lines(name, [("d", 1.0)])


def test_a_teachers_count_that_is_none_counts_nothing():
    group = Group("q", "?", (Passage("d", "text"),), (0,), 1, teacher={"name": "x", "answers": "many"})
    assert describe_groups([group])["teachers"] == [{"name": "x", "groups": 1, "answers": 0}]


@pytest.mark.parametrize(
    "head",
    [
        '{"run": 1, "share": [0, 2]}',
        '{"run": {}, "share": [0]}',
        '{"run": {}}',
        '{"run": {}, "share": [0, 2]}\n{"run": {}, "share": [0, 2]}',
        '{"run": {}, "share": [0, 2]}\n{"block": 0, "bytes": -1, "crc32": 0}',
        '{"run": {}, "share": [0, 2]}\n{"end": []}',
        "[" * 5000,
    ],
)
def test_a_spoilt_part_is_called_corrupt(tmp_path, head):
    (tmp_path / "00000-of-00002.part").write_text(f"{head}\n")
    with pytest.raises(InputError, match=r"\.part: entry \d.* unfinished output must hold what a run has written"):
        Parts(tmp_path)


def test_a_part_whose_block_is_longer_than_the_file_is_torn(tmp_path):
    head = '{"run": {"arguments": {}, "inputs": {}}, "share": [0, 2]}\n'
    (tmp_path / "00000-of-00002.part").write_text(f'{head}{{"block": 0, "bytes": {10**18}, "crc32": 0}}\n')
    [part] = Parts(tmp_path).parts
    assert (part.blocks, part.size) == ({}, len(head))


def blended(**change):
    scored = [{"model": m, "text": m, "scores": {"rouge1": 1e308, "rouge2": 1e308, "rougeLsum": 1}} for m in "ab"]
    return {"id": "q", "instruction": "say", "candidates": scored, **change}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (blended(), "metrics must be numbers whose sum is finite"),
        (blended(cmp_results={"a,b": ["A is better"]}), "a verdict must be one of"),
        (blended(cmp_results="[" * 5000), "cmp_results must be JSON"),
        ({"query_id": "q", "doc_ids": "{[]: 1}", "scores": [1]}, "doc_ids must be a list"),
        ({"query_id": "q", "doc_ids": "[" * 5000, "scores": [1]}, "doc_ids must be a list"),
        ({"query_id": "q", "doc_ids": "-" * 100_000 + "1", "scores": [1]}, "doc_ids must be a list"),
    ],
)
def test_values_that_broke_a_dialect_are_refused(tmp_path, row, message):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (tmp_path / "texts.tsv").write_text("q\ttext\n")
    texts = str(tmp_path / "texts.tsv")
    options = {"queries_path": texts, "corpus_path": texts} if "doc_ids" in row else {}
    with pytest.raises(InputError, match=message):
        load_groups(tmp_path / "rows.jsonl", options=ReadOptions(**options))


def test_a_parquet_row_of_a_metric_that_others_have_reads_back(tmp_path):
    one, other = (
        Group(name, "?", (Passage("d", "text"),), (0,), 1, metrics={metric: (1.0,)})
        for name, metric in (("q", "rouge"), ("r", "bleu"))
    )
    write_parquet(tmp_path / "g.parquet", group_rows([one, other]))
    assert load_groups(tmp_path / "g.parquet") == [one, other]
    assert [group_to_line(group) for group in load_groups(tmp_path / "g.parquet")] == list(
        map(group_to_line, (one, other))
    )


LONG = 1 << 20
NUM_CANDIDATES = 60_000
MANY_CANDIDATES = [{"model": str(n), "text": "x", "scores": {f"m{n}": 1}} for n in range(NUM_CANDIDATES)]
MANY_VERDICTS = {f"{n},{n + 1}": "A is better" for n in range(NUM_CANDIDATES)}


# Quadratic, each of these takes longer than a test may
def test_many_candidates_with_measures_and_verdicts_of_their_own_take_linear_time(tmp_path):
    row = {**blended(), "candidates": MANY_CANDIDATES, "cmp_results": MANY_VERDICTS}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    [group] = load_groups(tmp_path / "rows.jsonl")
    assert len(group.preferences) == NUM_CANDIDATES - 1


@pytest.mark.parametrize("filler", ["\n", " \n", "\nSearch Query: x", "\n[1] ", "Rank the "])
def test_a_long_prompt_takes_linear_time(filler):
    prompt = f"Rank 1 passages, relevance to query: who?\n\n[1] one{filler * (LONG // len(filler))}"
    window = read_prompt("here:1", f"{prompt}\nSearch Query: who?.\nRank the 1 passages above")
    assert window.texts[0].startswith("one")
    with pytest.raises(InputError, match='must say "Search Query'):
        read_prompt("here:1", prompt.replace("Rank the ", "rank ").replace("Search", "search"))

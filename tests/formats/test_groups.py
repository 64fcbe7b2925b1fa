"""groups.jsonl: what is written reads back, and what breaks a rule is refused with its place."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.formats.groups import group_to_line, parse_group, read_groups
from tevatron_distill.schema import Group, InputError, Passage

PASSAGES = [{"docid": str(number), "title": "", "text": f"text {number}"} for number in range(5)]
ROW = {"query_id": "q12", "query": "what", "passages": PASSAGES, "permutation": [3, 1, 2, 0, 4], "num_ranked": 5}


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows):
        path = tmp_path / "groups.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write_rows


@st.composite
def any_group(draw):
    size = draw(st.integers(1, 6))
    numbers = st.one_of(st.none(), st.tuples(*[st.floats(-1e6, 1e6)] * size))
    pairs = [(i, j) for i in range(size) for j in range(i)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    text = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda value: value.strip())
    return Group(
        query_id=draw(text),
        query=draw(text),
        passages=tuple(Passage(f"d{n}", draw(text), draw(st.sampled_from(["", "T"]))) for n in range(size)),
        permutation=tuple(draw(st.permutations(range(size)))),
        num_ranked=draw(st.integers(0, size)),
        scores=draw(numbers),
        preferences=draw(st.sampled_from([None, tuple((i, j, draw(st.floats(0, 1))) for i, j in chosen)])),
        judgements=draw(numbers),
        teacher=draw(st.sampled_from([None, {"name": "pairwise", "sort": "allpair"}])),
        metrics=draw(st.sampled_from([None, {"rouge1": tuple(draw(st.floats(0, 1)) for _ in range(size))}])),
        reference=draw(st.one_of(st.none(), text)),
    )


@given(any_group())
def test_a_written_group_reads_back(group):
    line = group_to_line(group)
    assert "\n" not in line
    assert parse_group("here:1", json.loads(line)) == group


def test_the_ranked_places_are_the_whole_group_where_the_row_does_not_say(write):
    row = {key: value for key, value in ROW.items() if key != "num_ranked"}
    assert read_groups(write(row))[0].num_ranked == len(PASSAGES)


def test_a_repeated_position_in_a_permutation_is_refused(write):
    path = write(ROW, {**ROW, "query_id": "q13", "permutation": [3, 1, 1, 0, 4]})
    with pytest.raises(InputError) as caught:
        read_groups(path)
    assert str(caught.value) == (
        f'{path}:2: permutation must list each of 0..4 once; got [3, 1, 1, 0, 4] (query_id "q13"); '
        "teach this query again"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"permutation": [0, 1, 2, 3, 5]}, "permutation must list each of 0..4 once"),
        ({"permutation": [0, 1, 2, 3]}, "permutation must list each of 0..4 once"),
        ({"permutation": "3 > 1"}, "permutation must be a list"),
        ({"passages": []}, 'a query needs candidates; query_id "q12" has none'),
        ({"passages": None}, "passages must be a list"),
        ({"passages": ["text"] * 5}, "a passage must be an object"),
        ({"passages": [PASSAGES[0]] * 5}, 'docid "0" stands twice under query_id "q12"'),
        ({"passages": [*PASSAGES[:4], {"docid": "9", "text": ""}]}, "text is empty"),
        ({"passages": [*PASSAGES[:4], {"text": "nameless"}]}, "docid must be a string"),
        ({"query": "  "}, "query is empty"),
        ({"num_ranked": 6}, r"num_ranked must be an integer in 0\.\.5; got 6"),
        ({"num_ranked": True}, "num_ranked must be an integer"),
        ({"scores": [1.0]}, r"scores must hold one number a passage \(5\); got 1"),
        ({"scores": [1, 2, 3, 4, float("nan")]}, r"scores\[4\] must be a finite number; got nan"),
        ({"judgements": [0, 1, 0, 1, "2"]}, r"judgements\[4\] must be a finite number"),
        ({"preferences": [[0, 1, 0.5], [1, 0, 0.5]]}, r"preferences must name a pair once; got \(0, 1\) again"),
        ({"preferences": [[0, 0, 0.5]]}, "a preference must be"),
        ({"preferences": [[0, 5, 0.5]]}, "a preference must be"),
        ({"preferences": [[0, 1, 1.5]]}, "a preference must be"),
        ({"preferences": [[0, 1]]}, "a preference must be"),
        ({"preferences": ["0 1"]}, "a preference must be"),
        ({"preferences": [[0, 1, float("nan")]]}, "finite number"),
        ({"teacher": "llm"}, "teacher must be an object"),
    ],
)
def test_a_group_that_breaks_a_rule_is_refused_with_file_and_line(write, change, message):
    with pytest.raises(InputError, match=r"groups\.jsonl:1: .*" + message):
        read_groups(write({**ROW, **change}))


def test_a_query_that_stands_twice_is_refused(write):
    with pytest.raises(InputError, match=r'jsonl:2: query_id "q12" must stand once; it stands at .*jsonl:1'):
        read_groups(write(ROW, ROW))


def test_a_malformed_line_is_refused_with_file_and_line(write):
    with pytest.raises(InputError, match=r"groups\.jsonl:3: each line must be one JSON object; got '{\"query_id\"'"):
        read_groups(write(ROW, "", '{"query_id"'))


def test_an_empty_file_holds_no_groups(write):
    with pytest.raises(InputError, match="groups are needed"):
        read_groups(write())

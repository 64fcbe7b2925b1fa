"""RankLLM's conversations: prompts are read back into passages, orders into verdicts, whatever is wrong with them."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.conversations import _passage, read_prompt
from tevatron_distill.prompts import LIST_PROMPTS
from tevatron_distill.schema import InputError, Passage


def prompt(query, texts, letters=False, kind="numerical"):
    """RankZephyr's published user turn."""
    names = [chr(ord("A") + n) if letters else str(n + 1) for n in range(len(texts))]
    lines = "".join(f"[{name}] {text}\n" for name, text in zip(names, texts, strict=True))
    return (
        f"I will provide you with {len(texts)} passages, each indicated by a {kind} identifier []. Rank the passages "
        f"based on their relevance to the search query: {query}.\n\n{lines}\nSearch Query: {query}.\n"
        f"Rank the {len(texts)} passages above based on their relevance to the search query. All the passages should "
        "be included and listed using identifiers, in descending order of relevance. The output format should be "
        "[] > [], e.g., [2] > [1], Answer concisely and directly and only respond with the ranking results, do not "
        "say any word or explain."
    )


def row(texts, order, query="who", name="q1", letters=False):
    turns = ["You are RankLLM", prompt(query, texts, letters), order]
    roles = ("system", "human", "gpt")
    return {"id": name, "conversations": [{"from": r, "value": v} for r, v in zip(roles, turns, strict=True)]}


@pytest.fixture
def write(tmp_path):
    def write_rows(*rows, array=False):
        path = tmp_path / ("rows.json" if array else "rows.jsonl")
        path.write_text(json.dumps(rows) if array else "".join(json.dumps(one) + "\n" for one in rows))
        return path

    return write_rows


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize(("letters", "order"), [(False, "[3] > [1] > [2]"), (True, "[C] > [A] > [B]")])
def test_numbers_and_letters_give_the_same_group(write, letters, order, array):
    [group] = load_groups(write(row(["a", "b", "c"], order, letters=letters), array=array))
    assert (group.query_id, group.query) == ("q1", "who")
    assert [passage.text for passage in group.passages] == ["a", "b", "c"]
    assert (group.permutation, group.num_ranked) == ((2, 0, 1), 3)


def test_the_place_of_a_turn_is_its_role_and_not_what_it_is_called(write):
    one = row(["a", "b"], "[2] > [1]")
    for turn in one["conversations"]:
        turn["from"] = "human"
    assert load_groups(write(one))[0].permutation == (1, 0)


words = st.text(st.sampled_from("ab. >(3)\n"), min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.data())
def test_a_written_conversation_reads_back(data):
    letters = data.draw(st.booleans())
    texts = data.draw(st.lists(words, min_size=1, max_size=26 if letters else 40))
    query = data.draw(st.text(st.sampled_from("abc ?."), min_size=1, max_size=9).map(str.strip).filter(bool))
    window = read_prompt("here:1", prompt(query, texts, letters))
    assert window.texts == tuple(texts)
    assert window.query.rstrip(". ") == query.rstrip(". ")
    assert window.letters == letters
    assert not window.doubtful


@pytest.mark.parametrize("name", [name for name, one in LIST_PROMPTS.items() if one.replies is None])
def test_a_group_written_by_a_prompt_of_ours_reads_back(write, toy_groups, name):
    written = LIST_PROMPTS[name]
    rows = []
    for group in toy_groups:
        texts = [written.passage_text(passage) for passage in group.passages]
        turns = [text for _, text in written.render(group.query, texts, is_encoder_decoder=False).turns]
        turns = [*([] if len(turns) == 2 else [""]), *turns, written.answer_text(group.permutation)]
        rows.append({"id": group.query_id, "conversations": [{"from": "", "value": turn} for turn in turns]})
    for group, again in zip(toy_groups, load_groups(write(*rows)), strict=True):
        assert (again.query_id, again.query, again.permutation) == (group.query_id, group.query, group.permutation)
        assert [passage.text for passage in again.passages] == [
            written.passage_text(passage) for passage in group.passages
        ]


def test_hundreds_of_digits_are_out_of_range_and_no_crash(write):
    [group] = load_groups(write(row(["a", "b"], f"[{'7' * 5000}] > [2] > [1]")))
    assert group.permutation == (1, 0)


def test_a_query_keeps_its_own_full_stop():
    assert read_prompt("here:1", prompt("what is the U.S.", ["a", "b"])).query == "what is the U.S."


def test_numbers_are_not_bound_to_an_alphabet(write):
    order = " > ".join(f"[{n}]" for n in range(30, 0, -1))
    [group] = load_groups(write(row([f"text {n}" for n in range(30)], order)))
    assert group.permutation == tuple(range(29, -1, -1))


def test_a_passage_may_hold_lines_and_what_looks_like_an_identifier():
    texts = ["one\n\nmore", "see [3] and [1]", "third", "as said\n[2] before", "[5] [x]\n[12] far"]
    window = read_prompt("here:1", prompt("q", texts))
    assert window.texts == tuple(texts)
    assert not window.doubtful


def test_a_line_like_the_next_identifier_is_called_doubtful(write, caplog):
    with caplog.at_level(logging.WARNING):
        load_groups(write(row(["one\n[2] not yet", "two", "three"], "[3] > [1] > [2]")))
    assert "may be cut wrongly: 1 times" in caplog.text
    assert "rows.jsonl:1" in caplog.text


def test_a_title_that_the_prompt_spells_out_is_a_title_again():
    assert _passage("d", "Title: T t Content: words") == Passage("d", "words", "T t")


@pytest.mark.parametrize(
    ("order", "permutation", "num_ranked", "note"),
    [
        ("[B] > [C]", (1, 2, 0), 2, "leave out passages"),
        ("[C] > [C] > [A] > [B]", (2, 0, 1), 3, "repeat an identifier"),
        ("[C] > [Z] > [A] > [B]", (2, 0, 1), 3, "name what the prompt does not show"),
        ("[C] > [note] > [A] > [B]", (2, 0, 1), 3, "name what the prompt does not show"),
        ("<think>[A] > [B]?</think>[C] > [B] > [A]", (2, 1, 0), 3, None),
        ("A good list: [C] > [A] > [B]", (2, 0, 1), 3, None),  # a stray capital is no candidate
        ("C > A > B", (2, 0, 1), 3, None),
        ("[c] > [a] > [b]", (2, 0, 1), 3, None),
    ],
)
def test_a_faulty_order_is_repaired_and_told_with_its_row(write, caplog, order, permutation, num_ranked, note):
    with caplog.at_level(logging.WARNING):
        [group] = load_groups(write(row(["a", "b", "c"], order, letters=True)))
    assert (group.permutation, group.num_ranked) == (permutation, num_ranked)
    assert (note is None) == (caplog.text == "")
    if note is not None:
        assert note in caplog.text
        assert "rows.jsonl:1" in caplog.text


def test_a_passage_without_text_is_left_out_of_the_verdict_too(write, caplog):
    with caplog.at_level(logging.WARNING):
        [group] = load_groups(write(row(["a", "", "c"], "[2] > [3] > [1]")))
    assert [passage.text for passage in group.passages] == ["a", "c"]
    assert group.permutation == (1, 0)
    assert "passages without text are left out: 1 times" in caplog.text


def test_several_samples_of_one_query_get_names_of_their_own(write):
    groups = load_groups(write(row(["a", "b"], "[1] > [2]"), row(["b", "c", "d"], "[3] > [1] > [2]")))
    assert [group.query_id for group in groups] == ["q1", "q1#2"]


def test_a_prompt_alone_gives_candidates(write):
    one = row(["a", "b"], "")
    [candidates] = load_candidates(write({**one, "conversations": one["conversations"][:2], "docids": [7, 9]}))
    assert [passage.docid for passage in candidates.passages] == ["7", "9"]
    assert candidates.scores == (0.0, -1.0)


def broken(turn, value):
    one = row(["a", "b"], "[1] > [2]")
    one["conversations"][turn]["value"] = value
    return one


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (broken(2, "I cannot say"), r"rows.jsonl:1: the teacher's turn must order the prompt's passages"),
        (broken(2, "A is a good one"), "the teacher's turn must order"),
        (broken(2, ""), "value is empty"),
        (broken(1, prompt("q", ["a", "b"]).replace("[2] b", "b")), r"\[2\] is missing"),
        (broken(1, "no list"), r"\[1\] is missing"),
        (broken(1, prompt("q", ["a", "b"]).partition("Search")[0]), "behind its passages a prompt must say"),
        (broken(1, prompt("", ["a", "b"])), "must name its query"),
        (broken(1, prompt("q", ["", ""])), "a query needs candidates"),
        ({**broken(1, "x"), "conversations": [{"value": "s"}]}, "must hold system, human and gpt turns; got 1"),
        ({**broken(1, "x"), "conversations": ["s", "h", "g"]}, "a turn must be an object"),
    ],
)
def test_a_row_that_is_no_conversation_is_refused_with_its_place(write, one, message):
    with pytest.raises(InputError, match=message):
        load_groups(write(one))


@pytest.mark.data
def test_the_recorded_prompts_read_back_into_the_retrieved_passages(data_dir):
    folder = data_dir / "rank_llm"
    [log] = (folder / "prompts_and_responses" / "BM25").glob("*.json")
    retrieved = load_candidates(folder / "retrieve_results" / "BM25" / "retrieve_results_dl20.json")
    records = json.loads(f"[{log.read_text().strip().rstrip(',')}]")
    for record, candidates in zip(records, retrieved, strict=True):
        window = read_prompt("log", record["prompt"])
        assert len(window.texts) == 20
        assert window.query == candidates.query.strip()
        same = [t[:40] == p.text.strip()[:40] for t, p in zip(window.texts, candidates.passages, strict=False)]
        assert sum(same) >= 15  # the prompts' texts were cleaned on the way

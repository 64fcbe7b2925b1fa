from __future__ import annotations

import dataclasses
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.prompts import LIST_PROMPTS, TEACHER_PROMPTS
from tevatron_distill.schema import Passage

SHOWN = ("why", ["one", "two"])
ORDER = (
    "Search Query: why.\nRank the 2 passages above based on their relevance to the search query. All the passages "
    "should be included and listed using identifiers, in descending order of relevance. The output format should be "
    "[] > [], e.g., "
)
ZEPHYR_END = "Answer concisely and directly and only respond with the ranking results, do not say any word or explain."
RANK_LLM = "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"


def turns(name):
    return LIST_PROMPTS[name].render(*SHOWN, is_encoder_decoder=False).turns


def test_the_prompt_of_rankgpt_is_the_published_talk_to_the_letter():
    assert turns("rank_gpt") == (
        (
            "system",
            "You are RankGPT, an intelligent assistant that can rank passages based on their relevancy to the query.",
        ),
        (
            "user",
            "I will provide you with 2 passages, each indicated by number identifier []. \n"
            "Rank the passages based on their relevance to query: why.",
        ),
        ("assistant", "Okay, please provide the passages."),
        ("user", "[1] one"),
        ("assistant", "Received passage [1]."),
        ("user", "[2] two"),
        ("assistant", "Received passage [2]."),
        (
            "user",
            "Search Query: why. \nRank the 2 passages above based on their relevance to the search query. The passages "
            "should be listed in descending order using identifiers. The most relevant passages should be listed "
            "first. The output format should be [] > [], e.g., [1] > [2]. Only response the ranking results, do not "
            "say any word or explain.",
        ),
    )


def test_the_prompt_of_rank_vicuna_is_that_of_its_logs_to_the_letter():
    text = LIST_PROMPTS["rank_vicuna"].render(*SHOWN, is_encoder_decoder=False).text()
    assert text == (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
        "detailed, and polite answers to the user's questions. USER: I will provide you with 2 passages, each "
        "indicated by a numerical identifier []. Rank the passages based on their relevance to the search query: "
        f"why.\n\n[1] one\n[2] two\n{ORDER}[4] > [2], Only respond with the ranking results, do not say any word or "
        "explain.  ASSISTANT:"
    )


@pytest.mark.data
def test_a_recorded_prompt_is_rendered_again_to_the_letter(data_dir):
    [log] = (data_dir / "rank_llm" / "prompts_and_responses" / "BM25").iterdir()
    text = log.read_text(encoding="utf-8")
    prompt = json.JSONDecoder().raw_decode(text, text.index("{"))[0]["prompt"]
    query = re.search(r"the search query: (.*?)\.\n\n", prompt)[1]
    passages = re.findall(r"^\[\d+\] (.*)$", prompt, re.MULTILINE)
    example = re.search(r"e\.g\., (.*?), Only", prompt)[1]
    rendered = LIST_PROMPTS["rank_vicuna"].render(query, passages, is_encoder_decoder=False).text()
    assert rendered.replace("[4] > [2]", example) == prompt


@pytest.mark.parametrize(
    ("name", "kind", "ids", "example"),
    [("rank_zephyr", "a numerical", "12", "[2] > [1]"), ("rank_zephyr_alpha", "an alphabetical", "AB", "[B] > [A]")],
)
def test_the_prompts_of_rank_zephyr_are_the_published_ones_to_the_letter(name, kind, ids, example):
    assert turns(name) == (
        ("system", RANK_LLM),
        (
            "user",
            f"I will provide you with 2 passages, each indicated by {kind} identifier []. Rank the passages based on "
            f"their relevance to the search query: why.\n\n[{ids[0]}] one\n[{ids[1]}] two\n{ORDER}{example}, "
            f"{ZEPHYR_END}",
        ),
    )


@pytest.mark.parametrize("name", LIST_PROMPTS)
def test_nothing_in_a_text_looks_like_an_identifier_and_braces_are_no_fields(name):
    prompt = LIST_PROMPTS[name]
    text = prompt.passage_text(Passage("1", "see [12] and [B], {query} [x]", "On [3]"))
    assert text == "On (3) see (12) and (B), {query} [x]"
    wording = prompt.render("what is [7] {passage}", [text, "two"], is_encoder_decoder=False)
    assert "what is (7) {passage}" in wording.user
    assert any("{query} [x]" in turn for _, turn in wording.turns)


@pytest.mark.parametrize("name", LIST_PROMPTS)
def test_a_passage_has_three_hundred_words_with_its_title(name):
    text = LIST_PROMPTS[name].passage_text(Passage("1", "word " * 400, "A title"))
    assert text.split() == ["A", "title", *["word"] * 298]


def test_identifiers_do_not_end_at_twenty_six():
    assert LIST_PROMPTS["rank_zephyr_alpha"].identifiers(28)[25:] == ("Z", "AA", "AB")
    assert LIST_PROMPTS["rank_zephyr"].identifiers(100)[-1] == "100"


@pytest.mark.parametrize("name", LIST_PROMPTS)
@given(data=st.data(), num_passages=st.integers(1, 60))
def test_a_proper_answer_is_read_as_the_order_it_was_written_from(name, data, num_passages):
    prompt = LIST_PROMPTS[name]
    order = tuple(data.draw(st.permutations(range(num_passages))))
    assert prompt.parse(prompt.answer_text(order), num_passages) == (order, num_passages, ())
    assert prompt.answer_text(order).startswith(prompt.answer_prefix)
    assert len(prompt.longest_answer(num_passages)) == len(prompt.answer_text(order))


@pytest.mark.parametrize("name", LIST_PROMPTS)
@given(text=st.text(alphabet="[]1234567890ABCZ> ,.a\n", max_size=80), num_passages=st.integers(1, 20))
def test_any_answer_gives_an_order_of_all_passages(name, text, num_passages):
    order, num_named, problems = LIST_PROMPTS[name].parse(text, num_passages)
    assert sorted(order) == list(range(num_passages))
    assert list(order[num_named:]) == sorted(order[num_named:])
    assert ("missing" in problems) == (num_named < num_passages)


def published_repair(text, num_passages):
    """RankGPT's receive_permutation and clean_response, as published."""
    named = [int(digits) - 1 for digits in "".join(c if c.isdigit() else " " for c in text).split()]
    unique = list(dict.fromkeys(named))
    kept = [position for position in unique if position in range(num_passages)]
    return tuple(kept + [position for position in range(num_passages) if position not in kept])


@given(text=st.text(alphabet="[]1234567890> ,aA\n", max_size=80), num_passages=st.integers(1, 20))
def test_numbers_are_repaired_as_published(text, num_passages):
    for name in ("rank_gpt", "rank_vicuna", "rank_zephyr"):
        assert LIST_PROMPTS[name].parse(text, num_passages).order == published_repair(text, num_passages)


@pytest.mark.parametrize(
    ("text", "order", "problems"),
    [
        ("[2] > [1] > [3]", (1, 0, 2), ()),
        ("[2]>[1]>[3]", (1, 0, 2), ()),
        ("2 > 1 > 3", (1, 0, 2), ("wrong_format",)),
        ("[2] > [2] > [1] > [3]", (1, 0, 2), ("repetition",)),
        ("[3]", (2, 0, 1), ("missing",)),
        ("[3] > [9] > [1] > [2]", (2, 0, 1), ("out_of_range",)),
        ("[0] > [3] > [1] > [2]", (2, 0, 1), ("out_of_range",)),
        ("I am sorry.", (0, 1, 2), ("wrong_format", "missing")),
        ("<think>[1] > [2]? no, [3]</think>[3] > [2] > [1]", (2, 1, 0), ()),
        ("9" * 5000, (0, 1, 2), ("wrong_format", "missing", "out_of_range")),
    ],
)
def test_what_was_repaired_is_named(text, order, problems):
    parsed = LIST_PROMPTS["rank_zephyr"].parse(text, 3)
    assert (parsed.order, parsed.problems) == (order, problems)


@pytest.mark.parametrize(
    ("text", "order", "num_named"),
    [
        ("[B] > [A] > [C]", (1, 0, 2), 3),
        ("B > A > C", (1, 0, 2), 3),
        ("C, A, B.", (2, 0, 1), 3),
        ("A ranking of the passages: [C] > [B] > [A]", (2, 1, 0), 3),
        ("A ranking cannot be given.", (0, 1, 2), 0),
        ("Sure! Passage B is better. I prefer it.", (0, 1, 2), 0),
        ("Error 401: Unauthorized. A valid key is needed", (0, 1, 2), 0),
    ],
)
def test_a_letter_in_prose_is_no_passage(text, order, num_named):
    parsed = LIST_PROMPTS["rank_zephyr_alpha"].parse(text, 3)
    assert (parsed.order, parsed.num_named) == (order, num_named)
    assert bool(parsed.problems) == (not text.startswith("[B]"))


def test_the_first_bracket_is_put_into_the_mouth_where_logits_are_asked():
    prompt = dataclasses.replace(LIST_PROMPTS["rank_zephyr_alpha"], answer="choice")
    wording = prompt.render(*SHOWN, is_encoder_decoder=False)
    assert (wording.prefix, wording.gap, prompt.labels(2)) == ("[", "", ("A", "B"))
    assert prompt.longest_answer(2) == ""
    assert LIST_PROMPTS["rank_zephyr_alpha"].render(*SHOWN, is_encoder_decoder=False).prefix == ""


@pytest.mark.parametrize(
    ("teacher", "name"), [(teacher, name) for teacher, prompts in TEACHER_PROMPTS.items() for name in prompts]
)
def test_a_prompt_goes_by_its_key(teacher, name):
    assert TEACHER_PROMPTS[teacher][name].name == name

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.prompts import PAIR_PROMPTS, SET_PROMPTS
from tevatron_distill.schema import InputError, Passage

PRP_T5 = (
    'Question: Given a query "why", which of the following two passages is more relevant to the query?\n\n'
    "passage A: one\n\npassage B: two\n\n"
    "Output the identifier of the more relevant passage. The answer must be passage A or passage B.\nAnswer:"
)
PRP_CAUSAL = (
    "### System:\nYou are a pairwise passage ranker that can judge which passages is more relevant to the query.\n\n"
    '### User:\nGiven a query "why", which of the following two passages is more relevant to the query?\n\n'
    "Passage A: one\n\nPassage B: two\n\n"
    "Output the identifier of the more relevant passage. The answer must be Passage A or Passage B.\n\n"
    "### Assistant:\nThe more relevant passage is Passage"
)
LLM_RANKERS = (
    'Given a query "why", which of the following two passages is more relevant to the query?\n\n'
    'Passage A: "one"\n\nPassage B: "two"\n\nOutput Passage A or Passage B:'
)


def test_the_pairwise_prompts_are_the_published_ones_to_the_letter():
    ours, theirs = PAIR_PROMPTS["instructdistill"], PAIR_PROMPTS["llm_rankers"]
    shown = ("why", ["one", "two"])
    t5 = ours.render(*shown, is_encoder_decoder=True)
    assert (t5.text(), t5.prefix) == (PRP_T5, "passage")
    causal = ours.render(*shown, is_encoder_decoder=False)
    assert causal.text() + causal.prefix == PRP_CAUSAL
    t5 = theirs.render(*shown, is_encoder_decoder=True)
    assert (t5.text(), t5.prefix) == (LLM_RANKERS, "Passage")
    causal = theirs.render(*shown, is_encoder_decoder=False)
    assert causal.text() + causal.prefix == LLM_RANKERS + " Passage:"


def test_the_wordings_of_one_message_hold_the_system_part_too():
    wording = PAIR_PROMPTS["instructdistill"].render("why", ["one", "two"], is_encoder_decoder=False)
    [message] = wording.messages(keep_system=False)
    whole = PRP_CAUSAL.split("\n\n### Assistant:")[0].replace("### System:\n", "").replace("### User:\n", "")
    assert message == {"role": "user", "content": whole}
    assert [turn["role"] for turn in wording.messages()] == ["system", "user"]


@pytest.mark.parametrize("name", PAIR_PROMPTS)
@pytest.mark.parametrize("is_encoder_decoder", [True, False])
def test_braces_in_a_query_or_a_passage_are_text(name, is_encoder_decoder):
    wording = PAIR_PROMPTS[name].render("{a} {b}", ["{b} {query}", "{system}"], is_encoder_decoder=is_encoder_decoder)
    for literal in ("{a} {b}", "{b} {query}", "{system}"):
        assert literal in wording.text()


def test_the_title_is_rendered_before_the_words_are_cut():
    passage = Passage("1", " ".join(["word"] * 200), "A title")
    text = PAIR_PROMPTS["instructdistill"].passage_text(passage)
    assert text == "Title: A title Content: " + " ".join(["word"] * (100 - 4))
    text = PAIR_PROMPTS["llm_rankers"].passage_text(passage)
    assert text == "A title " + " ".join(["word"] * (100 - 2))


def test_the_prompt_of_duot5_is_the_published_one_to_the_letter():
    for is_encoder_decoder in (True, False):
        wording = PAIR_PROMPTS["duot5"].render("why", ["one", "two"], is_encoder_decoder=is_encoder_decoder)
        assert wording.text() == "Query: why Document0: one Document1: two Relevant: "
        assert wording.prefix == ""
    assert PAIR_PROMPTS["duot5"].labels(2) == ("true", "false")


def test_the_setwise_prompt_is_the_published_one_to_the_letter():
    prompt = SET_PROMPTS["llm_rankers"]
    text = (
        'Given a query "why", which of the following passages is the most relevant one to the query?\n\n'
        'Passage A: "one"\n\nPassage B: "two"\n\nPassage C: "three"\n\n'
        "Output only the passage label of the most relevant passage:"
    )
    shown = ("why", ["one", "two", "three"])
    t5, causal = (prompt.render(*shown, is_encoder_decoder=kind) for kind in (True, False))
    assert (t5.text(), t5.prefix) == (text, "Passage")
    assert causal.text() + causal.prefix == text + " Passage:"
    assert prompt.labels(3) == ("A", "B", "C")


def test_a_set_has_up_to_twenty_three_labels_and_a_pair_has_two():
    prompt = SET_PROMPTS["llm_rankers"]
    assert prompt.labels(23) == tuple("ABCDEFGHIJKLMNOPQRSTUVW")
    with pytest.raises(InputError, match=r"--prompt llm_rankers shows up to 23 passages under A\.\.W; got 24"):
        prompt.labels(24)
    for number in (1, 3):
        with pytest.raises(InputError, match=rf"shows 2 passages under A\.\.B; got {number}"):
            PAIR_PROMPTS["instructdistill"].render("why", ["text"] * number, is_encoder_decoder=True)


@pytest.mark.parametrize(
    ("text", "best", "problems"),
    [
        ("B", 1, ()),
        (" B", 1, ()),
        ("Passage C", 2, ()),
        ("passage C: it says so", 2, ()),
        ("[B]", 1, ()),
        ('"A"', 0, ()),
        ("**Passage B**", 1, ()),
        ("A.", 0, ()),
        ("B\n\nBecause a dog is no cat.", 1, ()),
        ("<think>Passage A is long. A or B?</think>\n\nC", 2, ()),
        ("The most relevant one is Passage B, as A says nothing.", 1, ()),
        ("A passage about cats would be best.", None, ("wrong_format",)),
        ("I cannot tell.", None, ("wrong_format",)),
        ("A cat sat on it", None, ("wrong_format",)),
        ("", None, ("wrong_format",)),
        ("Passage D", None, ("out_of_range",)),
    ],
)
def test_a_generated_label_is_found_and_an_article_is_none(text, best, problems):
    parsed = dataclasses.replace(SET_PROMPTS["llm_rankers"], answer="text").parse(text, 3)
    assert parsed.problems == problems
    assert parsed.num_named == (best is not None)
    rest = [place for place in range(3) if place != best]
    assert parsed.order == (tuple(range(3)) if best is None else (best, *rest))


@given(text=st.text(max_size=60), num_passages=st.integers(1, 23))
def test_whatever_is_generated_gives_an_order_of_all_passages(text, num_passages):
    parsed = SET_PROMPTS["llm_rankers"].parse(text, num_passages)
    assert sorted(parsed.order) == list(range(num_passages))
    assert parsed.num_named in (0, 1)
    assert bool(parsed.problems) == (parsed.num_named == 0)


def test_the_longest_answer_is_a_label_where_one_is_generated():
    prompt = SET_PROMPTS["llm_rankers"]
    assert prompt.longest_answer(4) == ""
    generating = dataclasses.replace(prompt, answer="text")
    assert generating.parse(generating.longest_answer(4), 4).order == (3, 0, 1, 2)

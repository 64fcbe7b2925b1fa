from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.prompts import (
    PAIR_PROMPTS,
    PASSAGE_STYLES,
    STUDENT_PROMPTS,
    cut_words,
    render_passage,
)
from tevatron_distill.schema import Passage

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


def test_the_student_prompt_is_the_published_one_to_the_letter():
    prompt = STUDENT_PROMPTS["instructdistill"]
    assert "".join(prompt.split("why", Passage("1", "because of it"))) == (
        "Predict whether the given passage answer the question.\n\nQuestion: why\n\nPassage: because of it\n\n"
        "Does the passage answer the question?"
    )
    [turn] = prompt.render("why", ["because"], is_encoder_decoder=True).turns
    assert turn == ("user", "".join(prompt.split("why", Passage("1", "because"))))
    assert prompt.split("why", Passage("1", "because"))[1] == "because"


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
    assert "{passage}" in "".join(STUDENT_PROMPTS["instructdistill"].split("{passage}", Passage("1", "{query}")))


def test_the_title_is_rendered_before_the_words_are_cut():
    passage = Passage("1", " ".join(["word"] * 200), "A title")
    text = PAIR_PROMPTS["instructdistill"].passage_text(passage)
    assert text == "Title: A title Content: " + " ".join(["word"] * (100 - 4))
    text = PAIR_PROMPTS["llm_rankers"].passage_text(passage)
    assert text == "A title " + " ".join(["word"] * (100 - 2))


@pytest.mark.parametrize("style", PASSAGE_STYLES)
def test_a_passage_without_a_title_is_its_plain_text(style):
    assert render_passage(Passage("1", " some\n text "), style) == "some text"


@given(st.text(alphabet="ab ,.é\t\n", max_size=60), st.integers(0, 12))
def test_cutting_text_with_spaces_is_cutting_at_spaces(text, max_words):
    assert cut_words(text, max_words) == " ".join(text.split()[:max_words])


@given(st.text(max_size=60), st.integers(0, 12))
def test_a_cut_text_is_a_beginning_of_the_text_and_cutting_again_changes_nothing(text, max_words):
    cut = cut_words(text, max_words)
    assert " ".join(text.split()).startswith(cut)
    assert cut_words(cut, max_words) == cut


@pytest.mark.parametrize(
    ("text", "max_words", "expected"),
    [
        ("我们喜欢读书。他也是", 6, "我们喜欢读书。"),
        ("これはペンです", 4, "これはペ"),
        ("BM25算法 works", 2, "BM25算"),
        ("BM25算法 works", 4, "BM25算法 works"),
        ("书" * 300, 100, "书" * 100),
        ("한국어 문장 하나", 2, "한국어 문장"),
    ],
)
def test_text_without_spaces_is_cut_too(text, max_words, expected):
    assert cut_words(text, max_words) == expected

from __future__ import annotations

import dataclasses

import pytest

from tevatron_distill.prompts import POINT_PROMPTS, STUDENT_PROMPTS
from tevatron_distill.schema import Passage

QWEN3 = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: why\n<Document>: because<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
PUBLISHED = {
    "llm_rankers_yes_no": "Passage: because\nQuery: why\nDoes the passage answer the query? Answer 'Yes' or 'No'",
    "llm_rankers_qlm": "Passage: because\nPlease write a question based on this passage.",
    "monot5": "Query: why Document: because Relevant: ",
    "qwen3_reranker": QWEN3,
    "bge_gemma": (
        "A: why\nB: because\nGiven a query A and a passage B, determine whether the passage contains an answer to the "
        "query by providing a prediction of either 'Yes' or 'No'."
    ),
}
LABELS = {
    "llm_rankers_yes_no": ("Yes", "No"),
    "llm_rankers_qlm": ("",),
    "monot5": ("true", "false"),
    "qwen3_reranker": ("yes", "no"),
    "bge_gemma": ("Yes",),
}


def test_the_student_prompt_is_the_published_one_to_the_letter():
    prompt = STUDENT_PROMPTS["instructdistill"]
    assert "".join(prompt.split("why", Passage("1", "because of it"))) == (
        "Predict whether the given passage answer the question.\n\nQuestion: why\n\nPassage: because of it\n\n"
        "Does the passage answer the question?"
    )
    [turn] = prompt.render("why", ["because"], is_encoder_decoder=True).turns
    assert turn == ("user", "".join(prompt.split("why", Passage("1", "because"))))
    assert prompt.split("why", Passage("1", "because"))[1] == "because"


@pytest.mark.parametrize("name", POINT_PROMPTS)
@pytest.mark.parametrize("is_encoder_decoder", [True, False])
def test_the_pointwise_prompts_are_the_published_ones_to_the_letter(name, is_encoder_decoder):
    wording = POINT_PROMPTS[name].render("why", ["because"], is_encoder_decoder=is_encoder_decoder)
    assert wording.text() + wording.prefix == PUBLISHED[name]
    assert POINT_PROMPTS[name].labels(1) == LABELS[name]


def test_the_instruction_of_qwen3_can_be_another():
    prompt = dataclasses.replace(POINT_PROMPTS["qwen3_reranker"], instruction="Find a proof")
    wording = prompt.render("why", ["because"], is_encoder_decoder=False)
    assert wording.user == "<Instruct>: Find a proof\n<Query>: why\n<Document>: because"
    assert wording.framed


@pytest.mark.parametrize("name", POINT_PROMPTS)
def test_braces_in_a_query_or_a_passage_are_no_fields(name):
    wording = POINT_PROMPTS[name].render("{passage}", ["{query} {system}"], is_encoder_decoder=False)
    assert "{query} {system}" in wording.text()
    assert "{passage}" in "".join(STUDENT_PROMPTS["instructdistill"].split("{passage}", Passage("1", "{query}")))


def test_only_the_likelihood_prompt_has_a_target():
    assert {name: prompt.target("why") for name, prompt in POINT_PROMPTS.items() if prompt.target("why")} == {
        "llm_rankers_qlm": "why"
    }
    assert all(prompt.longest_answer(1) == "" for prompt in POINT_PROMPTS.values())


def test_a_point_prompt_shows_one_passage_and_reads_no_text():
    with pytest.raises(ValueError, match="unpack"):
        POINT_PROMPTS["monot5"].render("why", ["one", "two"], is_encoder_decoder=True)
    with pytest.raises(ValueError, match="answered by numbers"):
        POINT_PROMPTS["monot5"].parse("true", 1)

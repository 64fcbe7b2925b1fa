from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tevatron_distill.engines import ENGINES, WHO_ANSWERS, Request, SimilarityEngine
from tevatron_distill.prompts import LIST_PROMPTS, PAIR_PROMPTS, POINT_PROMPTS, SET_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage

PROMPT = PAIR_PROMPTS["instructdistill"]
CANDIDATES = Candidates(
    "q1",
    "the cat sat",
    (Passage("a", "red green blue"), Passage("b", "the cat sat on the mat and looked"), Passage("c", "dog", "one")),
    (9.0, 2.0, 1.0),
)


def ask_about(i, j, candidates=CANDIDATES):
    return Request(
        PROMPT, candidates, (i, j), tuple(PROMPT.passage_text(candidates.passages[position]) for position in (i, j))
    )


def plain_cosines(folder, candidates):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32)
    vectors = []
    for text in [candidates.query, *(PROMPT.passage_text(passage) for passage in candidates.passages)]:
        with torch.no_grad():
            vector = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        vectors.append(vector / np.linalg.norm(vector))
    return np.array(vectors[1:]) @ vectors[0]


def z(values):
    return (np.array(values) - np.mean(values)) / np.std(values)


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_an_answer_is_the_mixed_z_scores_over_the_temperature(bert_folder, weight, temperature):
    engine = SimilarityEngine(str(bert_folder), similarity_weight=weight, similarity_temperature=temperature)
    worth = weight * z(plain_cosines(bert_folder, CANDIDATES)) + (1 - weight) * z(CANDIDATES.scores)
    [answer] = engine.answer([ask_about(2, 0)])
    assert answer == pytest.approx((worth[2] / temperature, worth[0] / temperature), abs=1e-4)


def test_both_orders_of_a_pair_agree(bert_folder):
    engine = SimilarityEngine(str(bert_folder))
    forward, backward = engine.answer([ask_about(0, 1), ask_about(1, 0)])
    assert forward == backward[::-1]


def test_each_text_is_encoded_once(bert_folder):
    engine = SimilarityEngine(str(bert_folder), batch_tokens=1)
    other = replace(CANDIDATES, query_id="q2", query="red", passages=CANDIDATES.passages[1:], scores=(1.0, 2.0))
    engine.answer([ask_about(0, 1), ask_about(1, 2), ask_about(0, 1, other)])
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    texts = {
        CANDIDATES.query,
        other.query,
        *(PROMPT.passage_text(passage) for passage in CANDIDATES.passages),
    }
    assert engine.num_tokens == sum(len(ids) for ids in tokenizer(sorted(texts))["input_ids"])


def test_a_prepared_run_answers_the_same_wherever_it_begins(bert_folder):
    others = [replace(CANDIDATES, query_id=f"q{n}", query=f"{'cat ' * n}") for n in range(2, 9)]
    asked = [ask_about(0, 1, candidates) for candidates in [CANDIDATES, *others]]
    engines = [SimilarityEngine(str(bert_folder), batch_tokens=40) for _ in range(2)]
    for engine in engines:
        engine.prepare([CANDIDATES, *others], PROMPT, 2)
    forward = engines[0].answer(asked)
    backward = engines[1].answer(asked[::-1])[::-1]
    assert forward == backward


def test_equal_first_stage_scores_count_for_nothing(bert_folder):
    level = replace(CANDIDATES, scores=(0.3, 0.3, 0.3))
    engine = SimilarityEngine(str(bert_folder), similarity_weight=0.5)
    worth = 0.5 * z(plain_cosines(bert_folder, level))
    assert engine.answer([ask_about(0, 1, level)])[0] == pytest.approx((worth[0], worth[1]), abs=1e-4)


def test_the_answer_depends_on_all_candidates_and_so_does_its_key(bert_folder):
    engine = SimilarityEngine(str(bert_folder))
    fewer = CANDIDATES.top(2)
    assert engine.key_text(ask_about(0, 1)) == engine.key_text(ask_about(0, 1))
    assert engine.key_text(ask_about(0, 1)) != engine.key_text(ask_about(0, 1, fewer))
    assert engine.key_text(ask_about(0, 1)) != engine.key_text(ask_about(1, 0))
    identities = {SimilarityEngine(str(bert_folder), similarity_weight=w).identity for w in (0.1, 0.2)}
    assert len(identities) == 2


def test_an_encoder_decoder_is_refused(t5_folder):
    with pytest.raises(InputError, match=r"needs a sentence encoder; .* use --engine hf"):
        SimilarityEngine(str(t5_folder))


def test_a_decoder_without_pad_token_can_stand_in(make_folder):
    from conftest import build_causal

    engine = SimilarityEngine(str(make_folder(build_causal, "llama", pad=None)))
    assert len(engine.answer([ask_about(0, 1)])[0]) == 2


def ask_about_all(prompt, positions):
    return Request(
        prompt,
        CANDIDATES,
        positions,
        tuple(prompt.passage_text(CANDIDATES.passages[position]) for position in positions),
    )


@pytest.mark.parametrize(
    ("prompt", "positions"),
    [
        (POINT_PROMPTS["llm_rankers_yes_no"], (1,)),
        (POINT_PROMPTS["bge_gemma"], (2,)),
        (PAIR_PROMPTS["duot5"], (2, 1)),
        (SET_PROMPTS["llm_rankers"], (2, 0, 1)),
        (replace(LIST_PROMPTS["rank_zephyr"], answer="choice"), (0, 2, 1)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_every_label_gets_the_worth_of_its_passage_and_no_gets_zero(bert_folder, prompt, positions):
    engine = SimilarityEngine(str(bert_folder), similarity_weight=0.0)
    worth = z(CANDIDATES.scores)
    engine.prepare([CANDIDATES], prompt, len(positions))
    [answer] = engine.answer([ask_about_all(prompt, positions)])
    expected = [worth[position] for position in positions]
    expected += [0.0] * (len(prompt.labels(len(positions))) - len(positions))
    assert answer == pytest.approx(expected)


def test_a_yes_alone_and_a_yes_against_a_no_are_two_answers(bert_folder):
    engine = SimilarityEngine(str(bert_folder))
    one, two = (ask_about_all(POINT_PROMPTS[name], (1,)) for name in ("bge_gemma", "llm_rankers_yes_no"))
    assert engine.key_text(one) != engine.key_text(two)


@pytest.mark.parametrize("prompt", [LIST_PROMPTS["rank_zephyr"], POINT_PROMPTS["llm_rankers_qlm"]])
def test_it_writes_no_texts(bert_folder, prompt):
    engine = SimilarityEngine(str(bert_folder))
    with pytest.raises(
        InputError,
        match=r"--engine similarity gives choice; .* --engine hf, vllm, openai_compatible or recorded can give",
    ):
        engine.answer([ask_about_all(prompt, (1,))])


def test_the_engines_that_are_named_for_a_kind_are_those_that_give_it():
    fixed = {name: make.answers for name, make in ENGINES.items() if name != "recorded"}
    for kind, names in WHO_ANSWERS.items():
        assert set(names) == {name for name, answers in fixed.items() if kind in answers} | {"recorded"}

"""Only the rows of the head that are asked for; common beginnings once."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from conftest import build_causal, build_t5
from transformers import (
    AutoModelForCausalLM,
    BartConfig,
    BartForConditionalGeneration,
    CohereConfig,
    Gemma2Config,
    GPTJConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
)

from tevatron_distill.engines import HFEngine, Request
from tevatron_distill.engines.head import Head
from tevatron_distill.prompts import PAIR_PROMPTS, POINT_PROMPTS
from tevatron_distill.schema import Candidates, Passage

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "pad_token_id": 0,
}
MODELS = {
    "plain": LlamaConfig(**SIZES),
    "softcap": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=0.5),
    "logit scale": CohereConfig(**SIZES, logit_scale=0.25),
    "logits divided": GraniteConfig(**SIZES, logits_scaling=3.0),
    "bias": GPTJConfig(vocab_size=60, n_embd=32, n_layer=2, n_head=4, rotary_dim=4),
    "another name": GPTNeoXConfig(**SIZES),
}
IDS = torch.tensor([[1, 2, 3, 4], [4, 5, 6, 7]])
TEXTS = ("the cat sat", "red green blue yellow", "one two three", "a reranker orders passages", "dog")
CANDIDATES = Candidates(
    "q1", "what is a cat", tuple(Passage(str(n), text) for n, text in enumerate(TEXTS)), (5.0, 4.0, 3.0, 2.0, 1.0)
)
PROMPT = PAIR_PROMPTS["instructdistill"]


def pairs_of(candidates):
    shown = [PROMPT.passage_text(passage) for passage in candidates.passages]
    places = range(len(shown))
    return [Request(PROMPT, candidates, (i, j), (shown[i], shown[j])) for i in places for j in places if i != j]


@pytest.mark.parametrize("name", MODELS)
def test_a_few_rows_of_the_head_give_the_models_own_logits(name):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MODELS[name]).eval()
    whole_head = model.get_output_embeddings()
    head = Head(model, lambda: model(input_ids=IDS).logits)
    with torch.inference_mode():
        whole = model(input_ids=IDS).logits
        with head.rows([50, 7, 9]) as places:
            few = model(input_ids=IDS).logits
    assert places == {50: 0, 7: 1, 9: 2}
    assert few.shape == (2, 4, 3)
    torch.testing.assert_close(few, whole[..., [50, 7, 9]], atol=1e-6, rtol=0)
    assert model.get_output_embeddings() is whole_head


def test_a_model_that_adds_something_behind_its_head_keeps_it_whole(caplog):
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    model = BartForConditionalGeneration(BartConfig(vocab_size=60, **sizes, **heads)).eval()
    with caplog.at_level(logging.INFO):
        head = Head(model, lambda: model(input_ids=IDS, decoder_input_ids=IDS[:, :2]).logits)
    assert "BartForConditionalGeneration computes the logits of its whole vocabulary" in caplog.text
    with head.rows([50, 7]) as places:
        assert places == {50: 50, 7: 7}
        assert model(input_ids=IDS, decoder_input_ids=IDS[:, :2]).logits.shape == (2, 2, 60)


def test_a_model_whose_head_cannot_be_cut_answers_the_same(llama_folder, monkeypatch):
    narrow = HFEngine(str(llama_folder)).answer(pairs_of(CANDIDATES))
    monkeypatch.setattr(Head, "_agrees", lambda head, ask: False)
    engine = HFEngine(str(llama_folder))
    for answer, expected in zip(engine.answer(pairs_of(CANDIDATES)), narrow, strict=True):
        assert answer == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("build", [(build_t5,), (build_t5, True), (build_causal, "llama"), (build_causal, "gemma2")])
def test_no_tensor_of_a_choice_has_the_size_of_the_vocabulary(build, make_folder):
    make, *rest = build
    folder = make_folder(make, tied=True) if rest == [True] else make_folder(*build)
    engine = HFEngine(str(folder))
    model = engine._forward._model
    seen = []
    model.register_forward_hook(lambda module, inputs, output: seen.append(output.logits.shape[-1]))
    engine.answer(pairs_of(CANDIDATES))
    assert set(seen) == {2}


@pytest.mark.parametrize("prompt", [PROMPT, POINT_PROMPTS["bge_gemma"]], ids=["pairs", "points"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_what_prompts_begin_with_is_computed_once(architecture, prompt, make_folder):
    folder = make_folder(build_causal, architecture)
    asked = replace(CANDIDATES, query="what is a cat and what is a dog " * 5)
    shown = [prompt.passage_text(passage) for passage in asked.passages]
    requests = (
        pairs_of(asked)
        if prompt is PROMPT
        else [Request(prompt, asked, (place,), (text,)) for place, text in enumerate(shown)]
    )
    engine = HFEngine(str(folder), dtype="float32")
    alone = [engine.answer([request])[0] for request in requests]
    counted = []
    engine._forward._model.model.register_forward_pre_hook(
        lambda module, inputs, keywords: counted.append(keywords["input_ids"].numel()), with_kwargs=True
    )
    [block] = engine.batches(requests)
    answers = dict(zip(block, engine.answer([requests[index] for index in block]), strict=True))
    num_tokens = sum(len(engine._encoder.encode(request).input_ids) for request in requests)
    assert sum(counted) < 0.75 * num_tokens
    for index, expected in enumerate(alone):
        assert answers[index] == pytest.approx(expected, abs=1e-5)


def test_a_decoders_blocks_keep_those_together_that_begin_alike(llama_folder):
    other = replace(CANDIDATES, query_id="q2", query="what is a dog or a cat or a reranker")
    requests = [*pairs_of(CANDIDATES), *pairs_of(other)]
    mixed = requests[::2] + requests[1::2]
    engine = HFEngine(str(llama_folder), batch_tokens=100)
    blocks = engine.batches(mixed)
    assert len(blocks) > 2
    assert sorted(index for block in blocks for index in block) == list(range(len(mixed)))
    families = [{(mixed[index].candidates.query_id, mixed[index].positions[0]) for index in block} for block in blocks]
    assert sum(map(len, families)) == len(set().union(*families)) == 2 * len(TEXTS)
    assert engine.batches(mixed) == blocks


def test_out_of_memory_halves_what_begins_alike_too(llama_folder, monkeypatch):
    engine = HFEngine(str(llama_folder))
    requests = pairs_of(CANDIDATES)
    whole = engine.answer(requests)
    model = engine._forward._model
    plain = model.forward

    def small(*arguments, input_ids, **keywords):
        if len(input_ids) > 3:
            raise torch.cuda.OutOfMemoryError
        return plain(*arguments, input_ids=input_ids, **keywords)

    monkeypatch.setattr(model, "forward", small)
    for answer, expected in zip(engine.answer(requests), whole, strict=True):
        assert answer == pytest.approx(expected, abs=1e-5)
    assert engine.report()["out_of_memory"] > 0

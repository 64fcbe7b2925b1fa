"""What vLLM would be asked, against a stand-in that records it; vLLM itself needs a GPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest

from tevatron_distill.engines import HFEngine, Request, VLLMEngine
from tevatron_distill.prompts import PAIR_PROMPTS, POINT_PROMPTS, SET_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage

CANDIDATES = Candidates(
    "q", "what is red", tuple(Passage(str(n), "one two three " * n) for n in range(1, 4)), (3.0, 2.0, 1.0)
)
PAIR, LIKELIHOOD = PAIR_PROMPTS["instructdistill"], POINT_PROMPTS["llm_rankers_qlm"]
TEXT = replace(SET_PROMPTS["llm_rankers"], answer="text")


def ask(prompt, *positions):
    texts = tuple(prompt.passage_text(CANDIDATES.passages[position]) for position in positions)
    return Request(prompt, CANDIDATES, positions, texts)


@pytest.fixture
def vllm(monkeypatch):
    """A module that answers every token with minus its id."""
    fake = ModuleType("vllm")
    fake.made, fake.asked = [], []

    class LLM:
        def __init__(self, **keywords):
            fake.made.append(keywords)

        def generate(self, prompts, sampling_params, use_tqdm):
            fake.asked += zip(prompts, sampling_params, strict=True)
            return [self.answer(*pair) for pair in zip(prompts, sampling_params, strict=True)]

        def answer(self, prompt, params):
            ids = prompt["prompt_token_ids"]
            wanted = params.get("logprob_token_ids") or [7]
            said = SimpleNamespace(
                token_ids=wanted[:1], logprobs=[{token: SimpleNamespace(logprob=-float(token)) for token in wanted}]
            )
            prompt_logprobs = [None, *({token: SimpleNamespace(logprob=-float(token))} for token in ids[1:])]
            return SimpleNamespace(
                prompt_token_ids=ids,
                outputs=[said],
                prompt_logprobs=prompt_logprobs if "prompt_logprobs" in params else None,
            )

    fake.LLM = LLM
    fake.SamplingParams = lambda **keywords: keywords
    monkeypatch.setitem(sys.modules, "vllm", fake)
    return fake


def test_prompts_are_the_token_ids_of_the_other_engine_and_answers_are_labels(vllm, llama_folder):
    engine = VLLMEngine(str(llama_folder), max_length=900, tensor_parallel_size=2)
    assert not vllm.made  # the weights are loaded when the first answer is not cached
    requests = [ask(PAIR, 0, 1), ask(LIKELIHOOD, 2), ask(TEXT, 0, 1, 2)]
    answers = engine.answer(requests)
    encoder = HFEngine(str(llama_folder), max_length=899)._encoder
    rows = [encoder.encode(request) for request in requests]
    assert [prompt["prompt_token_ids"] for prompt, _ in vllm.asked] == [
        rows[0].input_ids,
        rows[1].input_ids + rows[1].target,
        rows[2].input_ids,
    ]
    labels = rows[0].labels
    assert [params for _, params in vllm.asked] == [
        {"temperature": 0.0, "max_tokens": 1, "allowed_token_ids": labels, "logprobs": 2, "logprob_token_ids": labels},
        {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0},
        {"temperature": 0.0, "max_tokens": rows[2].room},
    ]
    assert answers[0] == tuple(-float(label) for label in labels)
    assert answers[1] == (-float(sum(rows[1].target)),)
    assert answers[2] == engine._tokenizer.decode([7]).strip()
    assert engine.num_tokens == sum(len(prompt["prompt_token_ids"]) + 1 for prompt, _ in vllm.asked)
    assert vllm.made == [
        {
            "model": str(llama_folder),
            "dtype": "auto",
            "max_model_len": 900,
            "enable_prefix_caching": True,
            "tensor_parallel_size": 2,
            "max_logprobs": 128,
            "trust_remote_code": False,
        }
    ]


def test_its_answers_are_not_taken_for_those_of_transformers(vllm, llama_folder):
    assert VLLMEngine(str(llama_folder)).identity.startswith("vllm sha256:")
    assert HFEngine(str(llama_folder)).identity.startswith("hf sha256:")


def test_an_encoder_decoder_is_refused(vllm, t5_folder):
    with pytest.raises(InputError, match="use --engine hf"):
        VLLMEngine(str(t5_folder))


def test_without_vllm_the_error_says_what_to_install(monkeypatch, llama_folder):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(InputError, match=r'pip install "tevatron-distill\[vllm\]".*--engine openai_compatible'):
        VLLMEngine(str(llama_folder))

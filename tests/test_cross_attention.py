from __future__ import annotations

import pytest
import torch
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from tevatron_distill.cross_attention import without_keys

SIZES = {
    "vocab_size": 40,
    "d_model": 32,
    "d_kv": 12,  # not D / heads, as in FLAN-T5 small
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
KINDS = {"t5": (T5ForConditionalGeneration, T5Config), "mt5": (MT5ForConditionalGeneration, MT5Config)}


def build(kind, attention="sdpa"):
    torch.manual_seed(0)
    model_class, config_class = KINDS[kind]
    model = model_class._from_config(config_class(**SIZES), attn_implementation=attention).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def rows(num_decoder_tokens):
    mask = torch.ones(3, 9, dtype=torch.long)
    mask[0, 4:] = mask[1, 7:] = 0
    return {
        "input_ids": torch.randint(2, 40, (3, 9), generator=torch.Generator().manual_seed(1)) * mask,
        "attention_mask": mask,
        "decoder_input_ids": torch.arange(3 * num_decoder_tokens).view(3, num_decoder_tokens),
    }


@pytest.fixture
def num_projected(monkeypatch):
    """Counts the encoder's outputs that become keys."""
    counts = []

    def watch(model):
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.k.register_forward_hook(lambda *_: counts.append(1))
        return counts

    return watch


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_tokens", [1, 2, 3])
def test_a_few_decoder_tokens_need_no_keys_and_the_logits_stay(kind, attention, num_tokens, num_projected):
    model = build(kind, attention)
    counts = num_projected(model)
    with torch.inference_mode():
        plain = model(**rows(num_tokens), use_cache=False).logits
        assert len(counts) == 2
        with without_keys(model):
            short = model(**rows(num_tokens), use_cache=False).logits
        assert len(counts) == 2
        again = model(**rows(num_tokens), use_cache=False).logits
    assert len(counts) == 4
    torch.testing.assert_close(short, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, plain, rtol=0, atol=0)


@pytest.mark.parametrize("use_cache", [False, True])
def test_many_tokens_and_generations_take_the_usual_way(use_cache, num_projected):
    model = build("t5")
    counts = num_projected(model)
    with torch.inference_mode(), without_keys(model):
        model(**rows(2 if use_cache else 4), use_cache=use_cache)
    assert len(counts) == 2


def test_generated_texts_are_the_same():
    model = build("t5")
    asked = {name: tensor for name, tensor in rows(1).items() if name != "decoder_input_ids"}
    with torch.inference_mode():
        plain = model.generate(**asked, max_new_tokens=5, do_sample=False)
        with without_keys(model):
            assert torch.equal(model.generate(**asked, max_new_tokens=5, do_sample=False), plain)


@pytest.mark.parametrize("spoil", ["training", "adapter"])
def test_what_reads_the_matrices_otherwise_stays_as_it_is(spoil, num_projected):
    class Adapted(torch.nn.Linear):
        """Stands for a matrix that is more than its weight."""

    model = build("t5")
    if spoil == "training":
        model.train()
    else:
        for block in model.decoder.block:
            block.layer[1].EncDecAttention.k.__class__ = Adapted
    counts = num_projected(model)
    with without_keys(model):
        model(**rows(1), use_cache=False)
    assert len(counts) == 2

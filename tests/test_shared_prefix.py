from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from tevatron_distill.batching import Budget
from tevatron_distill.shared_prefix import Family, can_share_prefixes, find_families, last_outputs, share_saved

SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
LEARNED = {"vocab_size": 60, "n_positions": 40, "n_embd": 32, "n_layer": 2, "n_head": 4}
SERVED = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "mistral without a window": MistralConfig(**SIZES, sliding_window=None),
    "gpt2": GPT2Config(**LEARNED),
    "gpt_neox": GPTNeoXConfig(**SIZES),
    "opt": OPTConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48),
}
REFUSED = {
    "mistral with a window": MistralConfig(**SIZES, sliding_window=8),
    "gemma2": Gemma2Config(**SIZES, head_dim=8),
    "qwen3 with windows": Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=8, max_window_layers=1),
    "mamba": MambaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, state_size=4),
    "bloom": BloomConfig(vocab_size=60, hidden_size=32, n_layer=2, n_head=4),
    "rope by length": LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    ),
}
# Prefixes of 12, 7 and 1 tokens, a row alone, a row that is another's beginning, two rows that are equal.
START, OTHER = list(range(1, 13)), [9, 8, 7, 6, 5, 4, 3]
ROWS = [
    [*START, 20],
    [*START, 21, 22, 23, 24, 25, 26, 27, 28, 29],
    [30, 31, 32, 33, 34],
    [*OTHER, 40, 41],
    [*START, 24, 25],
    [*OTHER, 42],
    [*OTHER, 42],
    [50, 51],
    [50, 52, 53, 54],
    [*START[:5], 45, 46, 47],
]


def build(config, head=True):
    torch.manual_seed(3)
    model = (AutoModelForCausalLM if head else AutoModel).from_config(config).eval()
    for weight in model.parameters():
        weight.data.mul_(4.0 if weight.dim() > 1 else 1.0)  # as they are drawn, no token heeds another
    return model


@torch.inference_mode()
def one_by_one(model, rows):
    return torch.stack([model(input_ids=torch.tensor([row]))[0][0, -1] for row in rows])


@pytest.mark.parametrize("max_tokens", [1, 40, 1000])
@pytest.mark.parametrize("name", SERVED)
def test_the_last_outputs_are_those_of_each_row_alone(name, max_tokens):
    model = build(SERVED[name])
    assert can_share_prefixes(model)
    families = find_families(ROWS)
    assert sum(family.shared > 0 for family in families) >= 2
    shared = last_outputs(model, ROWS, families, pad_token_id=0, max_tokens=max_tokens)
    torch.testing.assert_close(shared, one_by_one(model, ROWS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_backbone_gives_its_last_hidden_states_under_both_kinds_of_attention(attention):
    model = build(SERVED["llama"], head=False)
    model.set_attn_implementation(attention)
    shared = last_outputs(model, ROWS, find_families(ROWS), pad_token_id=0, max_tokens=1000)
    assert shared.shape == (len(ROWS), 32)
    torch.testing.assert_close(shared, one_by_one(model, ROWS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", REFUSED)
def test_models_whose_cache_is_not_plain_are_refused(name):
    assert not can_share_prefixes(build(REFUSED[name]))


def test_an_encoder_decoder_is_refused():
    config = T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, decoder_start_token_id=0)
    assert not can_share_prefixes(T5ForConditionalGeneration(config).eval())


def test_a_model_that_says_something_else_behind_a_cache_is_refused():
    model = build(SERVED["llama"])
    plain = model.model.forward

    def careless(*arguments, attention_mask=None, **keywords):
        return plain(*arguments, **keywords)

    model.model.forward = careless
    assert not can_share_prefixes(model)


def test_rows_at_the_last_learned_position_stand_beside_longer_padding():
    model = build(SERVED["gpt2"])
    rows = [[*range(1, 39), 40], [*range(1, 39), 41, 42], [50, *range(1, 30)], [50, *range(1, 29), 3, 4, 5, 6, 7, 8]]
    families = [Family(38, [0, 1]), Family(29, [2, 3])]
    shared = last_outputs(model, rows, families, pad_token_id=0, max_tokens=1000)
    torch.testing.assert_close(shared, one_by_one(model, rows), atol=1e-5, rtol=0)


def test_each_shared_beginning_is_computed_once():
    model = build(SERVED["llama"])
    seen = []
    model.model.layers[0].register_forward_pre_hook(
        lambda module, inputs, keywords: seen.append(inputs[0].shape[:2]), with_kwargs=True
    )
    rows = [[*START, *START, 20 + number] for number in range(10)]
    last_outputs(model, rows, find_families(rows), pad_token_id=0, max_tokens=1000)
    assert seen == [(1, 24), (10, 1)]


@pytest.mark.parametrize("most", [1, 2, 4])
def test_batches_that_do_not_fit_are_halved(most, monkeypatch):
    model = build(SERVED["llama"])
    whole = last_outputs(model, ROWS, find_families(ROWS), pad_token_id=0, max_tokens=1000)
    plain = model.forward

    def small(*arguments, input_ids, **keywords):
        if len(input_ids) > most:
            raise torch.cuda.OutOfMemoryError
        return plain(*arguments, input_ids=input_ids, **keywords)

    monkeypatch.setattr(model, "forward", small)
    budget = Budget(1000)
    tight = last_outputs(model, ROWS, find_families(ROWS), pad_token_id=0, max_tokens=1000, budget=budget)
    assert budget.num_halved > 0
    torch.testing.assert_close(tight, whole, atol=1e-5, rtol=0)
    monkeypatch.setattr(model, "forward", lambda **batch: small(input_ids=torch.zeros(9, 1)))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        last_outputs(model, ROWS, find_families(ROWS), pad_token_id=0, max_tokens=1000)


def test_a_beginning_that_few_share_loses_to_a_longer_one_that_fewer_share():
    rows = [[1, *[2] * 50, 3], [1, *[2] * 50, 4], [1, *[5] * 50, 3], [1, *[5] * 50, 4], [1, 6]]
    assert find_families(rows) == [Family(51, [0, 1]), Family(51, [2, 3]), Family(0, [4])]
    assert share_saved(rows, find_families(rows)) == 2 * 51 / (4 * 52 + 2)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=20))
def test_families_hold_each_row_once_and_leave_it_a_token_of_its_own(rows):
    families = find_families(rows)
    assert sorted(place for family in families for place in family.rows) == list(range(len(rows)))
    for shared, places in families:
        assert len({tuple(rows[place][:shared]) for place in places}) == 1
        assert all(len(rows[place]) > shared for place in places)
        assert (shared > 0) == (len(places) > 1)
    assert find_families(rows) == families


def test_rows_nested_in_each_other_are_parted_without_end():
    rows = [[7] * length for length in range(1, 3000, 2)]
    assert sorted(place for family in find_families(rows) for place in family.rows) == list(range(1500))

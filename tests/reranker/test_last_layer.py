"""The last layer computed for the first token alone gives the scores of the whole layer."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from tevatron_distill.reranker.last_layer import READ_FIRST, first_token_only, reads_first_token

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 80,
    "num_labels": 1,
    "pad_token_id": 0,
}


def build(kind, attention="sdpa", **changes):
    torch.manual_seed(0)
    config = kind.config_class(**SIZES, **changes)
    config._attn_implementation = attention
    return kind(config).eval()


def padded(lengths):
    longest = max(lengths)
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(1, 50, (len(lengths), longest), generator=generator)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def widths_of_the_last_layer(model, inputs):
    seen = []
    handle = model.base_model.encoder.layer[-1].intermediate.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].shape[1])
    )
    with torch.inference_mode(), first_token_only(model):
        logits = model(**inputs).logits
    handle.remove()
    return seen, logits


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", READ_FIRST)
@settings(deadline=None, max_examples=10)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_the_scores_are_those_of_the_whole_layer(kind, attention, lengths):
    model, inputs = build(kind, attention), padded(lengths)
    with torch.inference_mode():
        whole = model(**inputs).logits
    seen, logits = widths_of_the_last_layer(model, inputs)
    assert seen == [1]
    torch.testing.assert_close(logits, whole, atol=1e-5, rtol=0)


def test_the_model_is_as_before_afterwards_even_behind_an_error():
    model, inputs = build(READ_FIRST[0]), padded([3, 5])
    with pytest.raises(KeyError), first_token_only(model):
        raise KeyError
    assert model.base_model(**inputs).last_hidden_state.shape == (2, 5, 32)
    assert "forward" not in vars(model.base_model.encoder.layer[-1])


@pytest.mark.parametrize(
    "changes",
    [
        {"is_decoder": True},
        {"output_attentions": True, "attention": "eager"},
        {"output_hidden_states": True},
        {"chunk_size_feed_forward": 1},
        {"attention": "flex_attention"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whoever_wants_more_than_the_score_gets_the_whole_layer(changes):
    assert not reads_first_token(build(READ_FIRST[0], **changes))


def test_a_model_in_training_gets_the_whole_layer():
    model = build(READ_FIRST[0]).train()
    seen, _ = widths_of_the_last_layer(model, padded([3, 5]))
    assert seen == [5]


def test_other_architectures_and_their_heirs_get_the_whole_layer():
    class Heir(READ_FIRST[0]):
        """May read more than the first token."""

    assert not reads_first_token(build(Heir))
    model = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=50, dim=32, n_heads=4, hidden_dim=64)
    ).eval()
    assert not reads_first_token(model)
    with first_token_only(model):
        assert model(**padded([3, 5])).logits.shape == (2, 2)

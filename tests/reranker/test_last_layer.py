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
    model = kind(config).eval()
    for parameter in model.parameters():  # biases, too, and weights that let attention choose
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def padded(lengths):
    longest = max(lengths)
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(1, 50, (len(lengths), longest), generator=generator)
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def widths_of_the_last_layer(model, inputs, keys=True):
    """How long the last layer's output is, for how many tokens it makes keys, and the logits."""
    layer, seen = model.base_model.encoder.layer[-1], []
    watched = layer.intermediate, layer.attention.self.key
    handles = [
        part.register_forward_pre_hook(lambda part, args: seen.append((watched.index(part), args[0].shape[1])))
        for part in watched
    ]
    with torch.inference_mode(), first_token_only(model, keys=keys):
        logits = model(**inputs).logits
    for handle in handles:
        handle.remove()
    widths = dict(seen)
    return widths[0], widths.get(1, 0), logits


@pytest.mark.parametrize("keys", [True, False])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", READ_FIRST)
@settings(deadline=None, max_examples=10)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_the_scores_are_those_of_the_whole_layer(kind, attention, keys, lengths):
    model, inputs = build(kind, attention), padded(lengths)
    with torch.inference_mode():
        whole = model(**inputs).logits
    width, num_keys, logits = widths_of_the_last_layer(model, inputs, keys)
    assert (width, num_keys) == (1, max(lengths) if keys else 0)
    torch.testing.assert_close(logits, whole, atol=1e-5, rtol=1e-5)


def test_matrices_that_are_more_than_their_weight_make_keys():
    class Adapted(torch.nn.Linear):
        """Stands for a matrix with an adapter, or in four bits."""

    model = build(READ_FIRST[0])
    model.base_model.encoder.layer[-1].attention.self.value.__class__ = Adapted
    assert widths_of_the_last_layer(model, padded([3, 5]), keys=False)[1] == 5


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
    assert widths_of_the_last_layer(model, padded([3, 5]))[0] == 5


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

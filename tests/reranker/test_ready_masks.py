"""A mask that is made once gives the scores of transformers' own."""

from __future__ import annotations

import pytest
import torch
from test_last_layer import build, padded
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from tevatron_distill.reranker.last_layer import READ_FIRST
from tevatron_distill.reranker.masks import ready_masks


def masks_of_the_layers(model, inputs):
    seen = []
    handles = [
        layer.attention.register_forward_pre_hook(lambda _, args: seen.append(args[1]))
        for layer in model.base_model.encoder.layer
    ]
    with torch.inference_mode(), ready_masks(model):
        logits = model(**inputs).logits
    for handle in handles:
        handle.remove()
    return seen, logits


@pytest.mark.parametrize("lengths", [(5, 3, 1), (1,), (4, 4), (40, 17, 2, 2)], ids=str)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", READ_FIRST)
def test_all_layers_get_one_mask_and_the_scores_stay(kind, attention, lengths):
    model, inputs = build(kind, attention), padded(lengths)
    with torch.inference_mode():
        own = model(**inputs).logits
    seen, logits = masks_of_the_layers(model, inputs)
    assert len(seen) == 2
    if len(set(lengths)) == 1:
        assert seen == [None, None]
    else:
        assert all(mask.shape == (len(lengths), 1, 1, max(lengths)) for mask in seen)
        assert seen[0].data_ptr() == seen[1].data_ptr()
    torch.testing.assert_close(logits, own, atol=1e-6, rtol=1e-6)


def test_half_precision_has_a_lowest_number_of_its_own():
    model, inputs = build(READ_FIRST[0]).bfloat16(), padded([7, 2])
    seen, logits = masks_of_the_layers(model, inputs)
    assert seen[0].dtype == torch.bfloat16
    assert seen[0].isfinite().all()
    assert logits.isfinite().all()


def test_the_model_is_as_before_afterwards_even_behind_an_error():
    model = build(READ_FIRST[0])
    with pytest.raises(KeyError), ready_masks(model):
        raise KeyError
    assert not model.base_model._forward_pre_hooks


def test_other_architectures_and_models_in_training_make_their_own():
    other = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=50, dim=32, n_heads=4, hidden_dim=64)
    ).eval()
    for model in (other, build(READ_FIRST[0]).train(), torch.nn.Identity().eval()):
        with ready_masks(model):
            assert not getattr(getattr(model, "base_model", None), "_forward_pre_hooks", None)

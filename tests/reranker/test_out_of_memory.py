"""Memory that runs out halves the budget once and for all; the scores stay the same up to rounding."""

from __future__ import annotations

import pytest
import torch
from conftest import WORDS

from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, Passage

LISTS = [
    Candidates(
        f"q{number}",
        WORDS[number],
        tuple(Passage(f"d{place}", " ".join(WORDS[place : place + 4])) for place in range(6)),
        (0.0,) * 6,
    )
    for number in range(4)
]


@pytest.mark.parametrize("limit", [20, 40])
def test_what_does_not_fit_is_tried_once_and_remembered_by_later_blocks(bert_classifier_folder, limit):
    whole = Reranker.from_pretrained(str(bert_classifier_folder), device="cpu", batch_tokens=200)
    expected = [whole.score_candidates([one])[0] for one in LISTS]
    assert whole.batcher.budget.report() == {}
    small = Reranker.from_pretrained(str(bert_classifier_folder), device="cpu", batch_tokens=200)
    failures, forward = [], small.model.forward

    def cramped(*args, **inputs):
        if inputs["input_ids"].numel() > limit:
            failures.append(inputs["input_ids"].numel())
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **inputs)

    small.model.forward = cramped
    found = [small.score_candidates([LISTS[0]])[0]]
    num_failures = len(failures)
    assert num_failures >= 1
    found += [small.score_candidates([one])[0] for one in LISTS[1:]]
    assert len(failures) == num_failures, "a size that did not fit is not tried again"
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    report = small.batcher.budget.report()
    assert report["out_of_memory"] == num_failures
    assert report["batch_tokens_left"] <= limit

"""Groups to (query, passage) rows, logits to scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from tevatron_distill.layouts import PointLayout, RerankerSettings
from tevatron_distill.layouts.rows import Row
from tevatron_distill.schema import Candidates, InputError, Passage


class Words:
    """A tokenizer in name only."""

    def convert_ids_to_tokens(self, index: int) -> str:
        return f"<{index}>"


def rows_of_lengths(query: str, passages: Sequence[Passage]) -> list[Row]:
    return [Row([len(query), *map(int, passage.text.split())]) for passage in passages]


def make(ends_at_pad: bool = False, inputs=("input_ids", "attention_mask"), **settings) -> PointLayout:
    return PointLayout(Words(), RerankerSettings(pad_token_id=0, **settings), rows_of_lengths, inputs, ends_at_pad)


def candidates(*groups: list[str]) -> list[Candidates]:
    return [
        Candidates(f"q{n}", "?" * (n + 1), tuple(Passage(f"d{i}", text) for i, text in enumerate(texts)), ())
        for n, texts in enumerate(groups)
    ]


def test_ragged_groups_become_rows_that_know_their_query_and_place():
    batch = make(pad_to_multiple_of=0).collate(candidates(["7", "7 8"], ["9"]))
    assert batch["input_ids"].tolist() == [[1, 7, 0], [1, 7, 8], [2, 9, 0]]
    assert batch["row_index"].tolist() == [[0, 0], [0, 1], [1, 0]]


def test_scores_land_in_their_places_and_empty_places_are_zero():
    layout = make()
    batch = {
        "row_index": torch.tensor([[0, 0], [0, 1], [1, 0]]),
        "mask": torch.tensor([[True, True], [True, False]]),
    }
    for dtype in (torch.float32, torch.bfloat16):
        scores = layout.verdict({"logits": torch.tensor([[1.0], [2.0], [3.0]], dtype=dtype)}, batch).scores
        assert scores.dtype == torch.float32
        assert scores.tolist() == [[1.0, 2.0], [3.0, 0.0]]


def test_the_gradient_of_a_score_reaches_only_its_row():
    layout = make()
    logits = torch.zeros(3, 1, requires_grad=True)
    batch = {"row_index": torch.tensor([[0, 0], [0, 1], [1, 0]]), "mask": torch.ones(2, 2, dtype=torch.bool)}
    layout.verdict({"logits": logits}, batch).scores[0, 1].backward()
    assert logits.grad.tolist() == [[0.0], [1.0], [0.0]]


def test_the_softcap_bends_the_logit():
    scores = make(softcap=3.0).row_scores({"logits": torch.tensor([[2.0], [-50.0]])})
    assert scores.tolist() == pytest.approx([3.0 * math.tanh(2.0 / 3.0), -3.0])


def test_a_row_that_ends_in_the_pad_token_is_refused_by_query_and_docid():
    with pytest.raises(InputError, match=r'query_id "q0", docid "d1".*pad token.*<0>.*--append_eos_token'):
        make(ends_at_pad=True).collate(candidates(["7", "7 0"]))
    make(ends_at_pad=True).collate(candidates(["0 7"]))
    make(ends_at_pad=False).collate(candidates(["7 0"]))


def test_positions_are_counted_from_the_first_real_token():
    layout = make(inputs=("input_ids", "attention_mask", "position_ids"), padding_side="left", pad_to_multiple_of=0)
    batch = layout.collate(candidates(["7 8", "9"]))
    assert batch["position_ids"].tolist() == [[0, 1, 2], [0, 0, 1]]

"""Rows of comparisons, and what two logits a row become."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.layouts import PairLayout, RerankerSettings
from tevatron_distill.layouts.pair import shown_pairs
from tevatron_distill.layouts.rows import Row
from tevatron_distill.schema import Candidates, Group, Passage


class Letters:
    """A letter is a token."""

    def source(self, query):
        return [ord(letter) for letter in query]

    def candidate(self, passage):
        return [ord(letter) for letter in passage.text]

    def row(self, source, first, second):
        ids = [*source, *first, *second]
        return Row(ids, places=(0, len(source), len(source) + len(first)))


LAYOUT = PairLayout(None, RerankerSettings(student="pair_ranker", pad_token_id=0, pad_to_multiple_of=0), Letters())


def candidates(*texts: str) -> Candidates:
    return Candidates("q", "q", tuple(Passage(str(n), text) for n, text in enumerate(texts)), ())


def verdict_of(row_index, logits, sizes):
    size = max(sizes)
    mask = torch.arange(size) < torch.tensor(sizes)[:, None]
    batch = {"row_index": torch.tensor(row_index), "mask": mask}
    return LAYOUT.verdict({"logits": torch.tensor(logits)[:, :, None]}, batch)


def test_a_group_is_all_its_ordered_pairs_of_different_texts():
    batch = LAYOUT.collate([candidates("a", "bb", "a"), candidates("c"), candidates("d", "e")])
    assert batch["row_index"].tolist() == [
        *([0, 0, 1], [0, 1, 0], [0, 1, 2], [0, 2, 1]),
        *([2, 0, 1], [2, 1, 0]),
    ]
    assert batch["input_ids"][0].tolist() == [ord("q"), ord("a"), ord("b"), ord("b")]
    assert batch["places"][:2].tolist() == [[0, 1, 2], [0, 1, 3]]


def test_a_group_shows_the_pairs_drawn_for_it():
    group = Group("q", "q", candidates("a", "b", "c").passages, (0, 1, 2), 3, pairs=((2, 0),))
    assert shown_pairs(group) == ((2, 0),)
    assert LAYOUT.collate([group])["row_index"].tolist() == [[0, 2, 0]]


def test_a_batch_that_compares_nothing_has_a_row_that_counts_for_nothing():
    batch = LAYOUT.collate([candidates("a", "a"), candidates("b")])
    assert batch["row_index"].tolist() == [[0, 0, 0]]
    verdict = verdict_of(batch["row_index"].tolist(), [[3.0, -2.0]], [2, 1])
    assert verdict.pair_mask is not None
    assert not verdict.pair_mask.any()
    assert not verdict.scores.any()


def test_padding_on_the_left_moves_the_places():
    layout = replace(LAYOUT, settings=replace(LAYOUT.settings, padding_side="left"))
    batch = layout.collate([candidates("a", "bb"), candidates("c", "d")])
    read = batch["input_ids"].gather(1, batch["places"])
    assert read.tolist() == [[ord(letter) for letter in row] for row in ("qab", "qba", "qcd", "qdc")]


def test_two_orders_are_averaged_and_one_counts_for_both_passages():
    verdict = verdict_of([[0, 0, 1], [0, 1, 0], [0, 2, 0]], [[1.0, 2.0], [4.0, 3.0], [5.0, -1.0]], [3])
    assert verdict.pair_scores is not None
    got = verdict.pair_scores[0]
    assert got.tolist() == [[0, (1 + 3) / 2, -1], [(2 + 4) / 2, 0, 0], [5, 0, 0]]
    assert verdict.pair_mask[0].tolist() == [[False, True, True], [True, False, False], [True, False, False]]
    assert verdict.scores[0].tolist() == [((2 - 3) + (-1 - 5)) / 2, (3 - 2) / 2, (5 + 1) / 2]


def test_several_tasks_are_averaged():
    outputs = {"logits": torch.tensor([[[1.0, 2.0], [0.0, 5.0]]])}
    assert LAYOUT.row_scores(outputs).tolist() == [[1.5, 2.5]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12), st.integers(0, 99))
def test_margins_are_antisymmetric_finite_and_zero_where_nothing_was_shown(pairs, seed):
    logits = torch.randn(len(pairs), 2, generator=torch.Generator().manual_seed(seed))
    verdict = verdict_of([[0, i, j] for i, j in pairs], logits.tolist(), [4])
    assert verdict.pair_scores is not None
    margins = verdict.pair_scores - verdict.pair_scores.mT
    assert torch.equal(margins, -margins.mT)
    assert torch.equal(verdict.pair_mask, verdict.pair_mask.mT)
    assert not margins[~verdict.pair_mask].any()
    shown = {frozenset(pair) for pair in pairs if pair[0] != pair[1]}
    assert int(verdict.pair_mask.sum()) == 2 * len(shown)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_pair_seen_only_as_loser_and_winner_teaches(dtype):
    from tevatron_distill.losses import LOSSES, ranking_loss

    logits = torch.tensor([[[0.5], [1.0]]], dtype=dtype, requires_grad=True)
    batch = {"row_index": torch.tensor([[0, 1, 0]]), "mask": torch.ones(1, 2, dtype=torch.bool)}
    verdict = LAYOUT.verdict({"logits": logits}, batch)
    loss = ranking_loss(
        LOSSES["rank_net"],
        verdict.scores,
        torch.tensor([[1.0, 0.5]]),
        batch["mask"],
        pair_scores=verdict.pair_scores,
        shown=verdict.pair_mask,
    )
    loss.sum().backward()
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert logits.grad.flatten().sign().tolist() == [1, -1]

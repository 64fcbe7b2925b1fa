"""MaxSim: masks, hand values, and places."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tevatron_distill.layouts import DualLayout, RerankerSettings
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.similarity import Cosine, MaxSim, MutualMaxSim
from tevatron_distill.schema import Candidates, Passage


def units(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor([rows], dtype=torch.float32), dim=-1)


def test_the_score_is_the_mean_over_query_tokens_of_the_best_cosine():
    query, passage = units((1, 0), (0, 1)), units((1, 0), (1, 1))
    everything = torch.ones(1, 2, dtype=torch.bool)
    expected = (1.0 + 0.5**0.5) / 2  # (1, 0) meets itself, (0, 1) meets (1, 1) at 45 degrees
    assert MaxSim()(query, everything, passage, everything).item() == pytest.approx(expected)


def test_a_padded_passage_token_is_never_the_largest_even_where_all_cosines_are_negative():
    query, passage = units((1, 0)), units((-1, 0), (0, 1))
    score = MaxSim()(query, torch.tensor([[True]]), passage, torch.tensor([[True, False]]))
    assert score.item() == pytest.approx(-1.0)


def test_a_padded_query_token_does_not_count():
    query, passage = units((1, 0), (-1, 0)), units((1, 0))
    score = MaxSim()(query, torch.tensor([[True, False]]), passage, torch.tensor([[True]]))
    assert score.item() == pytest.approx(1.0)


def test_a_share_of_what_the_passage_finds_in_the_query_is_added():
    query = units((1, 0), (0, 1), (-1, 0))
    passage = units((1, 0), (1, 1), (-1, -1))
    query_counted, passage_counted = torch.tensor([[True, True, False]]), torch.tensor([[True, True, False]])
    forth, back = (1.0 + 0.5**0.5) / 2, (1.0 + 0.5**0.5) / 2
    score = MutualMaxSim(0.5, share=0.2)(query, query_counted, passage, passage_counted)
    assert score.item() == pytest.approx((forth + 0.2 * back) / 0.5)


def test_of_two_passages_that_hold_the_query_the_one_that_says_less_else_is_better_in_both_directions():
    query, short, long = units((1, 0)), units((1, 0), (1, 0)), units((1, 0), (0, 1))
    counted = torch.ones(2, 2, dtype=torch.bool)
    both, one_way = MutualMaxSim(), MaxSim()
    passages = torch.cat([short, long])
    assert one_way(query, counted[:1, :1], passages, counted).tolist() == pytest.approx([1.0, 1.0])
    assert both(query, counted[:1, :1], passages, counted).tolist() == pytest.approx([1.2, 1.1])


def test_a_cosine_is_that_of_the_first_vectors_over_the_temperature():
    query, passage = units((1, 0), (0, 1)), units((1, 1), (1, 0))
    everything = torch.ones(1, 2, dtype=torch.bool)
    assert Cosine(0.5)(query, everything, passage, everything).item() == pytest.approx(0.5**0.5 / 0.5)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 3), st.integers(0, 10_000))
def test_padding_changes_nothing(query_length, passage_length, padding, seed):
    torch.manual_seed(seed)
    vectors = torch.nn.functional.normalize(torch.randn(2, 8, 3), dim=-1)
    query, passage = vectors[:1, : query_length + padding], vectors[1:, : passage_length + padding]
    query_counted = torch.arange(query.shape[1])[None] < query_length
    passage_counted = torch.arange(passage.shape[1])[None] < passage_length
    plain = sum(max(float(q @ p) for p in passage[0, :passage_length]) for q in query[0, :query_length]) / query_length
    assert MaxSim()(query, query_counted, passage, passage_counted).item() == pytest.approx(plain, abs=1e-5)


def test_a_title_is_part_of_the_passage_that_is_encoded():
    encoded = []

    def note(passage):
        encoded.append((passage.title, passage.text))
        return word_rows(passage)

    layout = DualLayout(None, RerankerSettings(pad_token_id=0), word_rows, note, MaxSim())
    layout.collate(
        [Candidates("a", "1", (Passage("x", "2", "One"), Passage("y", "2", "Two"), Passage("z", "2", "One")), ())]
    )
    assert encoded == [("One", "2"), ("Two", "2")]


def word_rows(text: str | Passage) -> Row:
    ids = [int(word) for word in (text.text if isinstance(text, Passage) else text).split()]
    return Row(ids, counted=[True] * len(ids))


def test_queries_and_passages_are_rows_of_their_own_and_scores_find_their_places():
    layout = DualLayout(
        None, RerankerSettings(pad_token_id=0, pad_to_multiple_of=0), word_rows, word_rows, MaxSim(temperature=0.5)
    )
    groups = [
        Candidates("a", "1", (Passage("x", "1 2"), Passage("y", "2")), ()),
        Candidates("b", "2 1", (Passage("z", "2"),), ()),
    ]
    batch = layout.collate(groups)
    assert batch["query_input_ids"].shape == (2, 2)
    assert batch["passage_input_ids"].shape == (2, 2)  # two texts, three places
    assert batch["row_index"].tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 1]]
    table = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])  # token 1 and token 2 stand at right angles
    outputs = {
        "query_vectors": table[batch["query_input_ids"]],
        "passage_vectors": table[batch["passage_input_ids"]],
    }
    scores = layout.verdict(outputs, {**batch, "mask": torch.tensor([[True, True], [True, False]])}).scores
    assert scores.tolist() == [[1.0 / 0.5, 0.0], [0.5 / 0.5, 0.0]]

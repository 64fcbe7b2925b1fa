"""Padding of token rows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.layouts.rows import Row, pad_rows, padded_length

ROWS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=20), min_size=1, max_size=6)


@given(ROWS, st.sampled_from(["left", "right"]), st.integers(0, 16))
def test_every_token_survives_padding_in_its_order(rows, side, multiple):
    padded = pad_rows([Row(ids) for ids in rows], 0, side, multiple)
    for ids, line, mask in zip(rows, padded["input_ids"], padded["attention_mask"], strict=True):
        assert line[mask.bool()].tolist() == ids
        assert line[~mask.bool()].eq(0).all()
        assert mask[0 if side == "right" else -1] == 1


def test_rows_are_padded_on_the_side_asked_for():
    rows = [Row([5, 6, 7]), Row([8])]
    assert pad_rows(rows, 1, "right")["input_ids"].tolist() == [[5, 6, 7], [8, 1, 1]]
    assert pad_rows(rows, 1, "left")["input_ids"].tolist() == [[5, 6, 7], [1, 1, 8]]


@pytest.mark.parametrize(("limit", "width"), [(0, 16), (12, 12), (3, 5), (40, 16)])
def test_rounding_up_stops_at_the_limit_and_never_cuts(limit, width):
    assert pad_rows([Row([1] * 5)], 0, "right", 16, limit)["input_ids"].shape == (1, width)


def test_segment_ids_and_counted_tokens_are_padded_with_nothing():
    padded = pad_rows([Row([5, 6], [0, 1], [True, False]), Row([7], [1], [True])], 9)
    assert padded["token_type_ids"].tolist() == [[0, 1], [1, 0]]
    assert padded["counted"].tolist() == [[True, False], [True, False]]


@given(st.integers(1, 1000), st.integers(2, 64))
def test_a_padded_length_is_the_next_multiple(longest, multiple):
    assert 0 <= padded_length(longest, multiple) - longest < multiple
    assert padded_length(longest, multiple) % multiple == 0

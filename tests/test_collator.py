from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tevatron_distill.collator import GroupCollator, group_labels, preference_labels
from tevatron_distill.schema import Group, InputError, Passage

PASSAGES = tuple(Passage(name, f"text {name}") for name in "abc")


def no_rows(groups):
    return {"row_index": torch.zeros(0, 2, dtype=torch.int64)}


LAYOUT = SimpleNamespace(collate=no_rows, tokenizer=None)


def group(**verdict) -> Group:
    return Group("q", "query", PASSAGES, **{"permutation": (2, 0, 1), "num_ranked": 3, **verdict})


def test_reciprocal_labels_are_one_over_the_rank_within_the_group():
    assert list(group_labels(group(), "reciprocal")) == pytest.approx([1 / 2, 1 / 3, 1 / 1])


def test_places_behind_num_ranked_share_a_label():
    labels = group_labels(group(num_ranked=1), "reciprocal")
    assert list(labels) == pytest.approx([1 / 2, 1 / 2, 1])


def test_judgements_stand_in_for_ranks():
    judged = group(judgements=(0.0, 2.0, 2.0))
    assert list(group_labels(judged, "reciprocal")) == [0.0, 2.0, 2.0]
    assert list(group_labels(judged, "judgements")) == [0.0, 2.0, 2.0]


@pytest.mark.parametrize("labels", ["scores", "judgements"])
def test_labels_that_a_row_lacks_are_refused_by_name(labels):
    with pytest.raises(InputError, match='query_id "q"'):
        group_labels(group(), labels)


def test_groups_of_different_sizes_are_padded_and_masked():
    small = group(scores=(5.0, 3.0, 4.0)).select([0, 2])
    batch = GroupCollator(LAYOUT, labels="scores")([group(scores=(5.0, 3.0, 4.0)), small])
    assert batch["labels"].tolist() == [[5.0, 3.0, 4.0], [5.0, 4.0, 0.0]]
    assert batch["mask"].tolist() == [[True, True, True], [True, True, False]]
    assert batch["labels"].dtype == torch.float32


def test_preferences_become_a_matrix_and_pairs_not_asked_are_masked():
    labels, asked = preference_labels([group(preferences=((0, 1, 0.75), (1, 2, 0.25)))], 3)
    assert labels[0].tolist() == [[0.5, 0.75, 0.5], [1 - 0.75, 0.5, 0.25], [0.5, 1 - 0.25, 0.5]]
    assert asked[0].tolist() == [[False, True, False], [True, False, True], [False, True, False]]


def test_preferences_of_a_drawn_group_follow_its_passages():
    drawn = group(preferences=((0, 1, 0.75), (1, 2, 0.25))).select([1, 2])
    labels, asked = preference_labels([drawn], 2)
    assert labels[0, 0, 1] == 0.25
    assert asked[0].tolist() == [[False, True], [True, False]]


def test_rows_without_preferences_are_refused():
    with pytest.raises(InputError, match="preferences"):
        preference_labels([group()], 3)

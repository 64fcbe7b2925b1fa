"""Ranking by a matrix of comparisons against what LLM-Blender makes of the same matrix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tevatron_distill.reranker import Reranker, pair
from tevatron_distill.schema import Candidates, Passage
from tevatron_distill.students import LoadOptions, load_student

RECORDED = json.loads((Path(__file__).parent / "recorded" / "comparisons.json").read_text(encoding="utf-8"))["matrices"]
each_matrix = pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: str(len(one["matrix"])))


@pytest.fixture
def ranker_of(bert_folder, monkeypatch):
    """A PairRanker whose logits are those of a matrix."""

    def make(matrix, **settings):
        options = LoadOptions(training=True)
        student = load_student(str(bert_folder), "pair_ranker", options=options, settings=settings)

        def compare(comparer, views):
            for index, i, j in views:
                comparer.logits[index, i, j] = matrix[i][j]

        monkeypatch.setattr(pair.Comparer, "compare", compare)
        return Reranker(student.model, student.layout, "cpu")

    return make


def scores_of(ranker, matrix):
    passages = tuple(Passage(f"d{n}", f"text {n}") for n in range(len(matrix)))
    return ranker.score_candidates([Candidates("q", "why?", passages, ())])[0]


@each_matrix
def test_the_scores_of_all_pairs_are_the_means_of_the_symmetrised_matrix(ranker_of, recorded):
    scores = scores_of(ranker_of(recorded["matrix"]), recorded["matrix"])
    assert scores == pytest.approx(recorded["max_logits"], abs=1e-5)
    assert [1 + sum(other > score for other in scores) for score in scores] == recorded["ranks"]


@each_matrix
def test_the_ranks_by_comparisons_won_are_the_same(ranker_of, recorded):
    scores = scores_of(ranker_of(recorded["matrix"], pair_aggregation="max_wins"), recorded["matrix"])
    assert [1 + sum(other > score for other in scores) for score in scores] == recorded["max_wins"]


@each_matrix
def test_a_bubble_ends_with_the_same_best_and_worst(ranker_of, recorded):
    """There from a random order; it was recorded from the first stage's, where ours begins."""
    ranker = ranker_of(recorded["matrix"], inference_mode="bubble", num_passes=1)
    scores = scores_of(ranker, recorded["matrix"])
    assert scores.index(max(scores)) == recorded["best"]
    texts = [f"text {n}" for n in range(len(scores))]
    assert ranker.worst_of_n(["why?"], [texts], n=1) == [[texts[recorded["worst"]]]]

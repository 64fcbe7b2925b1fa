"""In which order passages stand most likely, when answers contradict each other. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

PRIOR_WEIGHT = 0.1
"""Choices that a passage's first-stage rank is worth: with more, a judge that never errs is not heard; with fewer, the
first stage is not. Measured on TREC DL 2019 and 2020."""

NUM_ITERATIONS = 40
"""More of them change no order that matters; a fixed number keeps the result a plain function of the answers."""


def most_likely_order(num_passages: int, answered: Iterable[tuple[Sequence[int], Sequence[float]]]) -> list[int]:
    """All passages by the worths under which the answers, and the given order as prior, are most likely together.

    Of an answer only the choice counts: the passage with the highest score, or all that share it. Beforehand the
    passage at rank r is worth ``1 / (r + 3)``.

    Args:
        num_passages: how many passages there are.
        answered: questions (positions) with their answers (a score for each).

    Returns:
        Positions, best first; equal worths keep the given order.

    >>> most_likely_order(3, [((0, 1, 2), (0.0, 0.0, 1.0)), ((0, 1), (1.0, 0.0))])
    [2, 0, 1]
    """
    choices = []
    for question, answer in answered:
        highest = max(answer)
        share = 1.0 / sum(score == highest for score in answer)
        choices.append({i: share * (score == highest) for i, score in zip(question, answer, strict=True)})
    worths = estimate_worths([1.0 / (rank + 3) for rank in range(1, num_passages + 1)], choices, PRIOR_WEIGHT)
    return sorted(range(num_passages), key=lambda position: (-worths[position], position))


def estimate_worths(prior: Sequence[float], choices: Sequence[Mapping[int, float]], prior_weight: float) -> list[float]:
    """Worths under which the choices and the prior are most likely together.

    A passage is chosen from a set with a probability of its worth over the sum of the set's worths. The prior counts
    as ``prior_weight`` choices of each passage, gained as often as its prior worth makes due.

    Args:
        prior: what each passage is worth beforehand, above 0.
        choices: for each question, the share of the choice that each passage shown has got; shares sum to 1.
        prior_weight: how many choices the prior is worth, above 0.

    Returns:
        A worth above 0 for each passage.

    Source:
        Hunter 2004, MM algorithms for generalized Bradley-Terry models, with the Gamma priors of Caron and Doucet
        2012, arXiv 1011.1761.

    >>> [round(worth, 3) for worth in estimate_worths([1.0, 1.0, 1.0], [{0: 1.0, 1: 0.0}], 1.0)]
    [1.333, 0.667, 1.0]
    """
    won = [prior_weight] * len(prior)
    for choice in choices:
        for position, share in choice.items():
            won[position] += share
    worths = list(prior)
    for _ in range(NUM_ITERATIONS):
        due = [prior_weight / beforehand for beforehand in prior]
        for choice in choices:
            each = 1.0 / sum(worths[position] for position in choice)
            for position in choice:
                due[position] += each
        worths = [gained / expected for gained, expected in zip(won, due, strict=True)]
    return worths

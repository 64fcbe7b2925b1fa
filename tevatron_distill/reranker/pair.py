"""Ranking by comparisons, for students that read two passages at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from torch import Tensor

from tevatron_distill.layouts import PairLayout
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.reranker.batches import Batcher
from tevatron_distill.schema import Candidates, InputError
from tevatron_distill.sorting import Question, Sort, Sorted, allpair, heapsort, run_in_lockstep, sliding_window

NUM_PASSES = 10
ROWS_AT_ONCE = 4096
"""Rows that exist at the same time; a hundred passages in full make 9,900."""


def _full(count: int, num_passes: int) -> Sort:
    return allpair(count)


def _bubble(count: int, num_passes: int) -> Sort:
    return sliding_window(count, num_passes, window_size=2, step_size=1)


def _heap(count: int, num_passes: int) -> Sort:
    return heapsort(count, top_k=num_passes)


INFERENCE_MODES: dict[str, Callable[[int, int], Sort]] = {
    "full": _full,
    "bubble": _bubble,
    "heapsort": _heap,
    "allpair": _full,
    "sliding_window": _bubble,
}
"""How a list is ranked: ``full`` (= allpair) compares all pairs; ``bubble`` (= sliding_window) carries the best to the
front, once for each of ``num_passes`` places, from the first stage's order; ``heapsort`` finds as many with fewer
comparisons of long lists."""

AGGREGATIONS = ("max_logits", "max_wins")


class Plan(NamedTuple):
    """How lists are ranked.

    Attributes:
        mode: key of `INFERENCE_MODES`.
        aggregation: ``max_logits`` adds margins, ``max_wins`` counts comparisons won, in each order shown.
        orders: in how many orders two passages are shown, 2 or 1.
        num_passes: how many top places ``bubble`` and ``heapsort`` find.
    """

    mode: str = "full"
    aggregation: str = "max_logits"
    orders: int = 2
    num_passes: int = NUM_PASSES

    @classmethod
    def of(cls, settings: RerankerSettings) -> Plan:
        """What the settings ask for, with LLM-Blender's choices where they do not.

        Raises:
            InputError: if they ask for something that is not there.
        """
        return cls(
            settings.inference_mode or "full",
            settings.pair_aggregation or "max_logits",
            2 if settings.orders is None else settings.orders,
            NUM_PASSES if settings.num_passes is None else settings.num_passes,
        ).checked()

    def checked(self) -> Plan:
        """This plan.

        Raises:
            InputError: if it asks for something that is not there.
        """
        plan = self
        if plan.mode not in INFERENCE_MODES:
            raise InputError(f"inference_mode must be one of {', '.join(INFERENCE_MODES)}; got {plan.mode!r}")
        if plan.aggregation not in AGGREGATIONS:
            raise InputError(f"pair_aggregation must be one of {', '.join(AGGREGATIONS)}; got {plan.aggregation!r}")
        if plan.orders not in (1, 2) or plan.num_passes < 1:
            raise InputError(
                f"orders must be 1 or 2 and num_passes at least 1; got {plan.orders} and {plan.num_passes}"
            )
        return plan


Pair = tuple[int, int, int]
"""Index of a list, and the positions of the passages shown first and second."""


@dataclass
class Comparer:
    """Compares passages of these lists, each pair once.

    Args:
        model: the student's model.
        layout: its layout.
        batcher: forms the batches.
        candidates: the lists.
        orders: in how many orders two passages are shown; one order is the first stage's.
        logits: what was found: the first passage's logit less the second's.
        tokens: of the texts shown so far, list by list.
    """

    model: Any
    layout: PairLayout
    batcher: Batcher
    candidates: Sequence[Candidates]
    orders: int = 2
    logits: dict[Pair, float] = field(default_factory=dict)
    tokens: dict[int, dict[int | None, list[int]]] = field(default_factory=dict)

    def views(self, index: int, i: int, j: int) -> list[Pair]:
        """The orders in which two passages are shown; passages with equal texts are never shown."""
        one, two = self.candidates[index].passages[i], self.candidates[index].passages[j]
        if (one.title, one.text) == (two.title, two.text):
            return []
        return [(index, i, j), (index, j, i)] if self.orders == 2 else [(index, min(i, j), max(i, j))]

    def wins(self, index: int, i: int, j: int) -> list[float]:
        """How far i is ahead of j in each order shown."""
        return [self.logits[view] * (1 if view[1] == i else -1) for view in self.views(index, i, j)]

    def margin(self, index: int, i: int, j: int) -> float:
        """How far i is ahead of j, the mean over the orders: an entry of (M - Mᵀ) / 2."""
        wins = self.wins(index, i, j)
        return sum(wins) / len(wins) if wins else 0.0

    def ask(self, questions: Sequence[tuple[int, Question]]) -> None:
        """Compare the pairs that were not compared yet, batched over all lists."""
        views = (view for index, (i, j) in questions for view in self.views(index, i, j))
        wanted = iter(list(dict.fromkeys(view for view in views if view not in self.logits)))
        while part := list(islice(wanted, ROWS_AT_ONCE)):
            self.compare(part)

    def compare(self, views: Sequence[Pair]) -> None:
        """Show the model these pairs."""

        def forward(inputs: dict[str, Tensor], batch: list[int]) -> list[float]:
            outputs = self.model(**{name: inputs[name] for name in self.layout.model_inputs})
            first, second = self.layout.row_scores(outputs).T
            margins: list[float] = (first - second).tolist()
            return margins

        by_list: dict[int, list[Pair]] = {}
        for view in views:
            by_list.setdefault(view[0], []).append(view)
        ordered = [view for part in by_list.values() for view in part]
        rows = [
            row
            for index, part in by_list.items()
            for row in self.layout.rows(
                self.candidates[index], [(i, j) for _, i, j in part], self.tokens.setdefault(index, {})
            )
        ]
        for place, margin in self.batcher.run(self.layout, rows, forward):
            self.logits[ordered[place]] = margin

    def sort(self, plan: Plan, sign: int = 1) -> Iterator[tuple[int, Sorted]]:
        """Sort all lists together.

        Args:
            plan: how.
            sign: 1 for the best first, -1 for the worst.

        Yields:
            Index and result of each list as it is done. ``full`` has scores, the others have none.
        """
        counts = full_wins if plan.aggregation == "max_wins" and INFERENCE_MODES[plan.mode] is _full else None

        def ask(questions: list[tuple[int, Question]]) -> list[tuple[float, float]]:
            self.ask(questions)
            if counts is not None:
                return [counts([sign * win for win in self.wins(index, i, j)]) for index, (i, j) in questions]
            margins = [sign * self.margin(index, i, j) for index, (i, j) in questions]
            return [(margin, -margin) for margin in margins]

        sorts = [INFERENCE_MODES[plan.mode](len(one.passages), plan.num_passes) for one in self.candidates]
        return run_in_lockstep(sorts, ask)


def full_wins(wins: Sequence[float]) -> tuple[float, float]:
    """How many comparisons the first and the second passage have won; a draw is nobody's.

    >>> full_wins([0.5, -1.0]), full_wins([0.5, 2.0]), full_wins([0.0])
    ((1, 1), (2, 0), (0, 0))
    """
    return sum(win > 0 for win in wins), sum(win < 0 for win in wins)


def score_pairs(
    model: Any, layout: PairLayout, batcher: Batcher, candidates: Sequence[Candidates]
) -> list[list[float]]:
    """Scores by the plan of the settings.

    With all pairs and logits a passage's score is LLM-Blender's: the mean over all n passages j, itself included, of
    ``M_ij - M_ji``, where ``M_ij`` is how far i is ahead when it is shown first. Sorts that find an order only give
    ``n`` to the best and 1 to the last.
    """
    plan = Plan.of(layout.settings)
    comparer = Comparer(model, layout, batcher, candidates, plan.orders)
    scores: list[list[float]] = [[] for _ in candidates]
    for index, found in comparer.sort(plan):
        scores[index] = list_scores(found, plan)
    return scores


def list_scores(found: Sorted, plan: Plan) -> list[float]:
    """The scores of one sorted list, aligned with its passages."""
    count = len(found.order)
    if found.scores is None:
        place_of = {position: place for place, position in enumerate(found.order)}
        return [float(count - place_of[position]) for position in range(count)]
    scale = 2 / count if plan.aggregation == "max_logits" else 1.0
    return [scale * score for score in found.scores]

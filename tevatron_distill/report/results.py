"""What the systems reach: means with intervals, tests of every pair, gains and losses of every query."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tevatron_distill.metrics import Evaluation, Interval, PairedTest, evaluate, mean_interval, paired_test
from tevatron_distill.report.systems import System
from tevatron_distill.schema import Qrels


class Comparison(NamedTuple):
    """Two systems by one measure.

    Attributes:
        measure: the measure.
        first: name of the one.
        second: name of the other.
        test: second minus first.
    """

    measure: str
    first: str
    second: str
    test: PairedTest


class Gain(NamedTuple):
    """How one query changed.

    Attributes:
        query_id: the query.
        before: its value by the first system.
        after: its value by the other.
    """

    query_id: str
    before: float
    after: float

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before


@dataclass(frozen=True)
class Results:
    """All that is measured.

    Attributes:
        systems: the first is what the others are compared with.
        measures: the first is the one in the pictures.
        evaluations: ``{system: evaluation}``.
        intervals: ``{system: {measure: mean with its interval}}``; None for a measure that is no mean over queries
            (counts), or is not defined for some.
        comparisons: every pair of systems by every measure.
    """

    systems: tuple[System, ...]
    measures: tuple[str, ...]
    evaluations: dict[str, Evaluation]
    intervals: dict[str, dict[str, Interval | None]]
    comparisons: tuple[Comparison, ...]

    @property
    def first(self) -> System:
        """What the others are compared with."""
        return self.systems[0]

    @property
    def focus(self) -> System:
        """What the report is about: the last run, or where there is one run alone, the first teacher."""
        runs = [system for system in self.systems if not system.is_teacher]
        return runs[-1] if len(runs) > 1 else self.systems[min(1, len(self.systems) - 1)]

    def gains(self, system: str, measure: str) -> list[Gain]:
        """Every query against the first system, largest gain first; equal ones in the order of the judgements."""
        before = self.evaluations[self.first.name].per_query[measure]
        after = self.evaluations[system].per_query[measure]
        gains = [Gain(query_id, value, after[query_id]) for query_id, value in before.items()]
        return sorted((gain for gain in gains if not math.isnan(gain.change)), key=lambda gain: -gain.change)

    def kept(self, measure: str) -> list[str]:
        """What share of a teacher's gain over the first system each other run keeps, in words."""
        mean = {name: evaluation.mean[measure] for name, evaluation in self.evaluations.items()}
        seconds = {system.name: system.seconds for system in self.systems}
        sentences = []
        for teacher in (system for system in self.systems if system.is_teacher):
            gained = mean[teacher.name] - mean[self.first.name]
            for run in (system for system in self.systems[1:] if not system.is_teacher and gained > 0):
                kept = (mean[run.name] - mean[self.first.name]) / gained
                words = f"{run.name} keeps {kept:.0%} of the gain of {teacher.name} over {self.first.name} in {measure}"
                own, other = seconds[run.name], seconds[teacher.name]
                if own is not None and other is not None:
                    words += f", at {_ratio(own / other)} its time a query"
                sentences.append(words + ".")
        return sentences


def build_results(systems: Sequence[System], qrels: Qrels, measures: Sequence[str]) -> Results:
    """Measure all systems.

    Raises:
        InputError: as `evaluate`.
    """
    evaluations = {system.name: evaluate(system.run, qrels, measures) for system in systems}
    comparisons = [
        Comparison(measure, first, second, _test(evaluations[first], evaluations[second], measure))
        for measure in measures
        for first, second in itertools.combinations(evaluations, 2)
    ]
    intervals = {
        name: {measure: mean_interval(evaluation, measure) for measure in measures}
        for name, evaluation in evaluations.items()
    }
    return Results(tuple(systems), tuple(measures), evaluations, intervals, tuple(comparisons))


def _test(first: Evaluation, second: Evaluation, measure: str) -> PairedTest:
    return paired_test(first.per_query[measure], second.per_query[measure])


def _ratio(value: float) -> str:
    """A quotient of times, in words.

    >>> _ratio(0.5), _ratio(0.004), _ratio(2.5)
    ('0.50 of', '0.0040 of', '2.5 times')
    """
    if value >= 1:
        return f"{value:.1f} times"
    return f"{value:.{max(2, 1 - math.floor(math.log10(value)))}f} of"

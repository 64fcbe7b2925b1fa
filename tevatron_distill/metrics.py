"""How good a run is, by ir-measures, and whether a difference between two runs is more than chance.

scipy.stats is imported where runs are compared: it takes longer than the rest of an evaluation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import ir_measures
import numpy as np

from tevatron_distill.schema import InputError, Qrels, Run

logger = logging.getLogger(__name__)

# ir_measures' own list without gdeval (a Perl script, which its package lacks) and the ones that need more packages.
PROVIDERS = ("pytrec_eval", "judged", "msmarco", "compat", "accuracy")
NUM_RESAMPLES = 10_000
RESAMPLED_AT_ONCE = 1 << 18  # values held at a time


@dataclass(frozen=True)
class Evaluation:
    """Values of one run.

    Attributes:
        mean: ``{measure: mean over all judged queries}`` (a sum for counting measures such as NumRet).
        per_query: ``{measure: {query_id: value}}`` for all judged queries, in the order of the qrels.
    """

    mean: dict[str, float]
    per_query: dict[str, dict[str, float]]


class Interval(NamedTuple):
    """A mean over queries, and where it may lie had other queries been drawn.

    Attributes:
        mean: the mean.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
    """

    mean: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """The difference of two runs over the same queries.

    Attributes:
        difference: mean of the second minus mean of the first.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        p: two-sided p-value of the paired t-test; 1.0 where it is not defined (fewer than two queries).
    """

    difference: float
    low: float
    high: float
    p: float


def evaluate(run: Run, qrels: Qrels, measures: Sequence[str]) -> Evaluation:
    """Measure a run as ``trec_eval -c`` does: a judged query that the run lacks counts as 0.

    Queries of the run without judgements are left out. Scores are compared in single precision and ties are broken
    by docid, descending, for every measure; so a run of somebody else's with tied scores is not measured in the
    order of its lines or ranks. Runs of ours have no ties.

    Args:
        run: the run.
        qrels: the judgements.
        measures: names as ir-measures spells them, such as ``nDCG@10``, ``RR@10``, ``R@100``, ``AP(rel=2)``.

    Raises:
        InputError: if a measure is unknown, a score is not finite, or run and judgements share no query.

    >>> evaluate({"q1": {"a": 2.0, "b": 1.0}}, {"q1": {"b": 1}, "q2": {"a": 1}}, ["RR@10"]).mean
    {'RR@10': 0.25}
    """
    parsed = {name: parse_measure(name) for name in measures}
    _check_overlap(run, qrels)
    ordered = {query_id: _untied(query_id, run[query_id]) for query_id in qrels if run.get(query_id)}
    try:
        result = _provider().calc(set(parsed.values()), qrels, ordered)
    except ValueError as error:
        raise InputError(f"measures must be computable here; got {', '.join(measures)} ({error})") from error
    values: dict[Any, dict[str, float]] = {measure: dict.fromkeys(qrels, 0.0) for measure in parsed.values()}
    for metric in result.per_query:
        values[metric.measure][metric.query_id] = float(metric.value)
    per_query = {name: values[measure] for name, measure in parsed.items()}
    return Evaluation({name: _aggregate(parsed[name], values) for name, values in per_query.items()}, per_query)


def parse_measure(name: str) -> Any:
    """The ir-measures object of a name.

    Raises:
        InputError: if there is no such measure.
    """
    try:
        measure = ir_measures.parse_measure(name)
        supported = _provider().supports(measure)
    except (ValueError, NameError, AttributeError, TypeError, AssertionError) as error:  # its checks are assertions
        raise InputError(f"a measure must be an ir-measures name such as nDCG@10 or AP(rel=2); got {name!r}") from error
    if not supported:
        raise InputError(f"measure {name!r} is not computable here; trec_eval's measures and RR@k are")
    return measure


def paired_test(first: Mapping[str, float], second: Mapping[str, float], seed: int = 0) -> PairedTest:
    """Compare two runs query by query.

    Args:
        first: ``{query_id: value}`` of the baseline.
        second: the same queries of the other run.
        seed: of the bootstrap, which resamples queries.

    Raises:
        InputError: if the queries differ, or there are none.
    """
    if first.keys() != second.keys() or not first:
        raise InputError(f"a paired test needs the same queries twice; got {len(first)} and {len(second)} queries")
    differences = np.array([second[query_id] - value for query_id, value in first.items()], dtype=np.float64)
    return PairedTest(*_resampled(differences, seed), _p_value(differences))


def bootstrap_interval(values: Mapping[str, float], seed: int = 0) -> Interval:
    """The mean of one run's values with its interval.

    Args:
        values: ``{query_id: value}``.
        seed: of the bootstrap, which resamples queries.

    Raises:
        InputError: if there are no values.

    >>> bootstrap_interval({"q1": 0.25, "q2": 0.25})
    Interval(mean=0.25, low=0.25, high=0.25)
    """
    if not values:
        raise InputError("an interval needs at least one query; got none")
    return _resampled(np.array(list(values.values()), dtype=np.float64), seed)


def mean_interval(evaluation: Evaluation, measure: str) -> Interval | None:
    """The interval of a run's mean; None for a measure that is no mean over queries (counts)."""
    interval = bootstrap_interval(evaluation.per_query[measure])
    return interval if math.isclose(interval.mean, evaluation.mean[measure], abs_tol=1e-9) else None


def measured_order(scores: Mapping[str, float]) -> list[str]:
    """One query's docids, best first, as `evaluate` sees them: ties of single precision by docid, descending.

    >>> measured_order({"a": 1.0, "c": 1.0, "b": 2.0})
    ['b', 'c', 'a']
    """
    order = sorted(scores, reverse=True)
    order.sort(key=lambda docid: -np.float32(scores[docid]))
    return order


def _resampled(values: np.ndarray[Any, np.dtype[np.float64]], seed: int) -> Interval:
    generator = np.random.default_rng(seed)
    size = len(values)
    rows = max(1, RESAMPLED_AT_ONCE // size)
    means = [
        values[generator.integers(0, size, (min(rows, NUM_RESAMPLES - done), size))].mean(axis=1)
        for done in range(0, NUM_RESAMPLES, rows)
    ]
    low, high = np.percentile(np.concatenate(means), [2.5, 97.5])
    return Interval(float(values.mean()), float(low), float(high))


def _p_value(differences: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    if len(differences) < 2 or not differences.any():
        return 1.0
    if np.ptp(differences) == 0.0:  # no variance: the t statistic is infinite
        return 0.0
    import scipy.stats

    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)


def _provider() -> Any:
    return ir_measures.providers.FallbackProvider([ir_measures.providers.registry[name] for name in PROVIDERS])


def _check_overlap(run: Run, qrels: Qrels) -> None:
    judged = sum(query_id in qrels for query_id in run)
    if not judged:
        raise InputError(
            f"run and judgements must share queries; got {len(run)} queries {_some(run)} in the run and "
            f"{len(qrels)} {_some(qrels)} in the judgements, none in both"
        )
    if judged < len(run):
        logger.info("%d of the run's %d queries have judgements; the others are left out", judged, len(run))
    if judged < len(qrels):
        logger.warning(
            "%d of %d judged queries are missing from the run and count as 0", len(qrels) - judged, len(qrels)
        )


def _some(names: Mapping[str, object]) -> str:
    return f"({', '.join(list(names)[:3])}, …)"


def _untied(query_id: str, scores: Mapping[str, float]) -> dict[str, float]:
    """The same order as trec_eval's, as scores that no provider can order differently."""
    for docid, score in scores.items():
        if not math.isfinite(score):
            raise InputError(f'scores of a run must be finite; got {score} for docid "{docid}" of query "{query_id}"')
    order = measured_order(scores)
    return {docid: float(len(order) - place) for place, docid in enumerate(order)}


def _aggregate(measure: Any, values: Mapping[str, float]) -> float:
    aggregator = measure.aggregator()
    for value in values.values():
        aggregator.add(value)
    return float(aggregator.result())

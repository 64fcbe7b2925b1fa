"""How good the choice is among candidates with measured qualities instead of judgements (LLM-Blender's figures)."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tevatron_distill.metrics import Evaluation
from tevatron_distill.schema import Group, InputError, Run

logger = logging.getLogger(__name__)

AGREEMENTS = ("Pearson", "Spearman", "footrule")


@dataclass(frozen=True)
class Selection:
    """What a file of measured candidates says about some runs.

    Attributes:
        chosen: of each run, the measures of the candidate that it puts first.
        baselines: the same of ``oracle`` (the candidate of the best score), ``random`` (the mean of all), and the
            best single system, where docids name systems.
        agreement: of each run, how its scores agree with the candidates' scores.
    """

    chosen: dict[str, Evaluation]
    baselines: dict[str, Evaluation]
    agreement: dict[str, Evaluation]


def evaluate_selection(runs: Mapping[str, Run], groups: Sequence[Group], measures: Sequence[str]) -> Selection:
    """Measure the candidates that runs put first, beside what was there to be had.

    ``score`` is the score of the groups (a weighted mean of metrics); the best candidate, the best system and the
    agreement are by it. Only queries that every run holds are measured, with one warning, so that all lines of the
    table speak of the same queries.

    Args:
        runs: name to run; a docid must be among the query's candidates. Equal scores are ordered by docid, falling,
            as in trec_eval.
        groups: candidates with scores and metrics.
        measures: names of metrics, or ``score``.

    Returns:
        Figures for each query and their means. Pearson's and Spearman's coefficients (higher is better) are of a
        query's scores, and undefined (NaN, left out of the mean) where one side is constant; the footrule (lower is
        better) is the sum of the distances between the ranks, ties sharing their mean rank.

    Raises:
        InputError: if the runs share no query with the groups, name an unknown docid, or a measure is missing.

    Source:
        Selection as in LLM-Blender (Jiang et al. 2023, arXiv 2306.02561); its correlations are taken over the
        examples of each system, which needs equally many candidates everywhere, ours over the candidates of each
        example.
    """
    kept = [group for group in groups if all(group.query_id in run for run in runs.values())]
    if not kept:
        raise InputError(
            f"runs and candidates must share queries; got {len(groups)} queries with metrics, none in all runs"
        )
    if len(kept) < len(groups):
        logger.warning(
            "%d of %d queries are missing from a run and are left out of every line; rank them too for whole figures",
            len(groups) - len(kept),
            len(groups),
        )
    table = {group.query_id: _values(group, measures) for group in kept}
    chosen, agreement = {}, {}
    for name, run in runs.items():
        tops = {group.query_id: _top(name, run[group.query_id], group) for group in kept}
        chosen[name] = _evaluation(measures, {q: [v[tops[q]] for v in values] for q, values in table.items()})
        agreed = {group.query_id: _agreement(run[group.query_id], group) for group in kept}
        agreement[name] = _evaluation(AGREEMENTS, agreed)
    best = {group.query_id: _best(group) for group in kept}
    baselines = {
        "oracle": _evaluation(measures, {q: [v[best[q]] for v in values] for q, values in table.items()}),
        "random": _evaluation(measures, {q: [math.fsum(v) / len(v) for v in values] for q, values in table.items()}),
    }
    return Selection(chosen, baselines | _best_system(kept, table, measures), agreement)


def _values(group: Group, measures: Sequence[str]) -> list[tuple[float, ...]]:
    known = {**(group.metrics or {}), "score": group.scores or ()}
    for measure in measures:
        if not known.get(measure):
            raise InputError(
                f'query_id "{group.query_id}": measures must be metrics of its candidates; got {measure}, '
                f"there are {', '.join(name for name, values in known.items() if values) or 'none'}"
            )
    return [tuple(known[measure]) for measure in measures]


def _positions(name: str, scores: Mapping[str, float], group: Group) -> dict[str, int]:
    positions = {passage.docid: position for position, passage in enumerate(group.passages)}
    unknown = [docid for docid in scores if docid not in positions]
    if unknown:
        raise InputError(
            f'{name}: docid "{unknown[0]}" of query_id "{group.query_id}" is not among its {len(positions)} '
            "candidates; run and candidates must belong together"
        )
    return positions


def _top(name: str, scores: Mapping[str, float], group: Group) -> int:
    positions = _positions(name, scores, group)
    return positions[max(scores, key=lambda docid: (np.float32(scores[docid]), docid))]


def _best(group: Group) -> int:
    scores = group.scores or ()
    return scores.index(max(scores))


def _agreement(scores: Mapping[str, float], group: Group) -> list[float]:
    pairs = [
        (scores[passage.docid], own)
        for passage, own in zip(group.passages, group.scores or (), strict=True)
        if passage.docid in scores
    ]
    first, second = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    import scipy.stats  # takes longer than all else here

    ranks = scipy.stats.rankdata(-first), scipy.stats.rankdata(-second)
    footrule = float(np.abs(ranks[0] - ranks[1]).sum())
    if np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return [math.nan, math.nan, footrule]
    return [float(np.corrcoef(first, second)[0, 1]), float(np.corrcoef(*ranks)[0, 1]), footrule]


def _best_system(
    groups: Sequence[Group], table: Mapping[str, Sequence[tuple[float, ...]]], measures: Sequence[str]
) -> dict[str, Evaluation]:
    """The system with the best mean score, of those that wrote for at least half of the queries."""
    systems: dict[str, dict[str, int]] = {}
    for group in groups:
        for position, passage in enumerate(group.passages):
            systems.setdefault(passage.docid, {})[group.query_id] = position
    scores = {group.query_id: group.scores or () for group in groups}
    means = {
        docid: math.fsum(scores[q][position] for q, position in places.items()) / len(places)
        for docid, places in systems.items()
        if len(groups) > 1 and 2 * len(places) >= len(groups)
    }
    if not means:
        return {}
    best = max(means, key=lambda docid: means[docid])
    places = systems[best]
    share = "" if len(places) == len(groups) else f", {len(places)} of {len(groups)} queries"
    values = {q: [v[position] for v in table[q]] for q, position in places.items()}
    return {f"best single ({best}{share})": _evaluation(measures, values)}


def _evaluation(measures: Sequence[str], values: Mapping[str, Sequence[float]]) -> Evaluation:
    per_query = {
        measure: {query_id: float(row[column]) for query_id, row in values.items()}
        for column, measure in enumerate(measures)
    }
    return Evaluation({measure: _mean(list(column.values())) for measure, column in per_query.items()}, per_query)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan

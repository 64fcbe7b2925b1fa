"""LLM-Blender's mixed instructions: candidates that several models wrote, measured against a reference."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tevatron_distill.formats.annotated import is_missing
from tevatron_distill.formats.flagembedding import row_name
from tevatron_distill.formats.jsonl import check_distinct, id_field, list_field, number, parse_json, text_field
from tevatron_distill.formats.reading import ReadOptions, Row, Tally, names_of
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Candidates, Group, InputError, Passage

METRIC_WEIGHTS: Mapping[str, float] = {"bleu": 0.01, "bleu4": 0.01, "cider": 0.01, "spice": 0.01}
"""Weights of the metrics that are counted in percent; all others weigh 1."""
DEFAULT_METRICS = ("rouge1", "rouge2", "rougeLsum")
VERDICTS: Mapping[str, float] = {"A is better": 1.0, "B is better": 0.0, "Same good": 0.5, "Same bad": 0.5}
"""Answers of the judge in ``cmp_results`` and how far each prefers the first model."""


def parse_row(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    """The group of ``{"id", "instruction", "input", "output", "candidates": [{"model", "text", "scores"}, …]}``.

    The query is instruction and input, with a newline between them where both have words (the original has nothing
    there, which glues two words together). A candidate is named ``model/decoding_method``; candidates without text
    are left out, equal ones are kept. All scores that every candidate has become metrics of the group, unweighted;
    the weighted mean of ``using_metrics`` is its score. The judge's ``cmp_results`` are its preferences, and its
    order where there are no scores.

    Raises:
        InputError: if the row is malformed, no candidate passes the filters, or one lacks a metric that is used.
    """
    query_id, query, candidates = _read(place, row, options, tally)
    passages = _passages(place, query_id, candidates)
    metrics = _metrics(place, candidates, tally)
    preferences = _preferences(place, row, candidates, tally)
    if not metrics and not preferences:
        raise InputError(f"{place}: candidates must have scores or cmp_results to be learned from; the row has none")
    order = from_scores(_wins(len(passages), preferences))
    group = Group(
        query_id=query_id,
        query=query,
        passages=passages,
        permutation=order,
        num_ranked=len(order),
        preferences=preferences or None,
        teacher={"name": "cmp_results"},
        metrics=metrics or None,
        reference=_reference(place, row),
    )
    return [score_by_metrics(place, group, options.using_metrics) if metrics or options.using_metrics else group]


def parse_candidates(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Candidates]:
    """The candidates of a row, with or without scores, in the order of the file."""
    query_id, query, candidates = _read(place, row, options, tally)
    passages = _passages(place, query_id, candidates)
    return [Candidates(query_id, query, passages, tuple(-float(n) for n in range(len(passages))))]


def score_by_metrics(place: str, group: Group, using_metrics: str | None) -> Group:
    """The group with the weighted mean of some of its metrics as the teacher's scores and order.

    Args:
        place: where the group stands, for messages.
        group: has metrics.
        using_metrics: their names, comma-separated; by default rouge1, rouge2 and rougeLsum, or the only one.

    Raises:
        InputError: if one is not among the group's metrics, or the default is not.

    Source:
        METRIC_WEIGHTS of LLM-Blender (Jiang et al. 2023, arXiv 2306.02561).
    """
    metrics = group.metrics or {}
    names = metric_names(place, metrics, using_metrics)
    scores = weighted_mean(metrics, names)
    return replace(
        group,
        scores=scores,
        permutation=from_scores(scores),
        num_ranked=len(scores),
        judgements=None,
        teacher={"name": "metrics", "metrics": list(names)},
    )


def weighted_mean(metrics: Mapping[str, Sequence[float]], names: Sequence[str]) -> tuple[float, ...]:
    """The mean of the named metrics, each times its weight, for every candidate.

    >>> weighted_mean({"bleu": (50.0, 10.0), "rouge1": (0.3, 0.5)}, ["bleu", "rouge1"])
    (0.4, 0.3)
    """
    weighted = [[METRIC_WEIGHTS.get(name, 1.0) * value for value in metrics[name]] for name in names]
    return tuple(_sum(values) / len(names) for values in zip(*weighted, strict=True))


def metric_names(place: str, metrics: Mapping[str, Sequence[float]], using_metrics: str | None) -> tuple[str, ...]:
    """The metrics that count: those asked for, or rouge1, rouge2 and rougeLsum, or the only one there is.

    Raises:
        InputError: if one of them is not there.
    """
    names = names_of(using_metrics)
    unknown = [name for name in names if name not in metrics]
    if unknown:
        raise InputError(
            f"{place}: --using_metrics must name metrics that all candidates have; got {unknown[0]}, "
            f"there are {', '.join(metrics) or 'none'}"
        )
    if names:
        return names
    if set(DEFAULT_METRICS) <= metrics.keys():
        return DEFAULT_METRICS
    if len(metrics) == 1:
        return tuple(metrics)
    raise InputError(
        f"{place}: --using_metrics must say which metrics count; the candidates have {', '.join(metrics) or 'none'}"
    )


def _read(place: str, row: Row, options: ReadOptions, tally: Tally) -> tuple[str, str, list[Mapping[str, Any]]]:
    query_id = id_field(place, row, "id") if row.get("id") is not None else row_name(place, row, tally)
    parts = [text_field(place, row, key, blank=True) for key in ("instruction", "input")]
    query = "\n".join(part for part in parts if part.strip())
    if not query:
        raise InputError(f"{place}: instruction and input are empty; give the row one of them or drop it")
    kept = _filtered(place, list_field(place, row, "candidates"), options)
    named = [candidate for candidate in kept if text_field(place, candidate, "text", blank=True).strip()]
    for _ in range(len(kept) - len(named)):
        tally.note("candidates without text are left out", place)
    return query_id, query, named


def _filtered(place: str, candidates: Sequence[Any], options: ReadOptions) -> list[Mapping[str, Any]]:
    for candidate in candidates:
        if not isinstance(candidate, dict):
            raise InputError(f"{place}: a candidate must be an object with model and text; got {candidate!r}")
    models, methods = names_of(options.candidate_model), names_of(options.candidate_decoding_method)
    kept = [
        candidate
        for candidate in candidates
        if (not models or candidate.get("model") in models)
        and (not methods or candidate.get("decoding_method") in methods)
    ]
    if candidates and not kept:
        there = sorted({f"{candidate.get('model')}/{candidate.get('decoding_method')}" for candidate in candidates})
        raise InputError(
            f"{place}: --candidate_model and --candidate_decoding_method must leave a candidate; "
            f"there are {', '.join(there)}"
        )
    return kept[: options.n_candidates] if options.n_candidates > 0 else kept


def _passages(place: str, query_id: str, candidates: Sequence[Mapping[str, Any]]) -> tuple[Passage, ...]:
    counts: dict[str, int] = {}
    passages = []
    for position, candidate in enumerate(candidates, start=1):
        parts = [candidate.get("model"), candidate.get("decoding_method")]
        name = "/".join(str(part) for part in parts if part not in (None, "")) or f"candidate{position}"
        name = re.sub(r"\s+", "_", name)
        counts[name] = counts.get(name, 0) + 1
        docid = id_field(place, {"model": name if counts[name] == 1 else f"{name}#{counts[name]}"}, "model")
        passages.append(Passage(docid, text_field(place, candidate, "text")))
    check_distinct(place, passages, query_id)
    return tuple(passages)


def _metrics(place: str, candidates: Sequence[Mapping[str, Any]], tally: Tally) -> dict[str, tuple[float, ...]]:
    scores = [candidate.get("scores") or {} for candidate in candidates]
    for entry in scores:
        if not isinstance(entry, dict):
            raise InputError(f"{place}: scores of a candidate must be an object of metrics; got {entry!r}")
    values: dict[str, list[object]] = {}
    for name, value in (item for entry in scores for item in entry.items()):
        values.setdefault(id_field(place, {"metric": name}, "metric"), []).extend([] if is_missing(value) else [value])
    metrics = {}
    for name, measured in values.items():
        if len(measured) < len(scores):
            tally.note(f'metrics "{name}" that a candidate lacks are left out', place)
        else:
            metrics[name] = tuple(number(place, value, name) for value in measured)
    return metrics


def _preferences(
    place: str, row: Row, candidates: Sequence[Mapping[str, Any]], tally: Tally
) -> tuple[tuple[int, int, float], ...]:
    verdicts = row.get("cmp_results")
    if isinstance(verdicts, str):
        try:
            verdicts = parse_json(verdicts)
        except ValueError as error:
            raise InputError(f"{place}: cmp_results must be JSON; got {verdicts[:60]!r} ({error})") from error
    if not verdicts:
        return ()
    if not isinstance(verdicts, dict):
        raise InputError(f'{place}: cmp_results must be an object of "modelA,modelB"; got {verdicts!r}')
    positions: dict[str, list[int]] = {}
    for position, candidate in enumerate(candidates):
        positions.setdefault(str(candidate.get("model")), []).append(position)
    heard: dict[tuple[int, int], list[float]] = {}
    for pair, verdict in verdicts.items():
        if not isinstance(verdict, str) or verdict not in VERDICTS:
            raise InputError(f"{place}: a verdict must be one of {', '.join(VERDICTS)}; got {verdict!r} for {pair}")
        first, _, second = pair.partition(",")
        firsts, seconds = positions.get(first, []), positions.get(second, [])
        if len(firsts) > 1 or len(seconds) > 1:
            tally.note("verdicts on a model with several candidates are left out", place)
        elif firsts and seconds and first != second:
            i, j, value = firsts[0], seconds[0], VERDICTS[verdict]
            heard.setdefault((min(i, j), max(i, j)), []).append(value if i < j else 1.0 - value)
    return tuple((i, j, math.fsum(values) / len(values)) for (i, j), values in heard.items())


def _sum(values: Sequence[float]) -> float:
    try:
        return math.fsum(values)
    except OverflowError as error:
        raise InputError(f"metrics must be numbers whose sum is finite; got {list(values)}") from error


def _wins(num_passages: int, preferences: Sequence[tuple[int, int, float]]) -> list[float]:
    wins = [0.0] * num_passages
    for i, j, probability in preferences:
        wins[i] += probability
        wins[j] += 1.0 - probability
    return wins


def _reference(place: str, row: Row) -> str | None:
    output = row.get("output")
    if isinstance(output, list):
        output = output[0] if output else None
    text = text_field(place, {"output": output}, "output", blank=True)
    return text if text.strip() else None

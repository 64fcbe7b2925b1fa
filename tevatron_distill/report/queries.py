"""The query view's data: orders of every system, judgements and texts, within a given size."""

from __future__ import annotations

import bisect
import json
import math
from dataclasses import dataclass
from typing import Any

from tevatron_distill.metrics import measured_order
from tevatron_distill.report.results import Results
from tevatron_distill.report.systems import System
from tevatron_distill.report.texts import Texts
from tevatron_distill.schema import InputError, Qrels

MOST_MISSING = 20  # relevant passages that no order has, listed by name
SHORTEST = 80  # characters: shorter texts would say nothing


@dataclass(frozen=True)
class Selection:
    """What of the results is shown query by query.

    Attributes:
        max_queries: queries, those that changed most; -1 for all.
        depth: passages of each order.
    """

    max_queries: int = 100
    depth: int = 100


def build_view(results: Results, qrels: Qrels, texts: Texts, selection: Selection) -> dict[str, Any]:
    """What the page's script shows.

    Returns:
        ``systems`` (names), ``teachers`` (their places), ``measures``, ``focus`` (its place), ``passages``
        (``[docid, title, text]``, each once) and ``queries`` (``id``, ``text``, ``values[measure][system]``,
        ``orders[system]`` of places in ``passages``, how many of them are ``ranked[system]`` (null for all),
        ``grades`` of the passages, ``missing`` relevant docids).
    """
    places: dict[tuple[str, str, str], int] = {}
    queries = [
        _query(results, qrels[query_id], texts, query_id, selection.depth, places)
        for query_id in chosen_queries(results, selection.max_queries)
    ]
    return {
        "systems": [system.name for system in results.systems],
        "teachers": [place for place, system in enumerate(results.systems) if system.is_teacher],
        "focus": results.systems.index(results.focus),
        "measures": list(results.measures),
        "queries": queries,
        "passages": [list(passage) for passage in places],
    }


def chosen_queries(results: Results, max_queries: int) -> list[str]:
    """Judged queries of any run, those first that changed most from the first system to the focus."""
    gains = results.gains(results.focus.name, results.measures[0])
    there = {query_id for system in results.systems for query_id in system.run}
    order = list(next(iter(results.evaluations.values())).per_query[results.measures[0]])
    changes = {gain.query_id: abs(gain.change) for gain in gains}
    found = sorted((query_id for query_id in order if query_id in there), key=lambda name: -changes.get(name, 0.0))
    return found if max_queries == -1 else found[:max_queries]


def _query(
    results: Results,
    grades: dict[str, int],
    texts: Texts,
    query_id: str,
    depth: int,
    places: dict[tuple[str, str, str], int],
) -> dict[str, Any]:
    orders = [measured_order(system.run.get(query_id, {}))[:depth] for system in results.systems]
    place_of: dict[str, int] = {}
    for docid in (docid for order in orders for docid in order):
        if docid not in place_of:
            passage = texts.passage(query_id, docid)
            key = (docid, passage.title, passage.text) if passage else (docid, "", "")
            place_of[docid] = places.setdefault(key, len(places))
    missing = [docid for docid, grade in grades.items() if grade > 0 and docid not in place_of]
    values = [
        [_rounded(results.evaluations[system.name].per_query[measure][query_id]) for system in results.systems]
        for measure in results.measures
    ]
    return {
        "id": query_id,
        "text": texts.queries.get(query_id, ""),
        "values": values,
        "orders": [[place_of[docid] for docid in order] for order in orders],
        "grades": {str(place): grades[docid] for docid, place in place_of.items() if docid in grades},
        "ranked": [_ranked(system, query_id) for system in results.systems],
        "missing": missing[:MOST_MISSING],
        "num_missing": len(missing),
    }


def fit_texts(view: dict[str, Any], num_bytes: int) -> tuple[dict[str, Any], int | None]:
    """Cut the passages' texts so that they fill at most so many bytes.

    Args:
        view: of `build_view`.
        num_bytes: room for the texts, as they are embedded.

    Returns:
        The view, and the characters of the longest text that is left; None where nothing was cut.

    Raises:
        InputError: if the texts would be too short to be read.
    """
    texts = [text for _, _, text in view["passages"]]
    sizes = [_size(text) for text in texts]
    if sum(sizes) <= num_bytes:
        return view, None
    # Escapes and wide characters are spread evenly enough over a text for a first guess, which is then made smaller.
    costs = [(len(text), size / len(text)) for text, size in zip(texts, sizes, strict=True) if text]
    length = bisect.bisect(range(max(map(len, texts))), num_bytes, key=lambda length: _guess(costs, length)) - 1
    while sum(_size(cut(text, length)) for text in texts) > num_bytes and length >= SHORTEST:
        length = length * 99 // 100
    if length < SHORTEST:
        raise InputError(
            f"the page has no room for {len(view['queries'])} queries with {len(texts)} passages; lower --max_queries "
            "or --depth, or raise --max_megabytes"
        )
    passages = [[docid, title, cut(text, length)] for docid, title, text in view["passages"]]
    return {**view, "passages": passages}, length


def without_texts(view: dict[str, Any]) -> dict[str, Any]:
    """The view with empty passages."""
    return {**view, "passages": [[docid, title, ""] for docid, title, _ in view["passages"]]}


def cut(text: str, length: int) -> str:
    """A text of at most so many characters, with a sign where it was cut.

    >>> cut("a passage", 5), cut("a passage", 9)
    ('a pa…', 'a passage')
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def embedded_json(value: object) -> str:
    """JSON that may stand in a page's ``<script type="application/json">``: nothing in it can end that.

    >>> print(embedded_json("</script><b>&"))
    "\\u003c/script\\u003e\\u003cb\\u003e\\u0026"
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no text


def _size(text: str) -> int:
    return len(embedded_json(text).encode()) - 2


def _guess(costs: list[tuple[int, float]], length: int) -> int:
    """Bytes of texts that are cut to a length, from the characters and the bytes a character of each."""
    return round(sum(min(characters, length) * cost for characters, cost in costs))


def _ranked(system: System, query_id: str) -> int | None:
    """How many places a teacher has ordered, where these are not all."""
    ranked = system.num_ranked.get(query_id)
    return None if ranked is None or ranked >= len(system.run[query_id]) else ranked


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None

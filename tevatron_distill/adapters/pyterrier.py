"""A student as a step of a PyTerrier pipeline: ``bm25 >> pt.text.get_text(…) >> pyterrier_transformer(reranker)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tevatron_distill.extras import load_package
from tevatron_distill.schema import Candidates, InputError, Passage

if TYPE_CHECKING:
    from tevatron_distill.reranker import Reranker
    from tevatron_distill.reranker.cascade import Cascade


def pyterrier_transformer(reranker: Reranker | Cascade, text_field: str = "text") -> Any:
    """A ``pyterrier.Transformer`` that reranks each query's rows; Java is not started for it.

    Args:
        reranker: any student.
        text_field: the column with the passages' texts.

    Raises:
        InputError: if PyTerrier is not installed.
    """
    pyterrier = load_package("pyterrier", "pyterrier_transformer")
    columns = ["qid", "query", "docno", text_field]
    return pyterrier.apply.generic(
        partial(rerank_frame, reranker, text_field=text_field), required_columns=columns, label="rerank"
    )


def rerank_frame(reranker: Reranker | Cascade, frame: Any, text_field: str = "text") -> Any:
    """Rerank the rows of a table, which needs no PyTerrier.

    Args:
        reranker: any student.
        frame: a pandas ``DataFrame`` with the columns qid, query, docno and ``text_field``, and title where there is
            one; a query's rows stand in first-stage order.
        text_field: the column with the passages' texts.

    Returns:
        The rows, best first within each query, with ``score`` and ``rank`` (0 for the best) made anew.

    Raises:
        InputError: if a column is missing, or a text.
    """
    rows: dict[str, list[int]] = {}
    for place, qid in enumerate(frame["qid"] if "qid" in frame.columns else ()):
        rows.setdefault(str(qid), []).append(place)
    lists = lists_of(frame, rows, text_field)
    order: list[int] = []
    score, rank = [0.0] * len(frame), [0] * len(frame)
    for places, scores in zip(rows.values(), reranker.score_candidates(lists), strict=True):
        best_first = sorted(range(len(places)), key=lambda position: -scores[position])
        order += [places[position] for position in best_first]
        for number, position in enumerate(best_first):
            score[places[position]], rank[places[position]] = scores[position], number
    return frame.assign(score=score, rank=rank).iloc[order]


def lists_of(frame: Any, rows: Mapping[str, Sequence[int]], text_field: str) -> list[Candidates]:
    """The candidates of each query.

    Args:
        frame: as in `rerank_frame`.
        rows: the places of each qid's rows.
        text_field: as in `rerank_frame`.

    Raises:
        InputError: if a column is missing, or a text.
    """
    missing = [name for name in ("qid", "query", "docno", text_field) if name not in frame.columns]
    if missing:
        raise InputError(
            f"reranking needs the columns qid, query, docno and {text_field}; {', '.join(missing)} is missing; texts "
            "come by pt.text.get_text, or are in another column: text_field"
        )
    queries, titles = list(frame["query"]), list(frame["title"]) if "title" in frame.columns else [""] * len(frame)
    passages = []
    for docno, text, title in zip(frame["docno"], frame[text_field], titles, strict=True):
        if not isinstance(text, str):
            raise InputError(f'docno "{docno}": {text_field} must be a text; got {text!r}; leave the row out')
        passages.append(Passage(str(docno), text, title if isinstance(title, str) else ""))
    return [
        Candidates(qid, str(queries[places[0]]), tuple(passages[place] for place in places), (0.0,) * len(places))
        for qid, places in rows.items()
    ]

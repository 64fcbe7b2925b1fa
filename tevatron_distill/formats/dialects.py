"""The table of dialects: how each is told by its first row, and who reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tevatron_distill.formats import (
    annotated,
    conversations,
    flagembedding,
    groups,
    instructdistill,
    labelled,
    llm_blender,
    rank_llm,
    rerank_input,
    tevatron,
    three_tables,
)
from tevatron_distill.formats.reading import Parse, ReadOptions, Row, Tally, each_row
from tevatron_distill.schema import Candidates, Group, InputError

GENERAL = frozenset({"dataset_format", "max_queries", "only_fitting"})
TABLES = frozenset({"queries_path", "corpus_path"})


@dataclass(frozen=True)
class Format:
    """A dialect of rows.

    Attributes:
        keys: what its rows hold, for messages.
        fits: whether a row is of this dialect.
        groups: reads training groups; None where the rows are candidates only.
        candidates: reads candidates; None where the order of the rows would give the verdict away.
        options: the fields of `ReadOptions` that it has a use for.
        needs: those without which nothing is read.
        verdict: the one without which there are candidates but no groups.
        adjacent: reads candidates as they come, from rows of which those of a query stand together; None where
            ``candidates`` does so itself.
    """

    keys: str
    fits: Callable[[Row, ReadOptions], bool]
    groups: Parse[Group] | None = None
    candidates: Parse[Candidates] | None = None
    options: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    verdict: str | None = None
    adjacent: Parse[Candidates] | None = None


def _parse_ours(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    group = groups.parse_group(place, row)
    return [
        group if options.using_metrics is None else llm_blender.score_by_metrics(place, group, options.using_metrics)
    ]


def _parse_our_candidates(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Candidates]:
    group = groups.parse_group(place, row)
    places = tuple(-float(n) for n in range(len(group.passages)))
    return [Candidates(group.query_id, group.query, group.passages, places)]


def _holds(*keys: str) -> Callable[[Row, ReadOptions], bool]:
    return lambda row, options: all(row.get(key) is not None for key in keys)


def _is_open_retrievals(row: Row, options: ReadOptions) -> bool:
    return (options.positive_key or "positive") in row and (options.query_key or "query") in row


FORMATS: dict[str, Format] = {  # told in this order: a row may hold the keys of a later dialect too
    "groups": Format(
        "query_id, query, passages, permutation",
        _holds("passages", "permutation"),
        each_row(_parse_ours),
        each_row(_parse_our_candidates),
        frozenset({"using_metrics"}),
    ),
    "rank_llm_conversations": Format(
        "id, conversations [system, human, gpt]",
        _holds("conversations"),
        each_row(conversations.parse_row),
        each_row(conversations.parse_candidates),
    ),
    "rank_llm": Format(
        "query, hits",
        _holds("query", "hits"),
        candidates=each_row(rank_llm.parse_hits),
        options=frozenset({"teacher_run_path"}),
        verdict="teacher_run_path",
    ),
    "rank_llm_requests": Format(
        "query {text, qid}, candidates [{docid, score, doc}]",
        _holds("query", "candidates"),
        candidates=each_row(rank_llm.parse_request),
        options=frozenset({"teacher_run_path"}),
        verdict="teacher_run_path",
    ),
    "llm_blender": Format(
        "id, instruction, input, output, candidates [{model, decoding_method, text, scores}]",
        lambda row, options: "candidates" in row and ("instruction" in row or "input" in row),
        each_row(llm_blender.parse_row),
        each_row(llm_blender.parse_candidates),
        frozenset({"candidate_model", "candidate_decoding_method", "n_candidates", "using_metrics"}),
    ),
    "instructdistill": Format(
        "query, retrieved_passages",
        _holds("query", "retrieved_passages"),
        instructdistill.parse_groups,
        each_row(instructdistill.parse_candidates),
        frozenset({"permutation_path"}),
        verdict="permutation_path",
    ),
    "tevatron": Format(
        "query_id, query, positive_passages, negative_passages",
        _holds("query", "positive_passages"),
        each_row(tevatron.parse_row),
    ),
    "three_tables": Format(
        "query_id, document_ids, scores",
        lambda row, options: three_tables.ids_key(row) is not None,
        three_tables.parse_groups,
        three_tables.parse_candidates,
        TABLES | {"query_data_config", "corpus_data_config"},
        TABLES,
    ),
    "annotated": Format(
        "query_id, query, passages [{title, text}], scores",
        lambda row, options: (
            "scores" in row
            and isinstance(row.get("passages"), list)
            and not any(isinstance(passage, str) for passage in row["passages"])
        ),
        each_row(annotated.parse_row),
    ),
    "flagembedding": Format(
        "query, pos, neg, pos_scores, neg_scores",
        lambda row, options: "pos" in row and "query" in row and options.positive_key not in row,
        each_row(flagembedding.parse_row),
    ),
    "labelled_lists": Format(
        "query, docs [text], labels [number]",
        lambda row, options: labelled.is_labelled_list(row) and options.positive_key not in row,
        each_row(labelled.parse_list),
        each_row(labelled.parse_list_candidates),
    ),
    "open_retrievals": Format(
        "query, positive, negative (or the keys of --query_key, --positive_key, --negative_key)",
        _is_open_retrievals,
        each_row(flagembedding.parse_open_retrievals),
        options=frozenset({"query_key", "positive_key", "negative_key", "unfold_each_positive"}),
    ),
    "labelled_pairs": Format(
        "query, document (or passage, text), label",
        lambda row, options: labelled.is_labelled_pair(row),
        labelled.parse_pairs,
    ),
    "rerank_rows": Format(
        "query_id, query, docid, title, text, score",
        _holds("query", "docid"),
        candidates=rerank_input.parse_candidates,
        adjacent=rerank_input.parse_adjacent,
        options=frozenset({"teacher_run_path"}),
        verdict="teacher_run_path",
    ),
}


def find_format(row: Row, source: str, options: ReadOptions) -> str:
    """The name of a row's dialect: the one that is asked for, or the first that fits.

    Raises:
        InputError: if the one asked for does not fit, or none does.
    """
    if options.dataset_format != "auto":
        asked = FORMATS[options.dataset_format]
        if not asked.fits(row, options):
            raise InputError(
                f"{source}: --dataset_format {options.dataset_format} needs rows of {asked.keys}; "
                f"got keys {', '.join(row)}"
            )
        return options.dataset_format
    for name, dialect in FORMATS.items():
        if dialect.fits(row, options):
            return name
    known = "; ".join(f"{name}: {dialect.keys}" for name, dialect in FORMATS.items())
    raise InputError(f"{source}: rows must be of a known dialect ({known}); got keys {', '.join(row)}")


def check_options(name: str, source: str, options: ReadOptions) -> None:
    """Refuse an option that the dialect has no use for, and miss one that it needs.

    Raises:
        InputError: in both cases.
    """
    dialect = FORMATS[name]
    for flag, default in vars(ReadOptions()).items():
        given = getattr(options, flag) not in (default, "")
        if given and not options.only_fitting and flag not in dialect.options | GENERAL:
            users = [other for other, entry in FORMATS.items() if flag in entry.options]
            raise InputError(f"--{flag} is for rows of {' or '.join(users)}; {source} holds {name} rows")
    for flag in sorted(dialect.needs):
        if not getattr(options, flag):
            raise InputError(f"{source}: {name} rows hold ids alone; give their texts by --{flag}")

"""How a student that encodes apart makes rows and scores, told so that `tokenizers` and numpy alone can do it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

from tokenizers import AddedToken

from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import CASES
from tevatron_distill.export.template import affixes
from tevatron_distill.layouts import DualLayout, RerankerSettings
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.similarity import Cosine, MaxSim, MutualMaxSim
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.colbert import NotSkipped, all_but_first, no_special
from tevatron_distill.students.sample import LONG_PASSAGE
from tevatron_distill.students.vectors import TextRows

POOLINGS = ("mean", "sum", "first")
"""What a score is of: the mean or the sum of the largest products of the query's tokens, or the product of the first
vectors."""


class Side(NamedTuple):
    """The rows of queries, or of passages.

    Attributes:
        before: stands before the text, a marker token included.
        behind: stands behind the text.
        stripped: white space behind the text is dropped.
        folded: white space in the text becomes single spaces, none at its ends.
        max_length: most tokens of a row, special tokens included; the end is cut.
        filler: id of a token that fills the row up to ``max_length``; fillers count. None for none.
        attended: the other tokens attend to the fillers.
        skipped: ids that do not count.
        start: the first place that counts.
    """

    before: str
    behind: str
    stripped: bool
    folded: bool
    max_length: int
    filler: int | None
    attended: bool
    skipped: list[int]
    start: int

    def fill(self, text: str) -> str:
        """The text of a row."""
        text = " ".join(text.split()) if self.folded else text
        return f"{self.before}{text.rstrip() if self.stripped else text}{self.behind}"

    def row(self, ids: list[int]) -> Row:
        """A row of the tokens of a text, which are cut already."""
        counted = [place >= self.start and token not in self.skipped for place, token in enumerate(ids)]
        room = 0 if self.filler is None else self.max_length - len(ids)
        filler = [self.filler or 0] * room
        return Row(
            [*ids, *filler], counted=counted + [True] * room, attended=[True] * len(ids) + [self.attended] * room
        )


class VectorRows(NamedTuple):
    """Rows and score.

    Attributes:
        query: of queries.
        passage: of passages.
        pooling: one of `POOLINGS`.
        temperature: the score is divided by it.
        zeros_below: a passage with fewer counted tokens than this has a vector of zeros, too; None for none.
    """

    query: Side
    passage: Side
    pooling: str
    temperature: float
    zeros_below: int | None

    def as_json(self) -> dict[str, Any]:
        """What `read_vector_rows` reads."""
        return {**self._asdict(), "query": self.query._asdict(), "passage": self.passage._asdict()}


def read_vector_rows(values: Mapping[str, Any]) -> VectorRows:
    """What `VectorRows.as_json` wrote."""
    return VectorRows(**{**values, "query": Side(**values["query"]), "passage": Side(**values["passage"])})


def vector_rows(layout: DualLayout, tokenizer: Any) -> VectorRows:
    """What a layout does.

    Args:
        layout: of a colbert or simcls student.
        tokenizer: as `plain_tokenizer` makes it.

    Raises:
        InputError: if the student scores in a way that other libraries do not have.
    """
    similarity = layout.similarity
    if isinstance(similarity, MutualMaxSim):
        raise InputError(
            "--colbert_convention mutual scores in both directions, as no other library does, so it cannot be "
            "exported; train with the convention mean, or publish the student's own folder"
        )
    if not isinstance(similarity, MaxSim | Cosine):
        raise TypeError(f"scores are those of MaxSim or Cosine; got {type(similarity).__name__}")
    pooling, zeros = "first", None
    if isinstance(similarity, MaxSim):
        pooling, zeros = "mean" if similarity.mean else "sum", similarity.pads_below
    sides = [side_of(rows, layout.settings, tokenizer) for rows in (layout.encode_query, layout.encode_passage)]
    return VectorRows(sides[0], sides[1], pooling, similarity.temperature, zeros)


def side_of(rows: Any, settings: RerankerSettings, tokenizer: Any) -> Side:
    """What `TextRows` does."""
    if not isinstance(rows, TextRows):
        raise TypeError(f"rows of texts are made by TextRows; got {type(rows).__name__}")
    marker = (settings.query_marker if rows.side == "query" else settings.passage_marker) or ""
    before, behind, stripped = affixes(rows.prefix)
    skipped: frozenset[int] = rows.counts.skipped if isinstance(rows.counts, NotSkipped) else frozenset()
    if rows.counts is no_special:
        skipped = frozenset(tokenizer("")["input_ids"])
    return Side(
        before=before if rows.marker is None else marker + before,
        behind=behind,
        stripped=stripped and not ignores_white_space(tokenizer),
        folded=rows.side == "passage" and not ignores_white_space(tokenizer),
        max_length=rows.length,
        filler=rows.filler,
        attended=rows.attend_to_filler,
        skipped=sorted(skipped),
        start=int(rows.counts is all_but_first),
    )


def ignores_white_space(tokenizer: Any) -> bool:
    """Whether any white space is to a tokenizer as one space, and none at a text's ends (as to BERT's)."""
    rows: list[list[int]] = tokenizer(["  one \t two\n\nthree. ", "one two three."])["input_ids"]
    return rows[0] == rows[1]


def plain_tokenizer(original: Original) -> Any:
    """The student's tokenizer, by which a marker that stands in a text is that token."""
    tokenizer, settings = copy.deepcopy(original.loaded.tokenizer), original.layout.settings
    if not tokenizer.is_fast:
        raise InputError(f"{original.path}: is exported with a fast tokenizer; got {type(tokenizer).__name__}")
    markers = [marker for marker in (settings.query_marker, settings.passage_marker) if marker]
    if markers:  # one that a tokenizer lower-cases, as BERT's does with what is added to it, is never found in a text
        tokenizer.add_special_tokens(
            {"additional_special_tokens": [AddedToken(one, normalized=False, special=True) for one in markers]}
        )
    tokenizer.chat_template = None
    tokenizer.backend_tokenizer.no_truncation()  # what the last row was cut at would be saved
    return tokenizer


def check_rows(original: Original, tokenizer: Any, rows: VectorRows) -> None:
    """See that texts alone become the student's rows, long ones included.

    Raises:
        InputError: if they become others.
    """
    layout = original.layout
    if not isinstance(layout, DualLayout):
        raise TypeError(f"rows of queries and of passages are those of DualLayout; got {type(layout).__name__}")
    tokenizer = copy.deepcopy(tokenizer)
    passages = [passage for case in CASES for passage in case.passages]
    texts: list[tuple[Side, str, Row]] = [
        *((rows.query, case.query, layout.encode_query(case.query)) for case in CASES),
        (rows.query, LONG_PASSAGE.text, layout.encode_query(LONG_PASSAGE.text)),
        *((rows.passage, one.text, layout.encode_passage(one)) for one in (*passages, Passage("", LONG_PASSAGE.text))),
    ]
    for side, text, wanted in texts:
        ids = tokenizer(side.fill(text), truncation=True, max_length=side.max_length)["input_ids"]
        made = side.row(list(ids))
        same = made.input_ids == wanted.input_ids and (made.counted == wanted.counted or rows.pooling == "first")
        if not same or made.attended != (wanted.attended or [True] * len(ids)):
            raise InputError(
                f"{original.path}: the tokenizer alone makes other rows of {text[:40]!r} than the student reads; "
                "nothing was written"
            )

"""What inference must repeat: written beside the weights by training, read back by reranking, never guessed again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.schema import InputError

SETTINGS_FILE = "reranker_config.json"


@dataclass(frozen=True)
class RerankerSettings:
    """How texts become token rows and outputs become scores; the file is Tevatron's, with more keys.

    Attributes:
        student: name in ``STUDENTS``.
        reranker_model_type: Tevatron's key; ``sequence_classification``.
        reranker_pooling: Tevatron's key; kept as read.
        attn_implementation: Tevatron's key: the attention that training used. Recorded, never imposed on the caller.
        prompt: name of the student's prompt (yes_token, listwise).
        yes_token: the answer whose logit is the score.
        yes_token_id: its id, as found behind the prompt.
        no_token: the answer whose logit is subtracted; empty for none.
        no_token_id: its id.
        task_prompt: the prompt's instruction, in place of the published one.
        rerank_max_len: tokens of a row, special tokens included: a query and a passage, or a window with its answer.
        query_max_len: tokens of the query (cross-encoder: without special tokens; colbert: with them).
        passage_max_len: tokens of the passage, counted likewise.
        query_prefix: put before the query, with one space between; or a template in which ``{}`` is the query.
        passage_prefix: put before the passage, with one space between; or a template in which ``{}`` is the passage.
        append_eos_token: the row ends in the end-of-sequence token (decoder cross-encoders).
        pad_token_id: the pad token, which no row may end in.
        padding_side: ``left`` or ``right``.
        pad_to_multiple_of: row lengths are rounded up to a multiple of it; 0 or 1 does not round.
        softcap: ``cap * tanh(x / cap)`` is applied to the logit (Gemma 2).
        pair_encoding: the tokenizer joins query and passage with its own special tokens (BERT's way).
        temperature: similarities are divided by it (colbert, simcls; open-retrievals' only in training).
        count_special_tokens: the tokenizer's special tokens take part in MaxSim (colbert's convention ``mean``).
        colbert_convention: key of ``CONVENTIONS`` (colbert).
        colbert_dim: width of the projection; 0 for none (colbert).
        query_marker: token put behind the query's first (PyLate's convention); empty for none.
        passage_marker: token put behind the passage's first (PyLate's convention); empty for none.
        query_expansion: queries are filled up with mask tokens to ``query_max_len`` (PyLate's convention).
        attend_to_expansion: the query's tokens attend to those mask tokens, too.
        skiplist: tokens of a passage that do not count (PyLate's convention).
        metrics: names of the measures that a student of several towers predicts (summa_reranker).
        window_size: passages that are shown at once (listwise).
        step_size: how far the window moves when a longer list is ranked (listwise).
        num_passes: how often a longer list is walked through (listwise); how many top places bubble and heapsort find
            (pair_ranker).
        decode: how an order is read: the ``logits`` of the identifiers, or ``generation`` (listwise).
        inference_mode: key of ``INFERENCE_MODES``, which pairs are compared to rank a list (pair_ranker).
        pair_aggregation: a passage's score from all its comparisons: ``max_logits`` or ``max_wins`` (pair_ranker).
        orders: in how many orders two passages are shown when they are ranked, 2 or 1 (pair_ranker).
        special_tokens: what the tokenizer puts around one text and around two, where an exported folder's adds nothing.
    """

    student: str = "cross_encoder"
    reranker_model_type: str = "sequence_classification"
    reranker_pooling: str = "last"
    attn_implementation: str | None = None
    prompt: str | None = None
    yes_token: str | None = None
    yes_token_id: int | None = None
    rerank_max_len: int = 512
    query_max_len: int | None = None
    passage_max_len: int | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    append_eos_token: bool = False
    pad_token_id: int | None = None
    padding_side: str = "right"
    pad_to_multiple_of: int = 16
    softcap: float | None = None
    pair_encoding: bool | None = None
    temperature: float | None = None
    count_special_tokens: bool | None = None
    no_token: str | None = None
    no_token_id: int | None = None
    task_prompt: str | None = None
    colbert_convention: str | None = None
    colbert_dim: int | None = None
    query_marker: str | None = None
    passage_marker: str | None = None
    query_expansion: bool | None = None
    attend_to_expansion: bool | None = None
    skiplist: tuple[str, ...] | None = None
    metrics: tuple[str, ...] | None = None
    window_size: int | None = None
    step_size: int | None = None
    num_passes: int | None = None
    decode: str | None = None
    inference_mode: str | None = None
    pair_aggregation: str | None = None
    orders: int | None = None
    special_tokens: tuple[str, str] | None = None

    def save(self, folder: str | Path) -> None:
        """Write ``reranker_config.json`` into a folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        Path(folder, SETTINGS_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> RerankerSettings | None:
        """Read a folder's settings; None where it has none. Keys of other programs are passed over.

        Raises:
            InputError: if the file is no JSON object, or a value is of another type than its key's.
        """
        path = Path(folder, SETTINGS_FILE)
        if not path.is_file():
            return None
        try:
            values = parse_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: must hold one JSON object; got {error}; train again or mend it") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: must hold one JSON object; got {type(values).__name__}")
        found: dict[str, Any] = {}
        for key, kind in get_type_hints(cls).items():
            value = values.get(key)
            if value is None:
                continue
            found[key] = tuple(value) if isinstance(value, list) else value
            if not _is_of(found[key], kind):
                raise InputError(f"{path}: {key} must be {getattr(kind, '__name__', kind)}; got {value!r}")
        return cls(**found)


def _is_of(value: object, kind: Any) -> bool:
    """Whether a value is of a field's type; a whole number is a float, too."""
    kinds = [get_origin(one) or one for one in (get_args(kind) if get_origin(kind) is UnionType else (kind,))]
    if isinstance(value, tuple):
        return tuple in kinds and all(isinstance(one, str) for one in value)
    return type(value) in kinds or (isinstance(value, int) and not isinstance(value, bool) and float in kinds)

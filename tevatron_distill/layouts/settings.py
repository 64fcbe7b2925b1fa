"""What inference must repeat: written beside the weights by training, read back by reranking, never guessed again."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

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
        prompt: name of the Yes-token student's prompt.
        yes_token: the answer whose logit is the score.
        yes_token_id: its id, as found behind the prompt.
        rerank_max_len: tokens of a (query, passage) row, special tokens included.
        query_max_len: tokens of the query (cross-encoder: without special tokens; colbert: with them).
        passage_max_len: tokens of the passage, counted likewise.
        query_prefix: put before the query, with one space between.
        passage_prefix: put before the passage, with one space between.
        append_eos_token: the row ends in the end-of-sequence token (decoder cross-encoders).
        pad_token_id: the pad token, which no row may end in.
        padding_side: ``left`` or ``right``.
        pad_to_multiple_of: row lengths are rounded up to a multiple of it; 0 or 1 does not round.
        softcap: ``cap * tanh(x / cap)`` is applied to the logit (Gemma 2).
        pair_encoding: the tokenizer joins query and passage with its own special tokens (BERT's way).
        temperature: the mean of the cosines is divided by it (colbert).
        count_special_tokens: the tokenizer's special tokens take part in MaxSim (colbert).
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

    def save(self, folder: str | Path) -> None:
        """Write ``reranker_config.json`` into a folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        Path(folder, SETTINGS_FILE).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: str | Path) -> RerankerSettings | None:
        """Read a folder's settings; None where it has none. Keys of other programs are passed over.

        Raises:
            InputError: if the file is no JSON object.
        """
        path = Path(folder, SETTINGS_FILE)
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: must hold one JSON object; got {error}; train again or mend it") from error
        if not isinstance(values, dict):
            raise InputError(f"{path}: must hold one JSON object; got {type(values).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})

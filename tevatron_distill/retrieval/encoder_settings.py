"""What an encoder makes of a text, as asked for and as its folder says; no torch here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

POOLINGS = ("cls", "mean", "last")
DTYPES = ("auto", "float32", "bfloat16", "float16")
FAISS_INDEXES = ("flat", "hnsw", "ivfpq")


@dataclass(frozen=True)
class EncoderSettings:
    """From a text to a vector. None: not asked for, or not said.

    Attributes:
        pooling: one of `POOLINGS`: the first token, the mean of all, the last.
        normalize: vectors have unit length.
        query_prefix: put before a query as it stands, without a space between.
        passage_prefix: put before title and text of a passage, likewise.
        query_max_len: tokens of a query, special tokens and prefix included.
        passage_max_len: tokens of a passage.
        append_eos_token: each text ends with the tokenizer's end-of-sequence token.
    """

    pooling: str | None = None
    normalize: bool | None = None
    query_prefix: str | None = None
    passage_prefix: str | None = None
    query_max_len: int | None = None
    passage_max_len: int | None = None
    append_eos_token: bool | None = None

    def over(self, other: EncoderSettings) -> EncoderSettings:
        """These, and the other's where these say nothing."""
        return EncoderSettings(**{**asdict(other), **self.said()})

    def said(self) -> dict[str, Any]:
        """Those that are not None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


TEVATRON = EncoderSettings(None, False, "", "", 32, 128, False)
"""Of folders that say nothing: Tevatron's defaults. Its pooling is ``cls``, which no decoder can use."""

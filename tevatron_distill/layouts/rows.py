"""Token rows and their padding, for every layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Row(NamedTuple):
    """One token row before padding.

    Attributes:
        input_ids: token ids.
        token_type_ids: segment ids, for models that take them.
        counted: which tokens take part in the score (MaxSim); None counts all.
        attended: which tokens the others attend to; None is all.
        places: where vectors are read (pair_ranker).
        decoder_input_ids: the decoder's row, of encoder-decoders that are given one.
    """

    input_ids: list[int]
    token_type_ids: list[int] | None = None
    counted: list[bool] | None = None
    attended: list[bool] | None = None
    places: tuple[int, ...] | None = None
    decoder_input_ids: list[int] | None = None

    @property
    def length(self) -> int:
        """Tokens of the row, the decoder's included."""
        return len(self.input_ids) + len(self.decoder_input_ids or ())


def padded_length(longest: int, multiple: int) -> int:
    """A row length rounded up to a multiple.

    >>> padded_length(17, 16), padded_length(16, 16), padded_length(17, 0)
    (32, 16, 17)
    """
    return -(-longest // multiple) * multiple if multiple > 1 else longest


def pad_rows(
    rows: Sequence[Row], pad_token_id: int, side: str = "right", multiple: int = 0, limit: int = 0
) -> dict[str, Tensor]:
    """Stack rows of unequal length.

    Args:
        rows: ``R`` rows.
        pad_token_id: fills the places without a token.
        side: where those places are, ``left`` or ``right``.
        multiple: the length is rounded up to a multiple of it,
        limit: but not beyond this length, behind which a model may have no positions; 0 for none.

    Returns:
        ``input_ids``, ``attention_mask`` int64 ``[R, T]``, ``token_type_ids`` where the rows have them, and
        ``counted`` bool ``[R, T]`` where the rows say which tokens count.
    """
    longest = max(len(row.input_ids) for row in rows)
    width = padded_length(longest, multiple)
    if limit:
        width = max(longest, min(width, limit))

    def stack(lists: Sequence[Sequence[Any]], fill: int, dtype: torch.dtype) -> Tensor:
        out = torch.full((len(rows), width), fill, dtype=dtype)
        for line, values in zip(out, lists, strict=True):
            place = slice(width - len(values), width) if side == "left" else slice(0, len(values))
            line[place] = torch.tensor(values, dtype=dtype)
        return out

    padded = {
        "input_ids": stack([row.input_ids for row in rows], pad_token_id, torch.long),
        "attention_mask": stack([row.attended or [1] * len(row.input_ids) for row in rows], 0, torch.long),
    }
    types = [row.token_type_ids for row in rows if row.token_type_ids is not None]
    if types:
        padded["token_type_ids"] = stack(types, 0, torch.long)
    counted = [row.counted for row in rows if row.counted is not None]
    if counted:
        padded["counted"] = stack(counted, 0, torch.bool)
    return padded


def add_positions(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A padded batch with ``position_ids``, for models whose learned positions padding on the left would shift."""
    return {**batch, "position_ids": (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)}

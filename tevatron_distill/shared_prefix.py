"""Token rows that begin alike: their common beginning goes through a causal model once, for all of them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from tevatron_distill.batching import Budget, run_batches, token_budget_batches
from tevatron_distill.layouts.rows import Row, add_positions, pad_rows

# What sharing costs beside the tokens that it computes: a row's copy of its prefix, of one layer at a time. Measured on
# a CPU (29M parameters, prefixes of 190 tokens), a copied token takes about 1/20 of a computed one.
TOKENS_PER_COPY = 20
# Families that save less than this share of a batch's tokens are not worth a second forward pass.
LEAST_SAVED = 0.1
# Rope that depends on the longest row of a batch makes keys that another batch cannot use.
_ROPE_BY_LENGTH = {"dynamic", "longrope"}


class Family(NamedTuple):
    """Rows that begin alike.

    Attributes:
        shared: how many tokens they have in common; each row has at least one more. 0 for a row without relatives.
        rows: their places.
    """

    shared: int
    rows: list[int]


def find_families(rows: Sequence[Sequence[int]]) -> list[Family]:
    """Part rows into families so that the fewest tokens are computed when each shared beginning is computed once.

    A pure function of the rows. The tree of their common beginnings is cut where that costs least.

    Args:
        rows: token ids.

    Returns:
        Families of two rows or more that share something, and one of shared length 0 for each other row.

    >>> find_families([[1, 2, 3, 4], [1, 2, 3, 5], [1, 9], [7, 7]])
    [Family(shared=3, rows=[0, 1]), Family(shared=0, rows=[2]), Family(shared=0, rows=[3])]
    """
    ordered = sorted(range(len(rows)), key=lambda place: (rows[place], place))
    return _part(rows, ordered)[1] if ordered else []


def _part(rows: Sequence[Sequence[int]], ordered: list[int], depth: int = 0) -> tuple[float, list[Family]]:
    """The tokens that sorted rows cost, and the families that make it so."""
    if len(ordered) == 1:
        return len(rows[ordered[0]]), [Family(0, ordered)]
    first, last = rows[ordered[0]], rows[ordered[-1]]
    limit = min(len(rows[place]) for place in ordered) - 1  # the last token of each row is computed for itself
    shared = next((at for at in range(limit) if first[at] != last[at]), max(0, limit))
    num_tokens = sum(len(rows[place]) for place in ordered)
    saved = (len(ordered) - 1) * shared - len(ordered) * shared / TOKENS_PER_COPY
    together = num_tokens - max(0.0, saved), [Family(shared, sorted(ordered))]
    apart = num_tokens, [Family(0, [place]) for place in ordered]
    whole = together if saved > 0 else apart
    branches = [list(branch) for _, branch in groupby(ordered, key=lambda place: rows[place][shared])]
    if len(branches) == 1 or depth > 100:  # rows that are nested in each other branch at every token
        return whole
    parted = [_part(rows, branch, depth + 1) for branch in branches]
    cost = sum(cost for cost, _ in parted)
    return whole if whole[0] <= cost else (cost, [family for _, families in parted for family in families])


def share_saved(rows: Sequence[Sequence[int]], families: Sequence[Family]) -> float:
    """Which share of the rows' tokens is not computed again."""
    saved = sum(family.shared * (len(family.rows) - 1) for family in families)
    return saved / max(1, sum(len(row) for row in rows))


@torch.inference_mode()
def can_share_prefixes(model: Any) -> bool:
    """Whether a model computes the same behind a beginning that was computed before.

    Its cache must be plain (full attention in every layer), it must take ``position_ids``, and on a few tokens it must
    say the same both ways.

    Args:
        model: a causal language model, or its backbone, in evaluation mode.
    """
    config = model.config.get_text_config(decoder=True)
    takes = inspect.signature(model.forward).parameters
    if model.config.is_encoder_decoder or not {"attention_mask", "position_ids", "past_key_values"} <= set(takes):
        return False
    layers = DynamicCache(config=config).layers
    if not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") in _ROPE_BY_LENGTH:
        return False
    rows = [[1, 2, 3, 4, 5], [1, 2, 3, 6], [1, 2, 3, 5, 6, 7], [2, 3, 1], [2, 3, 4, 5], [4, 5]]
    families = [Family(3, [0, 1, 2]), Family(2, [3, 4]), Family(0, [5])]
    together = last_outputs(model, rows, families, pad_token_id=0, max_tokens=100)
    alone = torch.cat([model(input_ids=torch.tensor([row], device=model.device))[0][:, -1] for row in rows])
    tolerance = 1e-4 if alone.dtype == torch.float32 else 0.05
    return bool((together - alone).abs().max() <= tolerance * alone.abs().max())


def last_outputs(
    model: Any,
    rows: Sequence[Sequence[int]],
    families: Sequence[Family],
    *,
    pad_token_id: int,
    max_tokens: int,
    budget: Budget | None = None,
) -> Tensor:
    """What a causal model says at the last token of each row, shared beginnings computed once.

    Args:
        model: one that `can_share_prefixes`. Its first output is read: the last hidden states of a backbone, the
            logits of a language model (of few tokens: see `engines.head`).
        rows: ``R`` rows of token ids.
        families: all rows, as of :func:`find_families`.
        pad_token_id: fills rows up.
        max_tokens: budget of a batch; a row counts its own tokens and a part of those it shares.
        budget: what is left of it when memory has run out.

    Returns:
        ``[R, D]`` in the rows' order, without gradient.

    Raises:
        torch.cuda.OutOfMemoryError: if a single row does not fit.
    """
    budget = budget or Budget(max_tokens)
    found: dict[int, Tensor] = {}

    def run_families(places: list[int]) -> None:
        chosen = [families[place] for place in places]
        prefixes = [rows[family.rows[0]][: family.shared] for family in chosen]
        cache, mask = _cache_of(model, prefixes, pad_token_id)
        owners = [(owner, row) for owner, family in enumerate(chosen) for row in family.rows]
        shared = [chosen[owner].shared for owner, _ in owners]
        costs = [
            len(rows[row]) - known + known // TOKENS_PER_COPY for known, (_, row) in zip(shared, owners, strict=True)
        ]

        def run_rows(members: list[int]) -> Tensor:
            own = [rows[owners[member][1]][shared[member] :] for member in members]
            index = torch.tensor([owners[member][0] for member in members], device=model.device)
            return _go_on(model, own, cache, mask, index, pad_token_id)

        for members, output in run_batches(run_rows, token_budget_batches(costs, max_tokens), costs, budget):
            found.update(zip((owners[member][1] for member in members), output, strict=True))

    lengths = [family.shared for family in families]
    related = [place for place, family in enumerate(families) if family.shared]
    alone = [place for place, family in enumerate(families) if not family.shared]
    batches = token_budget_batches([lengths[place] for place in related], max_tokens)
    batches = [[related[member] for member in batch] for batch in batches] + ([alone] if alone else [])
    with torch.inference_mode():
        for _ in run_batches(run_families, batches, lengths, budget):
            pass
    return torch.stack([found[row] for row in range(len(rows))])


def _cache_of(model: Any, prefixes: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Cache | None, Tensor]:
    """Keys and values of prefixes, and which tokens ``[F, P]`` are real; padded on the left; None if all are empty."""
    if not any(prefixes):
        return None, torch.ones((len(prefixes), 0), dtype=torch.long, device=model.device)
    padded = pad_rows([Row(list(prefix)) for prefix in prefixes], pad_token_id, "left")
    batch = {name: tensor.to(model.device) for name, tensor in add_positions(padded).items()}
    cache = DynamicCache(config=model.config)
    model(**batch, past_key_values=cache, use_cache=True)
    return cache, batch["attention_mask"]


def _go_on(
    model: Any, own: Sequence[Sequence[int]], cache: Cache | None, mask: Tensor, index: Tensor, pad_token_id: int
) -> Tensor:
    """The output at each row's last token ``[R, D]``; row ``r`` stands behind the prefix ``index[r]``."""
    padded = pad_rows([Row(list(row)) for row in own], pad_token_id, "right")
    batch = {name: tensor.to(model.device) for name, tensor in padded.items()}
    before, real = mask[index], batch["attention_mask"]
    # Padding stays at the row's last position: behind it a model may have no positions.
    batch["position_ids"] = (before.sum(1, keepdim=True) + real.cumsum(1) - 1).clamp(min=0)
    batch["attention_mask"] = torch.cat([before, real], dim=1)
    if cache is not None:
        layers = [_Branches(layer.keys, layer.values, index) for layer in cache.layers]
        output = model(**batch, past_key_values=Cache(layers=layers), use_cache=True)[0]
    else:
        output = model(**batch, use_cache=False)[0]
    chosen: Tensor = output[torch.arange(len(own), device=output.device), real.sum(1) - 1]
    return chosen


class _Branches(DynamicLayer):
    """Keys and values of several prefixes; each row goes on behind its own.

    `DynamicCache.batch_select_indices` would copy the prefixes for all layers at once. Here a layer's copies live while
    it is computed.

    Args:
        keys: ``[F, heads, P, head size]``.
        values: likewise.
        index: the prefix of each row, int64 ``[R]``.
    """

    def __init__(self, keys: Tensor, values: Tensor, index: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True
        self._index = index

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The prefixes' keys and values with the rows' own behind them; nothing is kept."""
        return (
            torch.cat([self.keys[self._index], key_states], dim=-2),
            torch.cat([self.values[self._index], value_states], dim=-2),
        )

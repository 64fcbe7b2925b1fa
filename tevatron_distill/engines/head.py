"""The rows of a language model's head that are asked for, so that nothing has the size of its vocabulary."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


class Head:
    """Lets a language model compute the logits of a few tokens only.

    Its head is replaced by those rows while it runs, so that all that the model does with logits (a softcap, a scale,
    a bias) is done by its own code. A model that says something else then keeps its whole head.

    Args:
        model: in evaluation mode.
        ask: runs the model on a few tokens and gives its logits ``[R, T, V]``.
    """

    def __init__(self, model: Any, ask: Callable[[], Tensor]) -> None:
        self._model = model
        self._head = model.get_output_embeddings()
        self._narrows = isinstance(self._head, nn.Linear) and self._agrees(ask)
        if not self._narrows:
            logger.info("%s computes the logits of its whole vocabulary: its head cannot be cut", type(model).__name__)

    @contextmanager
    def rows(self, tokens: Sequence[int]) -> Iterator[Mapping[int, int]]:
        """Inside, the model's logits are those of some tokens.

        Args:
            tokens: ids, each once.

        Yields:
            where each token's logit stands.
        """
        if not self._narrows:
            yield {token: token for token in tokens}
            return
        self._model.set_output_embeddings(self._cut(tokens))
        try:
            yield {token: place for place, token in enumerate(tokens)}
        finally:
            self._model.set_output_embeddings(self._head)

    def _cut(self, tokens: Sequence[int]) -> nn.Linear:
        weight, bias = self._head.weight, self._head.bias
        index = torch.tensor(list(tokens), device=weight.device)
        rows = nn.Linear(weight.shape[1], len(tokens), bias=bias is not None, device="meta")
        rows.weight = nn.Parameter(weight.detach()[index], requires_grad=False)
        if bias is not None:
            rows.bias = nn.Parameter(bias.detach()[index], requires_grad=False)
        return rows

    @torch.inference_mode()
    def _agrees(self, ask: Callable[[], Tensor]) -> bool:
        whole = ask()
        tokens = [3, 1, 2]
        self._narrows = True
        try:
            with self.rows(tokens):
                few = ask()
        except RuntimeError:  # a bias of the whole vocabulary is added behind the head (BART)
            return False
        if few.shape != (*whole.shape[:-1], len(tokens)) or self._model.get_output_embeddings() is not self._head:
            return False
        tolerance = 1e-5 if whole.dtype == torch.float32 else 0.02
        return bool((few - whole[..., tokens]).abs().max() <= tolerance * whole.abs().max())

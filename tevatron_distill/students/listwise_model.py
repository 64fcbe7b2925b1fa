"""A causal language model that reads a window: logits of the identifiers, and the loss of the answer."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from tevatron_distill.layouts.list import NO_TARGET
from tevatron_distill.students.yes_token import logit_scale


@dataclass
class ListwiseOutput(ModelOutput):
    """What a window says.

    Attributes:
        logits: float32 ``[W, n]``: of each passage's identifier as the first one named.
        lm_loss: float32 ``[W]``, nats a token: mean over the tokens of each window's answer; 0 where it has none.
    """

    logits: Tensor | None = None
    lm_loss: Tensor | None = None


def scaled(config: Any, logits: Tensor) -> Tensor:
    """A head's output as its model scales and caps it, in float32."""
    logits = logits.float() * logit_scale(config)
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def row_logits(head: nn.Linear, hidden: Tensor, token_ids: Tensor) -> Tensor:
    """Logits of some tokens of each hidden state, multiplied in float32.

    Half precision has steps of 1/8 at a logit of 20, in which passages would tie.

    Args:
        head: of the language model.
        hidden: ``[W, D]``.
        token_ids: int64 ``[W, n]``.

    Returns:
        float32 ``[W, n]``.
    """
    logits = (head.weight[token_ids].float() @ hidden.float()[:, :, None]).squeeze(-1)
    return logits if head.bias is None else logits + head.bias[token_ids]


@functools.cache
def listwise_class(parent: Any) -> Any:
    """A causal language model's own class whose forward also takes windows.

    It bears its parent's name, so that a saved folder opens as the plain language model in other programs, and without
    ``answer_index`` it is the plain language model (which generates).
    """

    def forward(
        self: Any,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        answer_index: Tensor | None = None,
        identifier_ids: Tensor | None = None,
        answer_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Score windows; no logits of the vocabulary but those that predict tokens of the answer.

        Args:
            input_ids: int64 ``[W, T]``.
            attention_mask: int64 ``[W, T]``.
            answer_index: int64 ``[W]``, the column of the bracket behind which the first identifier comes.
            identifier_ids: int64 ``[W, n]``.
            answer_ids: int64 ``[W, A]``, the tokens from that bracket on, -100 behind their end.
            kwargs: ``position_ids``; peft's empty keywords are passed over.

        Returns:
            `ListwiseOutput`; without ``answer_index`` what the language model gives.

        Raises:
            TypeError: if labels or anything else that a window does not take is passed.
        """
        if answer_index is None or identifier_ids is None:
            return parent.forward(self, input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        given = {name: value for name, value in kwargs.items() if value is not None}
        stray = sorted(set(given) - {"position_ids", "use_cache", "return_dict"})
        if stray:
            raise TypeError(f"a window takes no {', '.join(stray)}; the ranking loss stands outside of the model")
        positions = {"position_ids": given["position_ids"]} if "position_ids" in given else {}
        hidden = self.base_model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, **positions
        ).last_hidden_state
        head, config = self.get_output_embeddings(), self.config.get_text_config()
        rows, columns = torch.arange(len(hidden), device=hidden.device), answer_index
        if answer_ids is None:
            opening = hidden[rows, columns]
            # a sharded or quantised weight has no rows to take
            if torch.is_grad_enabled() or type(head) is not nn.Linear or head.weight.ndim != 2:
                return ListwiseOutput(logits=scaled(config, head(opening)).gather(1, identifier_ids))
            return ListwiseOutput(logits=scaled(config, row_logits(head, opening, identifier_ids)))
        row_of, step = (answer_ids != NO_TARGET).nonzero(as_tuple=True)
        rows, columns = torch.cat([rows, row_of]), torch.cat([columns, answer_index[row_of] + step - 1])
        logits = scaled(config, head(hidden[rows, columns]))
        first, later = logits[: len(hidden)], logits[len(hidden) :]
        errors = functional.cross_entropy(later, answer_ids[row_of, step], reduction="none")
        sums = errors.new_zeros(len(hidden)).index_add(0, row_of, errors)
        counts = (answer_ids != NO_TARGET).sum(dim=1).clamp(min=1)
        return ListwiseOutput(logits=first.gather(1, identifier_ids), lm_loss=sums / counts)

    own = [
        parameter
        for parameter in inspect.signature(forward).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    names = {parameter.name for parameter in own}
    # generate looks here for what the model takes (position_ids above all)
    theirs = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(parent.forward).parameters.values()
        if parameter.name not in names and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    rest = inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)
    forward.__signature__ = inspect.Signature([*own, *theirs, rest])  # type: ignore[attr-defined]
    members = {"forward": forward, "__module__": __name__}
    return type(parent.__name__, (parent,), members)

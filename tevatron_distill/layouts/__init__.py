"""Layouts: how groups become token rows, and how a student's output becomes scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from tevatron_distill.layouts.dual import DualLayout
from tevatron_distill.layouts.list import ListLayout
from tevatron_distill.layouts.metrics import MetricsLayout
from tevatron_distill.layouts.pair import PairLayout
from tevatron_distill.layouts.point import PointLayout
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.layouts.verdict import Verdict
from tevatron_distill.schema import Candidates, Group

__all__ = [
    "DualLayout",
    "Layout",
    "ListLayout",
    "MetricsLayout",
    "PairLayout",
    "PointLayout",
    "RerankerSettings",
    "Verdict",
]


class Layout(Protocol):
    """What the collator, the trainer and the reranker need of a layout.

    Attributes:
        tokenizer: the student's tokenizer.
        settings: what inference must repeat; saved beside the weights.
        model_inputs: names in a collated batch that go to the model.
        loss_kinds: the kinds of loss that the student can learn by (see ``Loss.kind``).
        term_weights: by name, how much each further term of the loss counts (see ``Verdict.terms``).
    """

    tokenizer: Any
    settings: RerankerSettings
    model_inputs: tuple[str, ...]
    loss_kinds: frozenset[str]
    term_weights: Mapping[str, float]

    def collate(self, groups: Sequence[Group | Candidates]) -> dict[str, Tensor]:
        """Ragged groups to the model's inputs and ``row_index``."""

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Verdict:
        """The model's output for a collated batch to what it says of the passages."""

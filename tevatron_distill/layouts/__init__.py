"""Layouts: how groups become token rows, and how a student's output becomes scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from tevatron_distill.layouts.dual import DualLayout
from tevatron_distill.layouts.point import PointLayout
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.schema import Candidates, Group

__all__ = ["DualLayout", "Layout", "PointLayout", "RerankerSettings"]


class Layout(Protocol):
    """What the collator, the trainer and the reranker need of a layout.

    Attributes:
        tokenizer: the student's tokenizer.
        settings: what inference must repeat; saved beside the weights.
        model_inputs: names in a collated batch that go to the model.
    """

    tokenizer: Any
    settings: RerankerSettings
    model_inputs: tuple[str, ...]

    def collate(self, groups: Sequence[Group | Candidates]) -> dict[str, Tensor]:
        """Ragged groups to the model's inputs and ``row_index``."""

    def verdict(self, outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
        """The model's output to float32 scores ``[Q, G]``."""

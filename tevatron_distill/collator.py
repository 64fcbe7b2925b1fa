"""Groups to one batch: token rows by the student's layout, labels and mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers.data.data_collator import DataCollatorMixin

from tevatron_distill.layouts import Layout
from tevatron_distill.permutation import labels_from_ranks
from tevatron_distill.schema import Filler, Group, InputError, Passage


def group_labels(group: Group, labels: str) -> Sequence[float]:
    """One group's targets, higher is better, aligned with its passages.

    Args:
        group: a drawn group; ranks are counted within it.
        labels: ``reciprocal`` (1/rank, best 1.0) or ``linear`` from the ranks, the teacher's ``scores``, or the
            ``judgements``. Where a group has judgements they stand in for ranks, as ranks would order its ties.

    Returns:
        ``G`` floats.

    Raises:
        InputError: if the group lacks the scores or judgements asked for.
    """
    if labels == "scores":
        if group.scores is None:
            raise InputError(
                f'query_id "{group.query_id}": this loss learns from the teacher\'s scores and the row has none; '
                "choose a loss that takes permutations, or teach with scores (allpair keeps them)"
            )
        return group.scores
    if group.judgements is not None:
        return group.judgements
    if labels == "judgements":
        raise InputError(f'query_id "{group.query_id}": labels "judgements" asked for and the row has none')
    return labels_from_ranks(group.ranks(), labels)


def preference_labels(groups: Sequence[Group], size: int) -> tuple[Tensor, Tensor]:
    """The teacher's preferences as a matrix for each query.

    Returns:
        Probability that passage i is better than j, float32 ``[Q, G, G]`` (.5 where not asked), and a bool mask of
        the same shape, True where the teacher was asked.

    Raises:
        InputError: if a group has no preferences.
    """
    labels = torch.full((len(groups), size, size), 0.5)
    asked = torch.zeros(len(groups), size, size, dtype=torch.bool)
    for number, group in enumerate(groups):
        if group.preferences is None:
            raise InputError(
                f'query_id "{group.query_id}": labels "preferences" asked for and the row has none; '
                "teach with a pairwise teacher, or choose other labels"
            )
        for i, j, probability in group.preferences:
            labels[number, i, j], labels[number, j, i] = probability, 1 - probability
            asked[number, i, j] = asked[number, j, i] = True
    return labels, asked


def metric_labels(group: Group, metrics: Sequence[str]) -> list[list[float]]:
    """One group's named measures, a list of ``M`` numbers for each passage.

    Raises:
        InputError: if the group lacks one of them.
    """
    missing = [name for name in metrics if name not in (group.metrics or {})]
    if group.metrics is None or missing or not metrics:
        raise InputError(
            f'query_id "{group.query_id}": labels "metrics" asked for {", ".join(metrics) or "no metric"} and the row '
            f"has {', '.join(group.metrics or ()) or 'none'}; name measures that every row has by --using_metrics"
        )
    return [list(values) for values in zip(*(group.metrics[name] for name in metrics), strict=True)]


def with_in_batch_negatives(groups: Sequence[Group]) -> list[Group]:
    """Each group with the passages of the others' behind its own, tied as its worst.

    A passage that the group has itself, by docid or by text, is left out, and so are those of a group with the same
    query. They are tied with passages that the teacher did not rank; their judgement is 0, and they get the lowest of
    the group's scores and metrics.

    Args:
        groups: those of a batch.

    Returns:
        As many groups, whose permutations name their own passages first.
    """
    return [_extended(group, [one for one in groups if one.query != group.query]) for group in groups]


def _extended(group: Group, others: Sequence[Group]) -> Group:
    docids = {passage.docid for passage in group.passages}
    texts = {(passage.title, passage.text) for passage in group.passages}
    added: list[Passage] = []
    for passage in (passage for other in others for passage in other.passages):
        text = (passage.title, passage.text)
        if passage.docid not in docids and text not in texts:
            docids.add(passage.docid)
            texts.add(text)
            added.append(passage)

    def longer(values: Sequence[float] | None, worst: float | None = None) -> tuple[float, ...] | None:
        return None if values is None else (*values, *[min(values) if worst is None else worst] * len(added))

    size = len(group.passages)
    return replace(
        group,
        passages=(*group.passages, *added),
        permutation=(*group.permutation, *range(size, size + len(added))),
        scores=longer(group.scores),
        judgements=longer(group.judgements, 0.0),
        metrics=None
        if group.metrics is None
        else {name: (*values, *[min(values)] * len(added)) for name, values in group.metrics.items()},
    )


@dataclass
class GroupCollator(DataCollatorMixin):
    """Ragged groups to ``{labels, mask, rows…, row_index}``.

    Args:
        layout: the student's layout, which makes token rows.
        labels: how targets are made, see :func:`group_labels`, or ``preferences`` (then ``labels`` is ``[Q, G, G]``
            and the batch has a ``pair_mask``), or ``metrics`` (then it is ``[Q, G, M]``).
        metrics: names of the ``M`` measures.
        in_batch_negatives: each group has the other groups' passages, too, see :func:`with_in_batch_negatives`.

    Returns (when called on ``Q`` groups):
        ``labels`` float32 ``[Q, G]``, ``mask`` bool ``[Q, G]`` (True where a passage is real), ``row_index`` and the
        model's inputs as the layout names them. G is the largest group of the batch. Fillers are left out; a batch of
        nothing else has one, whose mask is False.
    """

    layout: Layout
    labels: str = "reciprocal"
    metrics: tuple[str, ...] = ()
    in_batch_negatives: bool = False
    return_tensors: str = "pt"

    def torch_call(self, features: Sequence[Group]) -> dict[str, Any]:
        real = [group for group in features if not isinstance(group, Filler)]
        features = real or features[:1]
        if self.in_batch_negatives:
            features = with_in_batch_negatives(features)
        size = max(len(group.passages) for group in features)
        batch: dict[str, Any] = {}
        if self.labels == "preferences":
            batch["labels"], batch["pair_mask"] = preference_labels(features, size)
        else:
            several = self.labels == "metrics"
            batch["labels"] = torch.zeros(len(features), size, *([len(self.metrics)] if several else []))
            for row, group in zip(batch["labels"], features, strict=True):
                made = metric_labels(group, self.metrics) if several else group_labels(group, self.labels)
                row[: len(group.passages)] = torch.tensor(made)
        sizes = torch.tensor([len(group.passages) for group in features])
        batch["mask"] = (torch.arange(size) < sizes[:, None]) & bool(real)
        batch.update(self.layout.collate(features))
        return batch

    @property
    def tokenizer(self) -> Any:
        """The layout's tokenizer, which HF's Trainer saves with the model."""
        return self.layout.tokenizer

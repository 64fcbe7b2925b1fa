"""HF's TrainingArguments with the flags of the ranking loss and the defaults that ranking needs."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import TrainingArguments

from tevatron_distill.arguments import check_choice
from tevatron_distill.losses import LOSSES
from tevatron_distill.schema import InputError


@dataclass
class DistillTrainingArguments(TrainingArguments):
    """Every flag of HF's Trainer, and ours.

    Differs from its parent in one default: ``remove_unused_columns`` is False, because a row is a group of passages
    and not a dictionary of model inputs.
    """

    loss: str = field(
        default="softmax_ce", metadata={"choices": list(LOSSES), "help": "ranking loss (see the README's table)"}
    )
    teacher_temp: float = field(default=1.0, metadata={"help": "temperature of the teacher's scores in the kl loss"})
    student_temp: float = field(default=1.0, metadata={"help": "temperature of the student's scores in the kl loss"})
    early_stopping_patience: int | None = field(
        default=None,
        metadata={"help": "stop after this many evaluations without a better --metric_for_best_model"},
    )
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "start anew in a folder that holds a finished or another command's model"}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "must stay False: rows are groups, not dictionaries of model inputs"}
    )

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, list(LOSSES))
        if self.fp16 and not torch.cuda.is_available():
            raise InputError("--fp16 needs a GPU; use --bf16 or plain float32 on this machine")
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # there is nothing to pin it for, and torch would warn
        super().__post_init__()

    def loss_options(self) -> dict[str, float]:
        """Keyword options of the chosen loss, by name."""
        return {name: getattr(self, name) for name in LOSSES[self.loss].options}

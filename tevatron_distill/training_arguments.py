"""HF's TrainingArguments with the flags of the ranking loss and the defaults that ranking needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from tevatron_distill.arguments import check_choice
from tevatron_distill.arguments.bars import NO_BARS
from tevatron_distill.arguments.screens import first
from tevatron_distill.extras import is_installed, require_package
from tevatron_distill.losses import LOSSES
from tevatron_distill.schema import InputError

OBJECTIVES = ("ranking", "generation", "combined")
ANSWER_TERM = "lm"
GPU_WORKERS = 2
"""Processes that tokenise beside a GPU."""
TRACKERS = ("tensorboard", "trackio", "wandb")
"""Where curves can go, and what must be installed for it."""
THEIRS: dict[str, Any] = {field.name: field.default for field in fields(TrainingArguments)}
"""The defaults of HF's Trainer; its flags that stand on the first screen of ``--help`` are repeated with them."""


def check_deepspeed(use_cpu: bool) -> None:
    """See that DeepSpeed is there and was started by a launcher; its own errors name MPI.

    Raises:
        InputError: if it is not installed, or this process was started by itself.
    """
    require_package("deepspeed", "--deepspeed")
    if "WORLD_SIZE" not in os.environ:
        devices = max(1, torch.accelerator.device_count())
        raise InputError(
            "--deepspeed needs a launcher, for one process too: start with "
            f"`deepspeed --num_gpus {devices} --module tevatron_distill.driver.train --deepspeed …"
            f"{' --use_cpu' if use_cpu else ''}` or `torchrun --nproc_per_node {devices} -m "
            "tevatron_distill.driver.train --deepspeed …`"
        )


def loader_workers(use_cpu: bool) -> int:
    """How many processes tokenise ahead of the model where nobody says."""
    return GPU_WORKERS if torch.cuda.is_available() and not use_cpu else 0


@dataclass
class DistillTrainingArguments(TrainingArguments):
    """Flags of the ranking loss, beside every flag of HF's Trainer.

    Differs from its parent in two defaults: ``remove_unused_columns`` is False, because a row is a group of passages
    and not a dictionary of model inputs; and on a GPU, which would wait for them, texts are tokenised by
    ``dataloader_num_workers`` processes beside.
    """

    output_dir: str | None = field(
        default=THEIRS["output_dir"],
        metadata={"help": first("out", "folder of the student and its checkpoints", "train")},
    )
    learning_rate: float = field(
        default=THEIRS["learning_rate"], metadata={"help": first("how", "the highest of the schedule", "train")}
    )
    num_train_epochs: float = field(
        default=THEIRS["num_train_epochs"], metadata={"help": first("how", "times that all queries are seen", "train")}
    )
    max_steps: int = field(
        default=THEIRS["max_steps"],
        metadata={"help": first("how", "so many steps instead of --num_train_epochs", "train")},
    )
    per_device_train_batch_size: int = field(
        default=THEIRS["per_device_train_batch_size"],
        metadata={"help": first("how", "queries, each with its group, in a step of a device", "train")},
    )
    gradient_accumulation_steps: int = field(
        default=THEIRS["gradient_accumulation_steps"],
        metadata={"help": first("how", "steps whose gradients make one update", "train")},
    )
    bf16: bool = field(default=THEIRS["bf16"], metadata={"help": first("how", "compute in bfloat16")})
    use_cpu: bool = field(
        default=THEIRS["use_cpu"],
        metadata={"help": first("how", "leave the GPU alone; needed on a CPU under a launcher")},
    )
    deepspeed: dict[str, Any] | str | None = field(
        default=THEIRS["deepspeed"], metadata={"help": first("how", "config of DeepSpeed, deepspeed/*.json", "train")}
    )
    eval_strategy: IntervalStrategy | str = field(
        default=THEIRS["eval_strategy"], metadata={"help": first("how", "when --eval_dataset_path is ranked", "train")}
    )
    report_to: str = field(
        default=THEIRS["report_to"],
        metadata={"help": first("out", "wandb, tensorboard, trackio: where curves go", "train")},
    )
    disable_tqdm: bool = field(default=False, metadata={"help": NO_BARS})
    loss: str | None = field(
        default=None,
        metadata={
            "choices": list(LOSSES),
            "help": first(
                "how",
                "ranking loss (see the README's table; default: softmax_ce, rank_net for pair_ranker and listwise, "
                "margin_rank for simcls, metric_bce for summa_reranker)",
                "train",
            ),
        },
    )
    objective: str | None = field(
        default=None,
        metadata={
            "choices": list(OBJECTIVES),
            "help": "listwise: learn by the ranking loss on the identifiers' logits, by generation of the teacher's "
            "answer, or by both (default: combined; students without an answer learn by ranking)",
        },
    )
    weighted: bool = field(
        default=False, metadata={"help": "rank_net: weigh each pair by 1 / (sum of its two teacher ranks)"}
    )
    ranking_weight: float | None = field(
        default=None,
        metadata={
            "help": "how much the ranking loss counts (default: 1; in a combined objective RankLLM's 10 for rank_net "
            "--weighted and 0.1 for list_net)"
        },
    )
    teacher_temp: float = field(default=1.0, metadata={"help": "temperature of the teacher's scores in the kl loss"})
    student_temp: float = field(default=1.0, metadata={"help": "temperature of the student's scores in the kl loss"})
    row_chunk_size: int | None = field(
        default=None,
        metadata={
            "help": "rows of a batch that go through the model at a time, computed twice, so that this sets the memory "
            "and not --train_group_size (default: all)"
        },
    )
    row_chunk_tokens: str = field(
        default="auto",
        metadata={
            "help": "tokens of a batch that go through the model at a time, rows in the order of their lengths, so "
            "that hardly any padding is computed; 0 for all rows as they stand (default: auto, by the device: 2048 on "
            "a CPU, 16384 on a GPU; 0 under ZeRO-3, FSDP and --torch_compile)"
        },
    )
    dataloader_num_workers: int = field(
        default=-1,
        metadata={
            "help": "processes that tokenise ahead of the model; 0 for none beside (default: -1, which is 2 on a GPU "
            "and 0 on a CPU, where tokenising takes less than a hundredth of a step)"
        },
    )
    early_stopping_patience: int | None = field(
        default=None,
        metadata={
            "help": first("how", "stop after this many evaluations without a better --metric_for_best_model", "train")
        },
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": first("out", "start anew in a folder that holds a finished or another command's model")},
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "must stay False: rows are groups, not dictionaries of model inputs"}
    )

    def __post_init__(self) -> None:
        if self.loss is not None:
            check_choice("loss", self.loss, list(LOSSES))
        if self.objective is not None:
            check_choice("objective", self.objective, OBJECTIVES)
        self.loss_options()
        if self.ranking_weight is not None and self.ranking_weight <= 0:
            raise InputError(
                f"--ranking_weight must be more than 0; got {self.ranking_weight}; without a ranking loss: "
                "--objective generation"
            )
        if self.row_chunk_size is not None and self.row_chunk_size < 1:
            raise InputError(f"--row_chunk_size must be at least 1; got {self.row_chunk_size}")
        self.row_chunk_tokens = str(self.row_chunk_tokens)  # a JSON config has a number
        if self.row_chunk_tokens != "auto" and not self.row_chunk_tokens.isdecimal():
            raise InputError(f"--row_chunk_tokens must be auto, 0 or a number of tokens; got {self.row_chunk_tokens}")
        if self.dataloader_num_workers < 0:
            self.dataloader_num_workers = loader_workers(self.use_cpu)
        if self.dataloader_num_workers:
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads would not outlive the fork
        if self.deepspeed is not None:
            check_deepspeed(self.use_cpu)
        if self.use_liger_kernel:
            require_package("liger_kernel", "--use_liger_kernel")
        for place in [self.report_to] if isinstance(self.report_to, str) else self.report_to or ():
            if place in TRACKERS and not (place == "tensorboard" and is_installed("tensorboardX")):
                require_package(place, f"--report_to {place}")
        if self.fp16 and not torch.cuda.is_available():
            raise InputError("--fp16 needs a GPU; use --bf16 or plain float32 on this machine")
        if not torch.accelerator.is_available():
            self.dataloader_pin_memory = False  # there is nothing to pin it for, and torch would warn
        super().__post_init__()

    def loss_options(self) -> dict[str, float]:
        """Keyword options of the chosen loss, by name.

        Raises:
            InputError: if pairs are to be weighted by a loss that cannot do it.
        """
        if self.loss is None:
            return {}
        options = LOSSES[self.loss].options
        if self.weighted and "weighted" not in options:
            raise InputError(f"--weighted weighs the pairs of --loss rank_net; got --loss {self.loss}")
        return {name: getattr(self, name) for name in options}

    def loss_weights(self, term_weights: Mapping[str, float]) -> tuple[float, dict[str, float]]:
        """What ``--objective`` makes of the ranking loss and of the student's further terms.

        Args:
            term_weights: the layout's.

        Returns:
            The weight of the ranking loss, and of each term that differs from the layout's.

        Raises:
            InputError: if an answer is to be learned by a student that gives none.

        Source:
            RankLLM's combined objective: generation + c * ranking with c = 10 for weighted RankNet, 0.1 for ListNet,
            1 else.
        """
        answers = ANSWER_TERM in term_weights
        objective = self.objective or ("combined" if answers else "ranking")
        if objective != "ranking" and not answers:
            raise InputError(
                f"--objective {objective} needs a student that writes an answer: --student listwise; other students "
                "learn by ranking"
            )
        if objective == "generation":
            return 0.0, {}
        if objective == "ranking":
            return self.ranking_weight or 1.0, {ANSWER_TERM: 0.0} if answers else {}
        published = {"rank_net": 10.0 if self.weighted else 1.0, "list_net": 0.1}
        return self.ranking_weight or published.get(self.loss or "", 1.0), {}

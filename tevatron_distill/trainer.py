"""HF's Trainer for groups: model → layout → loss, averaged over queries, with nDCG during training."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import BatchSamplerShard
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from transformers import EarlyStoppingCallback, EvalPrediction, PreTrainedModel, Trainer, TrainerCallback
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.trainer import TRAINING_ARGS_NAME

from tevatron_distill.collator import GroupCollator
from tevatron_distill.dataset import EvenSampler, TeacherPermutationDataset
from tevatron_distill.formats.checkpoints import saving
from tevatron_distill.layouts.settings import SETTINGS_FILE
from tevatron_distill.losses import LOSSES, Loss, ranking_loss
from tevatron_distill.metrics import evaluate
from tevatron_distill.reranker.last_layer import learn_first_token
from tevatron_distill.schema import Group, InputError, Qrels
from tevatron_distill.students.row_chunks import auto_tokens, chunk_students_rows

logger = logging.getLogger(__name__)

EVAL_MEASURES = ("nDCG@10", "RR@10")
TEACHER_TOP = 10


class DistillRerankerTrainer(Trainer):
    """Trains any student with any ranking loss.

    Takes all of ``Trainer``'s arguments (plain ``TrainingArguments``, an optimizer and a scheduler of your own among
    them) and these of ours.

    Args:
        loss: name of a row of ``LOSSES``, or a ``Loss`` of your own.
        loss_options: keyword options of the loss (``teacher_temp``, …).
        loss_weight: how much the ranking loss counts; 0 leaves only the further terms that the student has.
        term_weights: by name, how much a further term of the student's counts; its layout's own where not given.
        row_chunk_size: rows (windows; for colbert and simcls queries and passages each) that go through the model at a
            time, computed twice, so that this and not the group sets the memory; None for all of a batch.
        row_chunk_tokens: tokens that go through the model at a time, rows in the order of their lengths, so that hardly
            any padding is computed; ``auto`` for what suits the device, 0 for rows as they stand.
        eval_qrels: judgements for the evaluation set. Without them, rows with judgements are measured by those, and
            other rows by the teacher: its ten best passages get the grades 10 to 1 (reported as ``teacher_nDCG@10``).

    The loss is the sum over queries divided by the number of queries in the whole accumulated batch on all ranks, so
    it does not depend on batch size, accumulation or the number of processes. Evaluation reports ``eval_loss``, the
    mean over queries, and trec_eval's measures, so ``metric_for_best_model="nDCG@10"`` works; for candidates with
    metrics also ``eval_dev_score``, the mean score of the candidate that the student puts first.

    Raises:
        ValueError: if the collator is no ``GroupCollator``, or its labels are none that the loss takes.
        InputError: if the student does not give what the loss takes.
    """

    data_collator: Any
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *args: Any,
        loss: str | Loss = "rank_net",
        loss_options: Mapping[str, float] | None = None,
        loss_weight: float = 1.0,
        term_weights: Mapping[str, float] | None = None,
        eval_qrels: Qrels | None = None,
        row_chunk_size: int | None = None,
        row_chunk_tokens: int | str = "auto",
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("compute_metrics", self._ranking_metrics)
        super().__init__(*args, **kwargs)
        self.loss = LOSSES[loss] if isinstance(loss, str) else loss
        self.loss_options = dict(loss_options or {})
        self.eval_qrels = eval_qrels
        if not isinstance(self.data_collator, GroupCollator):
            raise ValueError(
                f"data_collator must be a GroupCollator, which knows the student's layout; got {self.data_collator!r}"
            )
        self.layout = self.data_collator.layout
        learn_first_token(self.model)
        self.row_chunk_tokens = self._row_tokens() if row_chunk_tokens == "auto" else int(row_chunk_tokens)
        if row_chunk_size is not None or self.row_chunk_tokens:
            chunk_students_rows(self.model, self.layout, row_chunk_size, self.row_chunk_tokens or None)
        self.loss_weight = loss_weight
        self.term_weights = {**self.layout.term_weights, **(term_weights or {})}
        self.model_accepts_loss_kwargs = False
        if loss_weight and self.loss.kind not in self.layout.loss_kinds:
            fitting = [name for name, row in LOSSES.items() if row.kind in self.layout.loss_kinds]
            raise InputError(
                f"--loss {loss} learns from {self.loss.kind}, which the student {self.layout.settings.student} does "
                f"not give; choose one of {', '.join(fitting)}"
            )
        if loss_weight and self.data_collator.labels not in self.loss.labels:
            raise ValueError(
                f"this loss learns from {' or '.join(self.loss.labels)}, but the collator makes labels "
                f'"{self.data_collator.labels}"; pass GroupCollator(layout, labels="{self.loss.labels[0]}")'
            )
        if isinstance(self.train_dataset, TeacherPermutationDataset):
            self.add_callback(_DrawAnew(self.train_dataset))
        if self.args.fsdp:
            self.add_callback(_SayWhatRuns(self))

    def _row_tokens(self) -> int:
        # weights that are parted travel once more for each chunk, and compiled code has a shape
        if self.args.fsdp or is_deepspeed_zero3_enabled() or self.args.torch_compile:
            return 0
        return auto_tokens(self.args.device)

    def _run_epoch(self, **kwargs: Any) -> None:
        """HF's epoch, unless the checkpoint gone on from is that of a training's end; HF would take one step more."""
        if kwargs.get("resume_from_checkpoint") is not None and self._was_ended():
            self.control.should_training_stop = True
            return
        super()._run_epoch(**kwargs)

    def _was_ended(self) -> bool:
        if self.state.global_step >= self.state.max_steps:
            return True
        early = any(isinstance(callback, EarlyStoppingCallback) for callback in self.callback_handler.callbacks)
        saved: Any = self.state.stateful_callbacks.get("TrainerControl", {})
        return early and bool(saved.get("args", {}).get("should_training_stop"))

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], Any]:
        """The micro-batches of one update and the number of their queries on all ranks."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        queries = torch.tensor(float(sum(int(counted(batch["mask"]).sum()) for batch in batches)), device=device)
        return batches, self.accelerator.gather(queries).sum()

    def get_train_dataloader(self) -> Any:
        """HF's loader; with several processes an epoch's last update counts every query once, as with one process."""
        loader = super().get_train_dataloader()
        shard = getattr(loader, "batch_sampler", None)
        if (
            isinstance(shard, BatchSamplerShard)
            and isinstance(self.train_dataset, TeacherPermutationDataset)
            and not self.args.dataloader_drop_last
        ):
            inner = shard.batch_sampler
            loader.set_sampler(EvenSampler(inner.sampler, inner.batch_size * shard.num_processes))
        return loader

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        # DeepSpeed casts every float tensor to the engine's dtype here; half precision would make near labels equal
        labels = inputs["labels"]
        prepared = super()._prepare_inputs({name: value for name, value in inputs.items() if name != "labels"})
        return {**prepared, "labels": labels.to(self.args.device)}

    def score(self, model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One forward pass over a collated batch.

        Returns:
            scores float32 ``[Q, G]`` and the loss per query float32 ``[Q]``, all terms weighted and summed.
        """
        outputs = model(**{name: batch[name] for name in self.layout.model_inputs if name in batch})
        verdict = self.layout.verdict(outputs, batch)
        per_query = verdict.scores.new_zeros(len(batch["mask"]))
        for name, term in verdict.terms.items():
            per_query = per_query + self.term_weights.get(name, 1.0) * term
        if self.loss_weight:
            per_query = per_query + self.loss_weight * ranking_loss(
                self.loss,
                verdict.scores,
                batch["labels"],
                batch["mask"],
                batch.get("pair_mask"),
                pair_scores=verdict.pair_scores,
                shown=verdict.pair_mask,
                metric_logits=verdict.metric_logits,
                **self.loss_options,
            )
        return verdict.scores, torch.where(counted(batch["mask"]), per_query, verdict.scores.sum(dim=1) * 0)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Sum over queries / queries of the whole update; the mean over queries outside of training."""
        scores, per_query = self.score(model, inputs)
        if num_items_in_batch is None:
            loss = per_query.mean()
        else:  # data-parallel training averages over the ranks, hence the factor
            loss = per_query.sum() * self.accelerator.num_processes / num_items_in_batch
        return (loss, {"scores": scores}) if return_outputs else loss

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[None, tuple[Tensor, Tensor], Tensor]:
        """No mean loss, but ``(scores [Q, G], loss [Q])`` and group sizes ``[Q]``, which survive padding and gather."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            scores, per_query = self.score(model, inputs)
        return None, (scores, per_query), inputs["mask"].sum(dim=1)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """HF's loader, without in-batch negatives: what is measured are the lists as they are."""
        collator = self.data_collator
        self.data_collator = replace(collator, in_batch_negatives=False)
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """HF's loop; remembers which groups the scores belong to."""
        self._evaluated: list[Group] = [dataloader.dataset[index] for index in range(len(dataloader.dataset))]
        return super().evaluation_loop(dataloader, *args, **kwargs)

    def _ranking_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        scores, per_query = prediction.predictions
        run = {}
        for group, row, size in zip(self._evaluated, scores, prediction.label_ids, strict=True):
            if size != len(group.passages):
                raise RuntimeError(f'scores of {size} passages came back for "{group.query_id}" out of order')
            run[group.query_id] = {
                passage.docid: float(score) for passage, score in zip(group.passages, row[:size], strict=True)
            }
        qrels, prefix = eval_judgements(self._evaluated, self.eval_qrels)
        means = evaluate(run, qrels, EVAL_MEASURES).mean
        report = {"loss": float(per_query.mean()), **{f"{prefix}{name}": means[name] for name in EVAL_MEASURES}}
        if all(group.metrics and group.scores for group in self._evaluated):
            chosen = [chosen_score(group, run[group.query_id]) for group in self._evaluated]
            report["dev_score"] = float(np.mean(chosen))  # LLM-Blender's name
        return report

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """HF's; config, tokenizer and settings also where FSDP leaves the weights in parts, which export joins."""
        super().save_model(output_dir, _internal_call)
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save and not (folder / SETTINGS_FILE).exists():
            folder.mkdir(parents=True, exist_ok=True)
            self.accelerator.unwrap_model(self.model).config.save_pretrained(folder)
            self.layout.tokenizer.save_pretrained(folder)
            self.layout.settings.save(folder)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        with saving(self.args.output_dir):
            super()._save_checkpoint(model, trial)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        if state_dict and isinstance(self.model, PreTrainedModel):
            # DeepSpeed's copies of what the model ties (T5's embeddings, three times)
            tied = self.model.all_tied_weights_keys
            state_dict = {name: value for name, value in state_dict.items() if tied.get(name) not in state_dict}
        folder = Path(output_dir or self.args.output_dir)
        with saving(folder):
            super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.layout.settings.save(folder)
            # a pickle that nothing reads back; the arguments stand in run_config.json
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)


def counted(mask: Tensor) -> Tensor:
    """Which queries of a batch count, bool ``[Q]``: those with passages; a filler has none."""
    return mask.any(dim=1)


def chosen_score(group: Group, scores: Mapping[str, float]) -> float:
    """The teacher's score of the passage that a student's scores, by docid, put first."""
    names = [passage.docid for passage in group.passages]
    return (group.scores or ())[names.index(max(names, key=lambda name: scores[name]))]


class _DrawAnew(TrainerCallback):
    """Tells the dataset its epoch; accelerate's set_epoch stops at the sampler where there are several processes."""

    def __init__(self, dataset: TeacherPermutationDataset) -> None:
        self.dataset = dataset

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.dataset.set_epoch(int(state.epoch or 0))


class _SayWhatRuns(TrainerCallback):
    """Warns where FSDP was asked for and Trainer has silently made something else of it, as it does on CPUs."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        wrapped = self.trainer.model_wrapped
        if not isinstance(wrapped, (FSDPModule, FullyShardedDataParallel)):
            logger.warning(
                "--fsdp was asked for, but training runs as %s: FSDP needs a GPU for each process and a launcher "
                "(torchrun --nproc_per_node N)",
                type(wrapped).__name__,
            )


def eval_judgements(groups: list[Group], qrels: Qrels | None) -> tuple[Qrels, str]:
    """What an evaluation is measured against, and the prefix of its measures' names.

    Args:
        groups: the evaluated groups.
        qrels: judgements of the collection, if there are any; queries outside the groups are left out.

    Returns:
        The judgements and ``""``, or grades by the teacher's order and ``"teacher_"``.
    """
    if qrels is not None:
        names = {group.query_id for group in groups}
        return {query_id: grades for query_id, grades in qrels.items() if query_id in names}, ""
    if all(group.judgements is not None for group in groups):
        return {
            group.query_id: {
                passage.docid: int(grade) for passage, grade in zip(group.passages, group.judgements or (), strict=True)
            }
            for group in groups
        }, ""
    return {
        group.query_id: {
            passage.docid: max(0, TEACHER_TOP + 1 - rank)
            for passage, rank in zip(group.passages, group.ranks(), strict=True)
        }
        for group in groups
    }, "teacher_"


def check_launch(world_size: int, n_gpu: int) -> None:
    """Refuse what would silently train something else than asked for.

    Args:
        world_size: processes that the trainer knows of.
        n_gpu: GPUs that this process would spread over (DataParallel).

    Raises:
        InputError: if a launcher started several processes that would train alone, or one process sees several GPUs.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != world_size:
        raise InputError(
            f"the launcher started {launched} processes but training sees {world_size}, so each would train alone; "
            f"on machines without a GPU add --use_cpu: `torchrun --nproc_per_node {launched} -m "
            f"tevatron_distill.driver.train --use_cpu …` or `deepspeed --num_gpus {launched} --module "
            "tevatron_distill.driver.train --use_cpu --deepspeed …`"
        )
    if n_gpu > 1:
        raise InputError(
            f"one process sees {n_gpu} GPUs, and DataParallel would split groups apart; start with "
            f"`torchrun --nproc_per_node {n_gpu} -m tevatron_distill.driver.train …` or `deepspeed --num_gpus {n_gpu} "
            "--module tevatron_distill.driver.train --deepspeed …`, or set CUDA_VISIBLE_DEVICES=0"
        )

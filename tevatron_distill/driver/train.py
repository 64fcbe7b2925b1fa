"""Train a student on a teacher's groups: ``python -m tevatron_distill.driver.train --help``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate.utils import gather_object
from transformers import EarlyStoppingCallback, set_seed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.data import TrainDataArguments
from tevatron_distill.arguments.model import LayoutArguments, ModelArguments, student_keywords
from tevatron_distill.collator import GroupCollator
from tevatron_distill.dataset import TeacherPermutationDataset
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.checkpoints import check_whole, whole_checkpoints
from tevatron_distill.formats.folder import FolderRecord
from tevatron_distill.formats.jsonl import expand_pattern
from tevatron_distill.formats.provenance import describe_groups
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.reading import Tally
from tevatron_distill.formats.runs import write_run
from tevatron_distill.layouts import Layout
from tevatron_distill.layouts.list import ListLayout
from tevatron_distill.losses import LOSSES
from tevatron_distill.memory import peak_memory
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, Group, InputError, Qrels
from tevatron_distill.students import STUDENTS, load_student, student_name
from tevatron_distill.trainer import DistillRerankerTrainer, check_launch
from tevatron_distill.training_arguments import ANSWER_TERM, DistillTrainingArguments

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Train a student on a teacher's groups."""
    model_args, layout_args, data_args, training_args = parse_arguments(
        argv, ModelArguments, LayoutArguments, TrainDataArguments, DistillTrainingArguments, prog="train"
    )
    check_launch(training_args.world_size, training_args.n_gpu)
    training_args.loss = training_args.loss or default_loss(model_args)
    record = FolderRecord(
        training_args.output_dir,
        as_mapping(model_args, layout_args, data_args, training_args),
        [path for paths in training_files(data_args) for path in paths if path],
        training_args.overwrite_output_dir,
    )
    groups = read_training_groups(data_args)
    eval_dataset, eval_qrels = read_evaluation(data_args)

    set_seed(training_args.seed)
    labels = LOSSES[training_args.loss].labels[0] if data_args.labels == "auto" else data_args.labels
    metrics = metric_names(groups, data_args.using_metrics) if labels == "metrics" else ()
    keywords = student_keywords(model_args, layout_args, training=True)
    keywords["settings"]["metrics"] = metrics or None
    tokenizer, model, layout = load_student(**keywords)
    loss_weight, term_weights = training_args.loss_weights(layout.term_weights)
    prepare_windows(layout, loss_weight, term_weights, largest_group(groups, data_args.train_group_size, eval_dataset))
    trainer = DistillRerankerTrainer(
        model=model,
        args=training_args,
        train_dataset=TeacherPermutationDataset(
            groups,
            data_args.train_group_size,
            training_args.seed,
            data_args.group_sampling,
            data_args.positive_passage_no_shuffle,
            data_args.negative_passage_no_shuffle,
            num_pos=data_args.num_pos,
            num_neg=data_args.num_neg,
            sub_sampling_ratio=data_args.sub_sampling_ratio,
            min_group_size=data_args.min_group_size,
            shuffle_passages=data_args.shuffle_passages,
            pair_sampling=data_args.pair_sampling,
        ),
        eval_dataset=eval_dataset,
        data_collator=GroupCollator(layout, labels, metrics, data_args.use_inbatch_negative),
        processing_class=tokenizer,
        loss=training_args.loss,
        loss_options=training_args.loss_options(),
        loss_weight=loss_weight,
        term_weights=term_weights,
        eval_qrels=eval_qrels,
        row_chunk_size=training_args.row_chunk_size,
        row_chunk_tokens=training_args.row_chunk_tokens,
        callbacks=early_stopping(training_args),
    )
    with record:
        if trainer.is_world_process_zero():
            record.begin()
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(training_args, record.resumes))
        trainer.save_model()
        trainer.accelerator.wait_for_everyone()  # a launcher that sees a process end badly kills those that still save
        if trainer.is_world_process_zero():
            if data_args.test_dataset_path is not None:
                unset_hf_deepspeed_config()  # ZeRO-3 would part what this process alone loads
                rank_test(data_args, training_args)
            origin = {"data": describe_groups(groups, data_args.dataset_path), "base_revision": revision_of(model)}
            record.finish({"log_history": trainer.state.log_history, **origin, **peak_memory()})


def revision_of(model: Any) -> str | None:
    """The commit of the hub that the base model was loaded from; None for a folder."""
    return getattr(model.config, "_commit_hash", None)


def checkpoint_to_resume(training_args: DistillTrainingArguments, resumes: bool) -> str | None:
    """The checkpoint to go on from: the one asked for, else the last that is whole on all processes; None for none.

    Args:
        training_args: of the run.
        resumes: the output folder holds unfinished work of the same command.

    Raises:
        InputError: if the checkpoint that was asked for is torn.
    """
    if training_args.resume_from_checkpoint:
        check_whole(training_args.resume_from_checkpoint)
        return str(training_args.resume_from_checkpoint)
    folder = Path(training_args.output_dir or "")
    here = whole_checkpoints(folder, training_args.process_index, training_args.world_size) if resumes else set()
    common = set.intersection(*gather_object([here]))
    return str(folder / f"checkpoint-{max(common)}") if common else None


def rank_test(data_args: TrainDataArguments, training_args: DistillTrainingArguments) -> None:
    """Rank ``--test_dataset_path`` by the student that was saved, into ``OUTPUT_DIR/run.tsv``."""
    options = replace(data_args.reading_for_evaluation(), max_queries=data_args.max_predict_data_size)
    candidates = load_candidates(data_args.test_dataset_path, options=options)
    reranker = Reranker.from_pretrained(training_args.output_dir or "", device=training_args.device)
    run = {
        one.query_id: dict(zip((passage.docid for passage in one.passages), scores, strict=True))
        for one, scores in zip(candidates, reranker.score_candidates(candidates), strict=True)
    }
    write_run(Path(training_args.output_dir or "", "run.tsv"), run, overwrite=True)


def default_loss(model_args: ModelArguments) -> str:
    """The loss that the student is trained by where none is asked for."""
    options = model_args.load_options(training=True)
    return STUDENTS[student_name(model_args.model_name_or_path, model_args.student, options)].loss


def largest_group(
    groups: Sequence[Group], train_group_size: int, eval_dataset: TeacherPermutationDataset | None
) -> int:
    """The most passages that a student is shown of a query, in training or in the evaluation during it."""
    drawn = min(train_group_size, max(len(group.passages) for group in groups))
    return max([drawn, *(len(group.passages) for group in (eval_dataset.groups if eval_dataset else ()))])


def prepare_windows(layout: Layout, loss_weight: float, term_weights: Mapping[str, float], largest: int) -> None:
    """See that a list student has identifiers for all groups, and leave out answers that are not learned.

    Raises:
        InputError: if there are too few identifiers, or their logits are to be learned and are not there.
    """
    if not isinstance(layout, ListLayout):
        return
    if loss_weight and not layout.loss_kinds:
        raise InputError(
            "--objective ranking and combined learn from the logits of identifiers, which must be single tokens; here "
            "some are several; use --objective generation, or a --prompt with letters"
        )
    layout.encode.identifier_ids(largest)
    layout.answers = term_weights.get(ANSWER_TERM, 1.0) > 0


def metric_names(groups: Sequence[Group], using_metrics: str | None) -> tuple[str, ...]:
    """The measures that are learned: those asked for, else all that the first group has."""
    if using_metrics:
        return tuple(name.strip() for name in using_metrics.split(",") if name.strip())
    return tuple(groups[0].metrics or ()) if groups else ()


def early_stopping(training_args: DistillTrainingArguments) -> list[EarlyStoppingCallback]:
    """The callback of ``--early_stopping_patience``, where it is given; a resumed training goes on counting."""
    patience = training_args.early_stopping_patience
    if patience is None:
        return []
    training_args.restore_callback_states_from_checkpoint = True
    return [EarlyStoppingCallback(patience)]


def training_files(data_args: TrainDataArguments) -> list[tuple[str | None, str | None, str | None]]:
    """Rows, permutations and teacher's run that belong together; patterns (``*``) pair up in sorted order.

    Raises:
        InputError: if a pattern matches nothing, or the patterns match different numbers of files.
    """
    patterns = (data_args.dataset_path, data_args.permutation_path, data_args.teacher_run_path)
    files = {pattern: expand_pattern(pattern) for pattern in patterns if pattern is not None}
    counts = [len(paths) for paths in files.values()]
    if len(set(counts)) > 1:
        raise InputError(
            f"patterns of files must match equally many, to be paired in sorted order; got {counts} for {list(files)}"
        )
    none = [None] * (counts[0] if counts else 1)
    return list(zip(*(none if pattern is None else files[pattern] for pattern in patterns), strict=True))


def read_training_groups(data_args: TrainDataArguments) -> list[Group]:
    """The groups to learn from, of all files, cut to this shard."""
    groups: list[Group] = []
    tally = Tally()
    for dataset_path, permutation_path, teacher_run_path in training_files(data_args):
        groups += load_groups(
            dataset_path,
            dataset_name=data_args.dataset_name,
            dataset_config=data_args.dataset_config,
            dataset_split=data_args.dataset_split,
            dataset_cache_dir=data_args.dataset_cache_dir,
            permutation_path=permutation_path,
            teacher_run_path=teacher_run_path,
            options=data_args.reading(),
            tally=tally,
        )
    tally.warn()
    if data_args.max_train_data_size > 0:
        groups = groups[: data_args.max_train_data_size]
    logger.info("read %d groups from %s", len(groups), data_args.dataset_path or data_args.dataset_name)
    return groups[data_args.dataset_shard_index :: data_args.dataset_number_of_shards]


def read_evaluation(data_args: TrainDataArguments) -> tuple[TeacherPermutationDataset | None, Qrels | None]:
    """Whole groups to rank during training, and their judgements."""
    if data_args.eval_dataset_path is None:
        return None, None
    path, options = data_args.eval_dataset_path, data_args.reading_for_evaluation()
    if data_args.eval_qrels_path is None:
        return TeacherPermutationDataset(load_groups(path, options=options), train_group_size=None), None
    qrels = read_qrels(data_args.eval_qrels_path)
    groups = [judged_group(candidates, qrels) for candidates in load_candidates(path, options=options)]
    return TeacherPermutationDataset(groups, train_group_size=None), qrels


def judged_group(candidates: Candidates, qrels: Qrels) -> Group:
    """A group to evaluate on; its grades stand in for scores and preferences in the loss that is reported."""
    group = candidates.judged(qrels.get(candidates.query_id, {}))
    grades = group.judgements or ()
    places = range(len(grades))
    unequal = ((i, j) for i in places for j in places[:i] if grades[i] != grades[j])
    return replace(group, scores=grades, preferences=tuple((i, j, float(grades[i] > grades[j])) for i, j in unequal))


if __name__ == "__main__":
    run_main(main)

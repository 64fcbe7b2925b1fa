"""bench.py's rows of training."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import bench_inputs
import peers
import torch
from bench_measure import (
    Outcome,
    Setting,
    apart,
    bare_products,
    compared,
    counting_tokens,
    in_turn,
    peak_resident,
    reset_peak,
    resident,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

from tevatron_distill import (
    DistillRerankerTrainer,
    GroupCollator,
    TeacherPermutationDataset,
    load_student,
)
from tevatron_distill.collator import group_labels
from tevatron_distill.schema import Group
from tevatron_distill.students import LoadOptions

GROUP_SIZE = 20
CHUNK = 8
"""Rows of a chunk where the memory of a group of 100 is measured."""
SCHEDULE = {
    "learning_rate": 0.0,  # so that the losses of all steps can be compared, in whatever order the queries come
    "weight_decay": 0.0,
    "num_train_epochs": 1,
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "logging_strategy": "no",
}


def versus_sentence_transformers(setting: Setting) -> Outcome:
    """CrossEncoderTrainer with RankNetLoss, 16 pairs at a time as in its own examples; two groups of 20 a step."""
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import RankNetLoss

    path = str(bench_inputs.cross_encoder(setting.folder))
    groups = bench_inputs.as_groups(bench_inputs.mixed(6, GROUP_SIZE))
    rows = Dataset.from_dict(
        {
            "query": [group.query for group in groups],
            "docs": [[text for _, text in bench_inputs.as_pairs([group])] for group in groups],
            "labels": [list(group_labels(group, "reciprocal")) for group in groups],
        }
    )

    def theirs() -> Callable[[], float]:
        model = CrossEncoder(path, device="cpu", max_length=512, activation_fn=torch.nn.Identity())
        trainer = CrossEncoderTrainer(
            model=model,
            args=CrossEncoderTrainingArguments(
                output_dir=tempfile.mkdtemp(), per_device_train_batch_size=2, **SCHEDULE
            ),
            train_dataset=rows,
            loss=RankNetLoss(model, mini_batch_size=16),
        )
        return lambda: trainer.train().training_loss * math.log(2)  # theirs is in bits

    def ours() -> Callable[[], float]:
        return our_training(path, "cross_encoder", groups, batch_size=2)

    timed = in_turn({"sentence-transformers": theirs, "ours": ours}, setting.repeats, prepared=True)
    return _outcome(timed, setting, 1.6, path, "cross_encoder", groups)


def versus_instruct_distill(setting: Setting) -> Outcome:
    """InstructDistill's loop: a causal student, a group of 20 a step, padded, all logits."""
    return _causal(setting, "large_head", bench_inputs.LARGE_HEAD, 2.0)


def small_head(setting: Setting) -> Outcome:
    """The same with a student whose head is a smaller part of it."""
    return _causal(setting, "small_head", bench_inputs.SMALL_HEAD, None)


def _causal(setting: Setting, name: str, shape: dict[str, Any], reach: float | None) -> Outcome:
    path = str(bench_inputs.causal(setting.folder, name, **shape))
    groups = bench_inputs.as_groups(bench_inputs.mixed(2, GROUP_SIZE))
    tokenizer = AutoTokenizer.from_pretrained(path)
    _, _, layout = load_student(path, "yes_token", options=LoadOptions(dtype="float32"))
    prompts = [
        (
            [tokenizer.decode(row.input_ids, skip_special_tokens=True) for row in layout.rows(group)],
            list(group_labels(group, "reciprocal")),
        )
        for group in groups
    ]

    def theirs() -> Callable[[], float]:
        model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
        answer, length = layout.settings.yes_token_id or 0, layout.settings.rerank_max_len

        def train() -> float:
            losses = peers.train_yes_token(model, tokenizer, prompts, answer, learning_rate=0.0, max_length=length)
            return sum(losses) / len(losses)

        return train

    def ours() -> Callable[[], float]:
        return our_training(path, "yes_token", groups, batch_size=1)

    timed = in_turn({"InstructDistill's loop": theirs, "ours": ours}, min(2, setting.repeats), prepared=True)
    return _outcome(timed, setting, reach, path, "yes_token", groups)


def our_training(
    path: str, student: str, groups: Sequence[Group], batch_size: int, **keywords: Any
) -> Callable[[], float]:
    """A training that is ready to begin; it returns the mean loss of a query."""
    trainer = our_trainer(path, student, groups, batch_size, **keywords)
    return lambda: trainer.train().training_loss


def our_trainer(
    path: str, student: str, groups: Sequence[Group], batch_size: int, **keywords: Any
) -> DistillRerankerTrainer:
    """Our trainer on whole groups, by RankNet."""
    tokenizer, model, layout = load_student(path, student, options=LoadOptions(dtype="float32", training=True))
    return DistillRerankerTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=batch_size,
            remove_unused_columns=False,
            **SCHEDULE,
        ),
        train_dataset=TeacherPermutationDataset(groups, train_group_size=len(groups[0].passages), sampling="top"),
        data_collator=GroupCollator(layout),
        processing_class=tokenizer,
        loss="rank_net",
        **keywords,
    )


def ranker(setting: Setting) -> str:
    """The folder of a cross-encoder that has learned something, made once: for the rows about nDCG.

    MiniLM on judgements of NFCorpus' training queries, 7,040 pairs of 64 tokens: minutes, and far from the best that
    can be done, but its ranking is no chance.

    Args:
        setting: names a folder of the user's, which is taken instead.
    """
    if setting.ranker is not None:
        return setting.ranker
    path = setting.folder / "ranker"
    if not (path / "reranker_config.json").exists():
        lists, qrels = bench_inputs.nfcorpus(50, "train")
        judged = [one.judged(qrels[one.query_id]) for one in lists]
        groups = [group for group in judged if group.num_ranked and len(set(group.judgements or ())) > 1]
        options = LoadOptions(dtype="float32", training=True)
        base = str(bench_inputs.cross_encoder(setting.folder))
        tokenizer, model, layout = load_student(base, "cross_encoder", options=options, settings={"rerank_max_len": 64})
        torch.manual_seed(0)
        with torch.no_grad():
            model.classifier.weight.normal_(0.0, 0.02)
        learning = {"learning_rate": 1e-4, "warmup_steps": 20, "max_steps": 220, "per_device_train_batch_size": 4}
        trainer = DistillRerankerTrainer(
            model=model,
            args=TrainingArguments(output_dir=str(path), remove_unused_columns=False, **{**SCHEDULE, **learning}),
            train_dataset=TeacherPermutationDataset(groups, train_group_size=8, sampling="one_positive"),
            data_collator=GroupCollator(layout),
            processing_class=tokenizer,
            loss="rank_net",
        )
        trainer.train()
        trainer.save_model()
    return str(path)


def small_ranker(setting: Setting) -> str:
    """The folder of a student for the front of a cascade: one layer of MiniLM by MaxSim, which needs no training."""
    if setting.small_ranker is not None:
        return setting.small_ranker
    path = setting.folder / "small_ranker"
    if not (path / "reranker_config.json").exists():
        options = LoadOptions(dtype="float32", training=True, num_hidden_layers=1)
        base = bench_inputs.quickstart_weights.weights_folder()
        loaded = load_student(str(base), "colbert", options=options, settings={"passage_max_len": 64})
        loaded.model.save_pretrained(path)
        loaded.tokenizer.save_pretrained(path)
        loaded.layout.settings.save(path)
    return str(path)


def _outcome(
    timed: dict[str, Any], setting: Setting, reach: float | None, path: str, student: str, groups: Sequence[Group]
) -> Outcome:
    trainer = our_trainer(path, student, groups, 1)
    with counting_tokens(trainer.model) as counted, torch.no_grad():
        for group in groups:
            trainer.score(trainer.model, trainer.data_collator([group]))
    real = sum(row.length for group in groups for row in trainer.layout.rows(group))
    [other] = [name for name in timed if name != "ours"]
    return compared(
        timed,
        setting,
        reach,
        {"losses": abs(timed["ours"].result - timed[other].result)},
        # forward, and backward to inputs and to weights
        products=3
        * bare_products(trainer.model, ("classifier", "pooler", "score", "lm_head"), setting.clock)
        * counted.computed,
        real_share=real / counted.computed,
        tokens=real,
        rows=sum(len(group.passages) for group in groups),
    )


def memory(setting: Setting) -> Outcome:
    """What a step on a group of 100 takes beside the model, whole and in chunks of 8 rows."""
    path = str(bench_inputs.cross_encoder(setting.folder))
    whole, chunked = (
        apart("bench_train", "memory_of_step", setting.threads, path=path, row_chunk_size=size) for size in (0, CHUNK)
    )
    ratio = whole / chunked
    return Outcome(
        f"1/{ratio:.1f} ({whole:.0f} → {chunked:.0f} MiB)",
        ratio,
        ratio >= 5,
        "",
        {"whole_mib": whole, "chunked_mib": chunked, "row_chunk_size": CHUNK},
    )


def memory_of_step(path: str, row_chunk_size: int) -> float:
    """MiB that one step on a group of 100 takes beside the model, gradients and the optimizer's numbers included."""
    [group] = bench_inputs.as_groups(bench_inputs.msmarco(100)[0][:1])
    keywords: dict[str, Any] = {"row_chunk_size": row_chunk_size} if row_chunk_size else {"row_chunk_tokens": 0}
    train = our_training(path, "cross_encoder", [group], 1, **keywords)
    reset_peak()
    before = resident()
    train()
    return peak_resident() - before

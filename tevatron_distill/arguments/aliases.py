"""The flags of other projects: one table that turns their command lines into ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tevatron_distill.schema import InputError

Words = dict[str, list[str]]
"""Flags without their dashes, each with the words behind it."""

ANY = ""
"""Stands for every value that is not listed."""


@dataclass(frozen=True, slots=True)
class Alias:
    """What a flag of another project means here.

    Attributes:
        project: whose flag it is.
        to: our flag; None where it has none of its own.
        by: for flags whose meaning depends on others: ``(value, command line) → our flags``.
        values: their value, in lower case, to ours; other values stay as they are.
        adds: by their value in lower case, or `ANY`: flags that it implies where the command line does not set them.
        refused: by their value in lower case, or `ANY`: why it cannot be taken, and what to do.
        dropped: values that mean the same as leaving the flag out.
        verbs: the drivers that take it; empty for all.
    """

    project: str
    to: str | None = None
    by: Callable[[str, Words], Mapping[str, str]] | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    adds: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()


def canonical_words(words: Sequence[str], known: set[str], verb: str | None) -> tuple[list[str], bool]:
    """A command line with every foreign flag in our spelling.

    Args:
        words: words of the command line.
        known: our flags of this driver, without dashes.
        verb: the driver.

    Returns:
        The words, and whether a foreign flag was among them. Flags that are neither ours nor in the table stay, for
        the parser to refuse.

    Raises:
        InputError: if a foreign flag has a value that cannot be taken here.
    """
    given = dict(split_words(words))
    if ANY in given:  # a word before the first flag, which the parser refuses
        return list(words), False
    ours: Words = {}
    implied: dict[str, str] = {}
    foreign = False
    for name, values in given.items():
        alias = _find(name, values, known, verb)
        if alias is None:
            ours[name] = values
            continue
        foreign = True
        value = values[0].lower() if values else "true"
        if value in alias.dropped:
            continue
        if value in alias.refused or ANY in alias.refused:
            reason = alias.refused.get(value, alias.refused.get(ANY))
            raise InputError(f"--{name} {' '.join(values)} ({alias.project}): {reason}")
        if alias.by is not None:
            found = alias.by(values[0] if values else "true", given)
            ours.update({flag: [word] for flag, word in found.items() if flag in known})
        implied.update(alias.adds.get(value, alias.adds.get(ANY, {})))
        if alias.to is not None and alias.to in known:
            ours.setdefault(alias.to, [alias.values.get(word.lower(), word) for word in values])
    for name, value in implied.items():
        if name in known:
            ours.setdefault(name, [value])
    return [word for name, values in ours.items() for word in spell_flag(name, values)], foreign


def spell_flag(name: str, values: Sequence[str]) -> list[str]:
    """The words of a flag; a value that looks like a flag stands behind ``=``.

    >>> spell_flag("measures", ["RR@10", "AP"]), spell_flag("query_prefix", ["- "])
    (['--measures', 'RR@10', 'AP'], ['--query_prefix=- '])
    """
    if len(values) == 1 and values[0].startswith("-") and not values[0][1:].isdecimal():
        return [f"--{name}={values[0]}"]
    return [f"--{name}", *values]


def split_words(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag of a command line, without its dashes, with the words behind it; `ANY` for words before the first."""
    name = ANY
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            if name or values:
                yield name, values
            name, equals, value = word[2:].partition("=")
            name, values = name.replace("-", "_"), [value] if equals else []
        else:
            values.append(word)
    if name or values:
        yield name, values


def _find(name: str, values: Sequence[str], known: set[str], verb: str | None) -> Alias | None:
    for alias in ALIASES.get(name, ()):
        if alias.verbs and verb not in alias.verbs:
            continue
        if name not in known or {value.lower() for value in values} & set(alias.values):
            return alias
    return None


def _file_or_name(value: str, given: Words) -> dict[str, str]:
    """RankLLM: a file, or the name of a dataset."""
    return {"dataset_path": value} if Path(value).exists() else {"dataset_name": value}


def _file_or_hub(value: str, given: Words) -> dict[str, str]:
    """open-retrievals: a file or folder, or ``owner/name[:config][/split]``."""
    if Path(value).exists():
        return {"dataset_path": value}
    owner, _, rest = value.partition("/")
    name, _, split = rest.partition("/")
    name, _, config = f"{owner}/{name}".partition(":")
    flags = {"dataset_name": name, "dataset_config": config, "dataset_split": split}
    return {flag: word for flag, word in flags.items() if word}


def _row_length(value: str, given: Words) -> dict[str, str]:
    """open-retrievals: the length of a pair, or of colbert's passage."""
    colbert = _first(given, "model_type", _first(given, "student")).lower() == "colbert"
    return {"passage_max_len" if colbert else "rerank_max_len": value}


def _retrieved(value: str, given: Words) -> dict[str, str]:
    """RankLLM: the file in which it keeps what a first stage retrieved."""
    method = _first(given, "retrieval_method", "BM25")
    return {"dataset_path": f"retrieve_results/{method}/retrieve_results_{value}.json"}


def _template(value: str, given: Words) -> dict[str, str]:
    """RankLLM: a template's file; identifiers that are letters need the prompt that says so."""
    name = Path(value).stem.removesuffix("_template")
    return {} if "use_alpha" in given else {"prompt": name}


def _rank_llm_model(value: str, given: Words) -> dict[str, str]:
    """RankLLM: a listwise model that generates numbers, unless it is told to read the logits, or letters."""
    decode = "logits" if "use_logits" in given else "generation"
    flags = {"model_name_or_path": value, "student": "listwise", "decode": decode}
    return flags if "use_alpha" in given or "prompt_template_path" in given else {**flags, "prompt": "rank_zephyr"}


def _checkpointing(value: str, given: Words) -> dict[str, str]:
    return {"save_strategy": "epoch"} if value == "epoch" else {"save_strategy": "steps", "save_steps": value}


def _backbone(value: str, given: Words) -> dict[str, str]:
    """LLM-Blender: the backbone, unless training starts from a checkpoint."""
    return {} if _first(given, "load_checkpoint") else {"model_name_or_path": value}


def _ranker_of(given: Words) -> str:
    return RANKERS.get(_first(given, "ranker_type").lower(), "pair_ranker")


def _first(given: Words, name: str, default: str = "") -> str:
    """The word behind a flag; the default where there is no flag, or no word."""
    return next(iter(given.get(name, ())), default)


def _sub_sampling(value: str, given: Words) -> dict[str, str]:
    """LLM-Blender: pairs for PairRanker, candidates for the others, where ``uniform`` is a stride."""
    if _ranker_of(given) == "pair_ranker":
        return {"pair_sampling": value}
    return {"group_sampling": {"uniform": "stride", "random": "uniform"}.get(value, value)}


def _source_length(value: str, given: Words) -> dict[str, str]:
    """LLM-Blender: SummaReranker reads source and candidate as one row, whose length is the sum."""
    if _ranker_of(given) != "summa_reranker":
        return {"query_max_len": value}
    lengths = value, _first(given, "candidate_maxlength", "256")
    if not all(re.fullmatch("[0-9]{1,9}", length) for length in lengths):
        raise InputError(f"--source_maxlength and --candidate_maxlength must be numbers; got {' and '.join(lengths)}")
    return {"query_max_len": value, "rerank_max_len": str(sum(map(int, lengths)))}


def _permutations(value: str, given: Words) -> dict[str, str]:
    """InstructDistill: a list of permutations; the groups themselves are written beside it."""
    return {"permutation_path": value, "output_path": str(Path(value).with_suffix(".groups.jsonl"))}


RANKERS = {
    "pairranker": "pair_ranker",
    "summareranker": "summa_reranker",
    "summaranker": "summa_reranker",
    "simcls": "simcls",
    "dual": "simcls",
}
RANK_LLM_DEFAULTS = {"student": "listwise", "objective": "generation", "loss": "ndcg_loss2"}
RANK_LLM, BLENDER, OPEN, DISTILL = "RankLLM", "LLM-Blender", "open-retrievals", "InstructDistill"
TEVATRON = "Tevatron"
TRAIN, RERANK, TEACH, RETRIEVE = ("train",), ("rerank",), ("teach",), ("retrieve",)
ONE_PROCESS = "start as many processes: torchrun --nproc_per_node N -m tevatron_distill.driver.rerank … shares them out"

ALIASES: dict[str, tuple[Alias, ...]] = {
    # RankLLM, training/train_rankllm.py
    "train_dataset_path": (Alias(RANK_LLM, by=_file_or_name, adds={ANY: RANK_LLM_DEFAULTS}),),
    "ranking_loss": (
        Alias(RANK_LLM, "loss", values={"lambda": "ndcg_loss2", "listnet": "list_net", "ranknet": "rank_net"}),
    ),
    "noisy_embedding_alpha": (Alias(RANK_LLM, "neftune_noise_alpha"),),
    "max_train_steps": (Alias(RANK_LLM, "max_steps"),),
    "num_warmup_steps": (Alias(RANK_LLM, "warmup_steps"),),
    "checkpointing_steps": (Alias(RANK_LLM, by=_checkpointing),),
    "with_tracking": (Alias(RANK_LLM),),
    "preprocessing_num_workers": (Alias(RANK_LLM),),
    "overwrite_cache": (Alias(RANK_LLM),),
    "low_cpu_mem_usage": (Alias(RANK_LLM),),
    # RankLLM, run_rank_llm.py
    "model_path": (Alias(RANK_LLM, by=_rank_llm_model, verbs=RERANK),),
    "top_k_candidates": (Alias(RANK_LLM, "depth"),),
    "dataset": (Alias(RANK_LLM, by=_retrieved, verbs=RERANK),),
    "retrieval_method": (Alias(RANK_LLM, verbs=RERANK),),
    "requests_file": (Alias(RANK_LLM, "dataset_path"),),
    "output_trec_file": (Alias(RANK_LLM, "rerank_output_path", adds={ANY: {"output_format": "trec"}}),),
    "context_size": (Alias(RANK_LLM, "rerank_max_len"),),
    "stride": (Alias(RANK_LLM, "step_size"),),
    "batch_size": (Alias(RANK_LLM, "per_device_eval_batch_size", verbs=RERANK),),
    "variable_passages": (Alias(RANK_LLM),),  # windows may always be shorter than the window size
    "use_logits": (Alias(RANK_LLM),),  # see model_path
    "use_alpha": (Alias(RANK_LLM, adds={ANY: {"prompt": "rank_zephyr_alpha"}}),),
    "prompt_template_path": (Alias(RANK_LLM, by=_template),),
    "prompt_mode": (Alias(RANK_LLM),),  # without effect there, too
    "num_gpus": (Alias(RANK_LLM, dropped=("1",), refused={ANY: ONE_PROCESS}, verbs=RERANK),),
    # LLM-Blender, train_ranker.py
    # it draws from all candidates of a row
    "ranker_type": (Alias(BLENDER, "student", values=RANKERS, adds={ANY: {"train_group_size": "1000"}}),),
    "model_type": (
        Alias(
            OPEN,
            "student",
            values={"cross-encoder": "cross_encoder", "colbert": "colbert", "llm": "llm_ranker"},
            adds={
                "cross-encoder": {"loss": "pointwise_bce", "labels": "judgements"},
                "colbert": {"loss": "softmax_ce", "colbert_convention": "open_retrievals"},
                "llm": {"loss": "softmax_ce"},
            },
            # LLM-Blender's names of backbones, which the model's config says
            dropped=("roberta", "bert", "t5", "deberta", "xlm-roberta", "flan-t5", "alpaca", "opt", "phi", "phi-2"),
        ),
    ),
    "model_name": (Alias(BLENDER, by=_backbone),),
    "load_checkpoint": (Alias(BLENDER, "model_name_or_path", dropped=("",)),),
    "loss_type": (
        Alias(
            BLENDER,
            "loss",
            values={
                "instructgpt": "rank_net",
                "bce": "pair_bce",
                "open_instruct_bce": "open_instruct_bce",
                "mse": "pair_mse",
                "moe_bce": "metric_bce",
                "simcls": "margin_rank",
            },
        ),
    ),
    "source_maxlength": (Alias(BLENDER, by=_source_length),),
    "candidate_maxlength": (Alias(BLENDER, "passage_max_len"),),
    "sub_sampling_mode": (Alias(BLENDER, by=_sub_sampling),),
    "train_data_path": (Alias(BLENDER, "dataset_path"),),
    "eval_data_path": (Alias(BLENDER, "eval_dataset_path"),),
    "test_data_path": (Alias(BLENDER, "test_dataset_path"),),
    "evaluate_before_training": (Alias(BLENDER, "eval_on_start"),),
    "save_predictions": (Alias(BLENDER),),
    "adafactor": (Alias(BLENDER, adds={"true": {"optim": "adafactor"}}),),
    # open-retrievals, retrievals.pipelines.rerank
    "data_name_or_path": (Alias(OPEN, by=_file_or_hub),),
    "causal_lm": (Alias(OPEN),),  # the model's config says it
    "query_max_length": (Alias(OPEN, "query_max_len"),),
    "max_length": (Alias(OPEN, by=_row_length, verbs=("train", "rerank")),),
    "max_len": (Alias(OPEN, by=_row_length, verbs=("train", "rerank")),),
    "query_instruction": (Alias(OPEN, "query_prefix"),),
    "document_instruction": (Alias(OPEN, "passage_prefix"),),
    "use_lora": (Alias(OPEN, "lora"),),
    "negatives_cross_device": (Alias(OPEN),),  # without effect there, too
    "do_rerank": (Alias(OPEN),),  # without effect there, too
    # Tevatron, retriever.driver.encode and search
    "model_name_or_path": (
        Alias(TEVATRON, "encoder_name_or_path", adds={ANY: {"retriever": "dense"}}, verbs=RETRIEVE),
    ),
    "pooling": (
        Alias(
            TEVATRON,
            "pooling",
            values={"first": "cls", "avg": "mean", "average": "mean", "eos": "last"},
            verbs=RETRIEVE,
        ),
    ),
    "bf16": (Alias(TEVATRON, adds={"true": {"dtype": "bfloat16"}}, dropped=("false",), verbs=RETRIEVE),),
    "fp16": (Alias(TEVATRON, adds={"true": {"dtype": "float16"}}, dropped=("false",), verbs=RETRIEVE),),
    "save_ranking_to": (Alias(TEVATRON, "output_path", verbs=RETRIEVE),),
    # InstructDistill, instruction_distill.py and pairwise_ranking.py
    "model": (
        Alias(DISTILL, "model_name_or_path", adds={ANY: {"student": "yes_token", "loss": "rank_net"}}, verbs=TRAIN),
        Alias(DISTILL, "model_name_or_path"),
    ),
    "data": (Alias(DISTILL, "dataset_path"),),
    "permutation": (Alias(DISTILL, "permutation_path"),),
    "save_path": (
        Alias(DISTILL, "output_dir", verbs=TRAIN),
        Alias(DISTILL, by=_permutations, verbs=TEACH),
    ),
    "generate": (Alias(DISTILL, verbs=TEACH),),
    "eval": (
        Alias(
            DISTILL,
            dropped=("false",),
            refused={ANY: "its benchmarks lay in files of its authors; teach on yours, then evaluate --run_path"},
            verbs=TEACH,
        ),
    ),
    # transformers 5 removed or renamed these
    "evaluation_strategy": (Alias("transformers 4", "eval_strategy"),),
    "warmup_ratio": (Alias("transformers 4", "warmup_steps"),),  # a number below 1 is a share of all steps
}
"""Their flag → what it means here; the first row whose verb fits counts."""

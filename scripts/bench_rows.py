"""bench.py's table of rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import bench_gpu
import bench_rerank
import bench_start
import bench_teach
import bench_train
from bench_measure import Outcome, Setting


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        work: what is done.
        against: by whom it is done, too.
        reach: what is asked for.
        run: measures it.
    """

    work: str
    against: str
    reach: str
    run: Callable[[Setting], Outcome]


RERANK = "rerank, 22M cross-encoder, NFCorpus and MS MARCO passages, CPU fp32"

ROWS: dict[str, Row] = {
    "rerank_sentence_transformers": Row(
        RERANK, "sentence-transformers `CrossEncoder.predict`", "≥ 1.4×", bench_rerank.versus_sentence_transformers
    ),
    "rerank_flag_embedding": Row(RERANK, "FlagEmbedding `FlagReranker`", "-", bench_rerank.versus_flag_embedding),
    "rerank_tevatron": Row(
        RERANK, "Tevatron's loop (order of arrival, 64 a batch, padded to 16)", "≥ 3.8×", bench_rerank.versus_tevatron
    ),
    "rerank_tevatron_short_lists": Row(
        RERANK + ", lists of 5",
        "the same loop",
        "≥ 3.8×",
        partial(
            bench_rerank.versus_tevatron, num_queries=bench_rerank.SHORT_LISTS[0], depth=bench_rerank.SHORT_LISTS[1]
        ),
    ),
    "rerank_int8": Row(
        "the same by `--backend onnx --onnx_dtype int8`",
        "sentence-transformers, fp32",
        "≥ 1.6×, nDCG@10 within .003",
        bench_rerank.int8,
    ),
    "rerank_cascade": Row(
        "one layer by MaxSim on 100, the whole cross-encoder on its best 20",
        "the cross-encoder on 100",
        "≥ 1.8×, nDCG@10 within .005",
        bench_rerank.cascade,
    ),
    "real_tokens": Row("share of real tokens", "-", "≥ .97", bench_rerank.real_tokens),
    "yes_token": Row(
        "Yes-token student, 151,936 tokens", "all logits", "no vocabulary-sized tensor", bench_rerank.yes_token
    ),
    "prp_causal": Row(
        "PRP teacher, all pairs of 20, causal LM of 29M (13M and 32,000 tokens)",
        "published loop (10 prompts a batch, all logits)",
        "≥ 4.5×",
        bench_teach.prp_causal,
    ),
    "prp_small_head": Row(
        "the same, 33M (25M and 16,384 tokens: Qwen3-0.6B's proportions)",
        "published loop",
        "-",
        bench_teach.prp_small_head,
    ),
    "prp_t5": Row(
        "PRP teacher, all pairs of 20, T5 (FLAN-T5-small's shape)", "published loop", "≥ 1.3×", bench_teach.prp_t5
    ),
    "train_sentence_transformers": Row(
        "training step, 22M cross-encoder, groups of 20, real lengths",
        "sentence-transformers' trainer, RankNetLoss",
        "≥ 1.6×",
        bench_train.versus_sentence_transformers,
    ),
    "train_causal": Row(
        "training step, causal student of 29M (13M and 32,000 tokens), groups of 20, real lengths",
        "InstructDistill's loop",
        "≥ 2×",
        bench_train.versus_instruct_distill,
    ),
    "train_small_head": Row(
        "the same, 33M (25M and 16,384 tokens)", "InstructDistill's loop", "-", bench_train.small_head
    ),
    "memory": Row("memory of a step, group of 100, `--row_chunk_size 8`", "plain step", "≤ 1/5", bench_train.memory),
    "questions": Row(
        "questions for the top 10 of 100",
        "llm-rankers' loops; all pairs",
        "≤ 60, nDCG@10 within .01 of all pairs under a judge that errs",
        bench_teach.questions,
    ),
    "start": Row("start", "-", "no torch, < 1.5 s", bench_start.start),
    **{
        f"gpu_{shape}": Row(
            f"rerank, {shape.upper()}, GPU bf16",
            "sentence-transformers, bf16 sdpa",
            "≥ 1.5×",
            partial(bench_gpu.versus_sentence_transformers, shape=shape),
        )
        for shape in bench_gpu.SHAPES
    },
}

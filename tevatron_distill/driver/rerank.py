"""Rerank candidates with a student: ``python -m tevatron_distill.driver.rerank --help``."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.data import DatasetArguments
from tevatron_distill.arguments.model import LayoutArguments, ModelArguments, student_keywords
from tevatron_distill.arguments.rerank import RerankArguments
from tevatron_distill.driver.common import as_mapping, read_candidates, run_main
from tevatron_distill.formats.output import ResumableOutput
from tevatron_distill.formats.runs import format_run_lines
from tevatron_distill.layouts import DualLayout
from tevatron_distill.reranker import Reranker, default_dtype
from tevatron_distill.schema import Candidates, InputError
from tevatron_distill.students import load_student
from tevatron_distill.training_arguments import DistillTrainingArguments

BLOCK_PAIRS = 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Rerank candidates with a student."""
    model_args, layout_args, data_args, rerank_args, training_args = parse(argv)
    dtype = chosen_dtype(training_args)
    with ResumableOutput(
        rerank_args.rerank_output_path or "",
        {**as_mapping(model_args, layout_args, data_args, rerank_args), "dtype": model_args.dtype or dtype}
        | {"per_device_eval_batch_size": training_args.per_device_eval_batch_size},
        [*([data_args.dataset_path] if data_args.dataset_path else []), *model_files(model_args)],
        training_args.overwrite_output_dir,
    ) as output:
        candidates = read_candidates(data_args, rerank_args.depth)
        student = load_student(**student_keywords(model_args, layout_args, training=False, dtype=dtype))
        settings = student.layout.settings
        full = settings.passage_max_len if isinstance(student.layout, DualLayout) else settings.rerank_max_len
        budget = rerank_args.max_batch_tokens or training_args.per_device_eval_batch_size * (full or 1)
        reranker = Reranker(student.model, student.layout, training_args.device, budget)
        if rerank_args.passage_vectors_path:
            reranker.use_passage_vectors(rerank_args.passage_vectors_path, candidates)
        output.add_report(rerank(reranker, candidates, rerank_args, output))


Arguments = tuple[ModelArguments, LayoutArguments, DatasetArguments, RerankArguments, DistillTrainingArguments]


def parse(argv: Sequence[str] | None) -> Arguments:
    """The command line; what HF's TrainingArguments refuse is an error of the input like any other.

    Raises:
        InputError: if a value breaks a rule, or several processes were started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "rerank is one process and would write one file from several; start one process for each shard instead: "
            "--dataset_number_of_shards N --dataset_shard_index I, with an output path for each"
        )
    try:
        parsed: Arguments = parse_arguments(
            argv,
            ModelArguments,
            LayoutArguments,
            DatasetArguments,
            RerankArguments,
            DistillTrainingArguments,
            prog="rerank",
        )
    except InputError:
        raise
    except (ValueError, ImportError) as error:
        raise InputError(f"the arguments of HF's TrainingArguments do not fit this machine: {error}") from error
    return parsed


def chosen_dtype(training_args: DistillTrainingArguments) -> str:
    """The weights' number format where no --dtype is given: --fp16 or --bf16, else the device's default."""
    if training_args.fp16:
        return "float16"
    return "bfloat16" if training_args.bf16 else default_dtype(training_args.device)


def model_files(model_args: ModelArguments) -> list[Path]:
    """Weights and settings of the local folders that the scores depend on."""
    folders = [model_args.model_name_or_path, model_args.lora_name_or_path, model_args.tokenizer_name]
    return [
        file
        for folder in folders
        if folder and Path(folder).is_dir()
        for file in sorted(Path(folder).iterdir())
        if file.suffix in (".json", ".safetensors", ".bin", ".pt", ".model")
        and not file.name.startswith(("run_config", "trainer_state"))
    ]


def blocks(candidates: Sequence[Candidates]) -> Iterator[list[Candidates]]:
    """Consecutive queries with about ``BLOCK_PAIRS`` passages; a function of the input alone, so that an interrupted
    run goes on with the batches, and the bytes, of an uninterrupted one."""
    block: list[Candidates] = []
    pairs = 0
    for one in candidates:
        block.append(one)
        pairs += len(one.passages)
        if pairs >= BLOCK_PAIRS:
            yield block
            block, pairs = [], 0
    if block:
        yield block


def rerank(
    reranker: Reranker, candidates: Sequence[Candidates], rerank_args: RerankArguments, output: ResumableOutput
) -> dict[str, float]:
    """Write the reranked lists, block by block.

    Returns:
        What was done in this process: queries, pairs, seconds, pairs a second, seconds a query, share of real tokens.
    """
    done = output.num_done_lines
    queries = pairs = 0
    began = time.perf_counter()
    with tqdm(total=len(candidates), unit="query", disable=None) as progress:
        for block in blocks(candidates):
            size = sum(len(one.passages) for one in block)
            if done < size:
                scored = zip(block, reranker.score_candidates(block), strict=True)
                lines = [line for one, scores in scored for line in ranked_lines(one, scores, rerank_args)]
                output.append(lines[done:])
                queries, pairs = queries + len(block), pairs + size
            done = max(0, done - size)
            progress.update(len(block))
    seconds = time.perf_counter() - began
    count = reranker.batcher.count
    report = {
        "queries": queries,
        "pairs": pairs,
        "seconds": round(seconds, 3),
        "pairs_per_second": round(pairs / seconds, 2),
        "seconds_per_query": round(seconds / max(1, queries), 4),
        "real_token_share": round(count.real_share, 4),
    }
    if count.answers:
        report |= {"answers": count.answers, "malformed_answers": count.malformed}
        report |= {f"answers_{problem}": number for problem, number in sorted(count.problems.items())}
        found = ", ".join(f"{problem} {number}" for problem, number in sorted(count.problems.items()))
        print(f"{count.malformed} of {count.answers} generated answers were malformed and repaired: {found or 'none'}")
    print(
        f"{queries} queries, {pairs} pairs in {seconds:.1f} s: {report['pairs_per_second']:.1f} pairs/s, "
        f"{1000 * report['seconds_per_query']:.0f} ms a query, {report['real_token_share']:.0%} of tokens real"
    )
    return report


def ranked_lines(candidates: Candidates, scores: Sequence[float], rerank_args: RerankArguments) -> list[str]:
    """The lines of one query's reranked list; equal scores keep the first stage's order."""
    if rerank_args.first_stage_weight:
        scores = mix(scores, candidates.scores, rerank_args.first_stage_weight, rerank_args.first_stage_norm)
    order = sorted(range(len(scores)), key=lambda position: -scores[position])
    ranked = [(candidates.passages[position].docid, scores[position]) for position in order]
    return format_run_lines(candidates.query_id, ranked, rerank_args.output_format)


def mix(student: Sequence[float], first_stage: Sequence[float], weight: float, norm: str) -> list[float]:
    """``(1 - weight) * student + weight * first stage``, each normalised within the query.

    >>> mix([0.0, 2.0], [9.0, 7.0], 0.25, "minmax")
    [0.25, 0.75]
    """
    pairs = zip(normalise(student, norm), normalise(first_stage, norm), strict=True)
    return [(1 - weight) * own + weight * first for own, first in pairs]


def normalise(scores: Sequence[float], norm: str) -> list[float]:
    """Scores with mean 0 and deviation 1 (``zscore``), or from 0 to 1 (``minmax``); all 0 where all are equal.

    >>> normalise([1.0, 3.0], "zscore"), normalise([5.0, 5.0], "minmax")
    ([-1.0, 1.0], [0.0, 0.0])
    """
    low, high = min(scores), max(scores)
    if low == high:
        return [0.0] * len(scores)
    shift, scale = (low, high - low) if norm == "minmax" else (statistics.fmean(scores), statistics.pstdev(scores))
    return [(score - shift) / scale for score in scores]


if __name__ == "__main__":
    run_main(main)

"""Rerank candidates with a student: ``python -m tevatron_distill.driver.rerank --help``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tevatron_distill.arguments import parse_arguments, token_budget
from tevatron_distill.arguments.data import DatasetArguments
from tevatron_distill.arguments.model import LayoutArguments, ModelArguments, student_keywords
from tevatron_distill.arguments.rerank import RerankArguments
from tevatron_distill.arguments.share import ShareArguments
from tevatron_distill.driver.blockwise import Block, Job, cut_blocks
from tevatron_distill.driver.candidates import read_candidates
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.formats import CandidateStream
from tevatron_distill.formats.blocks import BlockOutput
from tevatron_distill.formats.disk import corrupt
from tevatron_distill.formats.runs import format_run_lines
from tevatron_distill.layouts import DualLayout
from tevatron_distill.reranker import Reranker, default_dtype
from tevatron_distill.reranker.cascade import Cascade
from tevatron_distill.reranker.onnx import on_backend
from tevatron_distill.schema import Candidates, InputError
from tevatron_distill.sharing import Processes
from tevatron_distill.students import load_student
from tevatron_distill.training_arguments import DistillTrainingArguments

BLOCK_PAIRS = 1024
HF_BATCH_SIZE = 8
"""``--per_device_eval_batch_size`` where nobody gave one."""


def main(argv: Sequence[str] | None = None) -> None:
    """Rerank candidates with a student."""
    processes = Processes.launched()
    model_args, layout_args, data_args, rerank_args, share_args, training_args = parse(argv)
    dtype = model_args.dtype or chosen_dtype(training_args, rerank_args.backend)
    num_rows = training_args.per_device_eval_batch_size
    num_rows = 0 if num_rows == HF_BATCH_SIZE else num_rows
    with BlockOutput(
        rerank_args.rerank_output_path or "",
        as_mapping(model_args, layout_args, data_args, rerank_args)
        | {"dtype": dtype, "per_device_eval_batch_size": num_rows},
        [
            *([data_args.dataset_path] if data_args.dataset_path else []),
            *model_files(model_args, *(rerank_args.cascade_name_or_path or ())),
        ],
        training_args.overwrite_output_dir,
        processes=processes,
        num_shards=share_args.num_shards,
        shard_index=share_args.shard_index,
    ) as output:
        candidates = read_candidates(data_args, rerank_args.depth)
        make = partial(
            Reranking.load,
            student_keywords(model_args, layout_args, training=False, dtype=dtype),
            rerank_args,
            candidates,
            num_rows=num_rows,
            device="cpu" if training_args.use_cpu or rerank_args.backend == "onnx" else None,
            compiles=training_args.torch_compile,
        )
        if rerank_args.passage_vectors_path:  # the first process makes them for all
            made = make() if processes.is_first else None
            processes.wait()
            make = partial(_given, made or make())
        report = rerank(make, candidates, share_args, output)
    if processes.is_first:
        print_report(report)


Arguments = tuple[
    ModelArguments, LayoutArguments, DatasetArguments, RerankArguments, ShareArguments, DistillTrainingArguments
]


def parse(argv: Sequence[str] | None) -> Arguments:
    """The command line; what HF's TrainingArguments refuse is an error of the input like any other.

    Raises:
        InputError: if a value breaks a rule.
    """
    try:
        parsed: Arguments = parse_arguments(
            argv,
            ModelArguments,
            LayoutArguments,
            DatasetArguments,
            RerankArguments,
            ShareArguments,
            DistillTrainingArguments,
            prog="rerank",
        )
    except InputError:
        raise
    except (ValueError, ImportError) as error:
        raise InputError(f"the arguments of HF's TrainingArguments do not fit this machine: {error}") from error
    *_, rerank_args, _, training_args = parsed
    if training_args.torch_compile and rerank_args.backend != "torch":
        raise InputError(f"--torch_compile compiles what torch runs; leave it out of --backend {rerank_args.backend}")
    return parsed


def chosen_dtype(training_args: DistillTrainingArguments, backend: str) -> str:
    """The weights' number format where no --dtype is given: --fp16 or --bf16, else the default where it computes."""
    if training_args.fp16:
        return "float16"
    if training_args.bf16:
        return "bfloat16"
    return default_dtype(torch.device("cpu") if backend == "onnx" else training_args.device)


def model_files(model_args: ModelArguments, *others: str) -> list[Path]:
    """Weights and settings of the local folders that the scores depend on."""
    folders = [model_args.model_name_or_path, model_args.lora_name_or_path, model_args.tokenizer_name, *others]
    return [
        file
        for folder in folders
        if folder and Path(folder).is_dir()
        for file in sorted(Path(folder).iterdir())
        if file.suffix in (".json", ".safetensors", ".bin", ".pt", ".model")
        and not file.name.startswith(("run_config", "trainer_state"))
    ]


class Reranking:
    """Makes the lines of blocks of queries with a student.

    Args:
        reranker: scores.
        rerank_args: what is written.
    """

    def __init__(self, reranker: Reranker | Cascade, rerank_args: RerankArguments) -> None:
        self._reranker = reranker
        self._args = rerank_args

    @classmethod
    def load(
        cls,
        student: Mapping[str, Any],
        rerank_args: RerankArguments,
        candidates: CandidateStream,
        *,
        num_rows: int,
        device: str | None,
        compiles: bool,
    ) -> Reranking:
        """Load the student, and the smaller ones before it.

        Args:
            student: keywords of `load_student`.
            rerank_args: what is written.
            candidates: all lists, for passage vectors that are to be stored.
            num_rows: rows of full length that a batch has room for, where no budget is given; 0 for no wish.
            device: where it runs; None takes a GPU where there is one.
            compiles: torch.compile for rows of any length.
        """
        load = partial(load_reranker, rerank_args=rerank_args, num_rows=num_rows, device=device, compiles=compiles)
        reranker = load(student)
        if rerank_args.passage_vectors_path:
            reranker.use_passage_vectors(rerank_args.passage_vectors_path, candidates)
        if not rerank_args.cascade_name_or_path:
            return cls(reranker, rerank_args)
        options = replace(student["options"], tokenizer_name=None, config_name=None, lora_name_or_path=None)
        smaller = [load({"path": path, "options": options}) for path in rerank_args.cascade_name_or_path]
        return cls(Cascade([*smaller, reranker], rerank_args.cascade_depth or ()), rerank_args)

    def __call__(self, block: Block) -> Iterator[list[str]]:
        scored = zip(block, self._reranker.score_candidates(block), strict=True)
        yield [line for one, scores in scored for line in ranked_lines(one, scores, self._args)]

    def report(self) -> dict[str, Any]:
        """Device, share of real tokens, generated answers and their faults, and how often memory ran out."""
        count = self._reranker.batcher.count
        report: dict[str, Any] = {
            "device": name_of_device(self._reranker.batcher.device),
            "real_token_share": round(count.real_share, 4),
        }
        if count.answers:
            report |= {"answers": count.answers, "malformed_answers": count.malformed}
            report |= {f"answers_{problem}": number for problem, number in sorted(count.problems.items())}
        return {**report, **self._reranker.batcher.budget.report()}

    def close(self) -> None:
        """Nothing is held but the model."""


def name_of_device(device: torch.device) -> str:
    """What the scores were computed on, for whoever reads the times."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type}, {torch.get_num_threads()} threads" if device.type == "cpu" else device.type


def load_reranker(
    student: Mapping[str, Any], rerank_args: RerankArguments, num_rows: int, device: str | None, compiles: bool
) -> Reranker:
    """One student in the backend that is asked for; arguments as of `Reranking.load`."""
    loaded = load_student(**student)
    settings = loaded.layout.settings
    full = settings.passage_max_len if isinstance(loaded.layout, DualLayout) else settings.rerank_max_len
    budget = token_budget(rerank_args.batch_tokens) or num_rows * (full or 1) or None
    cache_dir = student["options"].cache_dir
    model = on_backend(loaded.model, loaded.layout, rerank_args.backend, rerank_args.onnx_dtype, cache_dir)
    if compiles:
        model.compile(dynamic=True)
    return Reranker(model, loaded.layout, device, budget)


def _given(work: Reranking) -> Reranking:
    return work


def rerank(
    make: partial[Reranking], candidates: CandidateStream, share_args: ShareArguments, output: BlockOutput
) -> dict[str, Any]:
    """Write the reranked lists, block by block.

    Returns:
        What was done in this run: queries, pairs, seconds, pairs a second, seconds a query, share of real tokens.
    """
    began = time.perf_counter()
    job = Job(
        make,
        partial(cut_blocks, candidates, pairs=BLOCK_PAIRS),
        lambda block: ({one.query_id for one in block}, sum(len(one.passages) for one in block)),
        name_of_line,
        candidates.num_queries,
    )
    job.run(output, share_args)
    seconds = time.perf_counter() - began
    return output.finish(
        {
            "queries": job.queries,
            "pairs": job.lines,
            "seconds": round(seconds, 3),
            "pairs_per_second": round(job.lines / seconds, 2),
            "seconds_per_query": round(seconds / max(1, job.queries), 4),
            **job.report,
        }
    )


def name_of_line(place: str, line: str) -> str:
    """The query_id of a line of a run.

    Raises:
        InputError: if it is none that `ranked_lines` writes.
    """
    columns = line.split("\t") if "\t" in line else line.split(" ")
    score = {3: 2, 6: 4}.get(len(columns))
    try:
        float("" if score is None else columns[score])
    except ValueError as error:
        raise corrupt(place, f"{line[:60]!r}") from error
    return columns[0]


def print_report(report: Mapping[str, Any]) -> None:
    """What was done, in a few lines."""
    problems = {name.removeprefix("answers_"): value for name, value in report.items() if name.startswith("answers_")}
    if "answers" in report:
        found = ", ".join(f"{problem} {number}" for problem, number in problems.items())
        print(
            f"{report['malformed_answers']} of {report['answers']} generated answers were malformed and repaired: "
            f"{found or 'none'}"
        )
    said = report.get("processes", [report])
    seconds = max(one.get("seconds", 0.0) for one in said) if "seconds" not in report else report["seconds"]
    queries, pairs = report["queries"], report["pairs"]
    print(
        f"{queries} queries, {pairs} pairs in {seconds:.1f} s: {pairs / max(seconds, 1e-9):.1f} pairs/s, "
        f"{1000 * seconds / max(1, queries):.0f} ms a query"
        + (f", {report['real_token_share']:.0%} of tokens real" if "real_token_share" in report else "")
        + (f", {len(said)} processes" if len(said) > 1 else "")
    )
    if report.get("out_of_memory"):
        print(
            f"memory ran out {report['out_of_memory']} times: batches were halved, and scores may differ in their last "
            "digits; a smaller --batch_tokens avoids it"
        )
    print(f"peak memory {max(one.get('peak_memory_mib', 0.0) for one in said):.0f} MiB a process")


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

#!/usr/bin/env python
"""Measures throughput and peak memory of rerank, teach and train as their input grows.

    python scripts/bench_scale.py --verb all --rows 1k 10k 100k

Each size runs in a process of its own, with a BERT (teach --engine hf: a Llama) of one layer and 16 numbers a vector,
so that what is measured is the tool: reading, batching, writing. Rows are pairs of a query and a passage, 20 a query.
Time should grow as the rows do, and memory not at all. ``bench.py --scaling`` measures the growth along all `AXES`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import tiny_models

DEPTH = 20
SIZES = {"1k": 1_000, "10k": 10_000, "100k": 100_000, "1M": 1_000_000}
TIMEOUT = 3 * 3600

# A driver as a program, which says at its end how much memory it has held
PROGRAM = """
import resource, sys, time
from importlib import import_module
main = import_module("tevatron_distill.driver." + sys.argv[1]).main
began = time.perf_counter()
main(sys.argv[2:])
print("measured", time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


class Measured(NamedTuple):
    """One run: seconds without the imports, and MiB at the most."""

    rows: int
    seconds: float
    memory: float


class Axis(NamedTuple):
    """What grows.

    Attributes:
        what: for the table.
        verb: the driver.
        sizes: the values that are measured.
        lines: the input of a size.
        flags: further flags of a size.
    """

    what: str
    verb: str
    sizes: tuple[int, ...]
    lines: Callable[[int], Iterable[str]]
    flags: Callable[[int], list[str]]


def _none(size: int) -> list[str]:
    return []


LONG = ["--rerank_max_len", "4096", "--batch_tokens", "8192"]

AXES: dict[str, Axis] = {
    "rows": Axis(
        "rerank: rows, 20 a query",
        "rerank",
        (2_000, 20_000, 100_000),
        lambda size: tiny_models.rerank_lines(size // DEPTH, DEPTH),
        _none,
    ),
    "candidates": Axis(
        "rerank: candidates of each of 20 queries",
        "rerank",
        (50, 500, 2_500),
        lambda size: tiny_models.rerank_lines(20, size),
        _none,
    ),
    "passage length": Axis(
        "rerank: words of each of 2,000 passages",
        "rerank",
        (50, 200, 800),
        lambda size: tiny_models.rerank_lines(100, 20, words=(size, size)),
        lambda size: LONG,
    ),
    "group size": Axis(
        "train, 30 steps, --row_chunk_size 8: passages of a group",
        "train",
        (16, 64, 256),
        lambda size: tiny_models.group_lines(30, size),
        lambda size: [*("--train_group_size", str(size), "--row_chunk_size", "8", "--max_steps", "30")],
    ),
    "asked": Axis(
        "teach, pointwise: rows, 20 a query",
        "teach",
        (1_000, 5_000, 20_000),
        lambda size: tiny_models.rerank_lines(size // DEPTH, DEPTH),
        _none,
    ),
}
"""Along what the cost of the work grows."""


def command(verb: str, engine: str, rows: Path, folder: Path) -> list[str]:
    """The verb's command line; makes its model."""
    if verb == "teach" and engine == "hf":
        model = tiny_models.build_llama(folder / "model", hidden_size=16, num_layers=1)
    else:
        model = tiny_models.build_encoder(folder / "model")
    shared = ["--dataset_path", str(rows), "--model_name_or_path", str(model)]
    if verb == "rerank":
        return [
            *(*shared, "--rerank_output_path", str(folder / "run.tsv"), "--output_dir", str(folder / "none")),
            *("--use_cpu", "--rerank_max_len", "64"),
        ]
    if verb == "train":
        return [
            *(*shared, "--output_dir", str(folder / "student"), "--use_cpu", "--loss", "rank_net"),
            *("--per_device_train_batch_size", "1", "--save_strategy", "no", "--report_to", "none"),
            *("--rerank_max_len", "64"),
        ]
    return [
        *(*shared, "--output_path", str(folder / "groups.jsonl"), "--engine", engine),
        *("--teacher", "pointwise", "--queries_per_round", "64"),
    ]


def measure(
    verb: str, engine: str, size: int, lines: Iterable[str] | None = None, flags: Iterable[str] = ()
) -> Measured:
    """Write the input, run the verb on it in a process of its own, and throw both away.

    Args:
        verb: the driver.
        engine: teach's.
        size: how large the input is; so many rows where no lines are given.
        lines: the input.
        flags: further flags; the last of a flag counts.
    """
    with tempfile.TemporaryDirectory() as name:
        rows = Path(name, "rows.jsonl")
        with open(rows, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines or tiny_models.rerank_lines(size // DEPTH, DEPTH))
        words = [sys.executable, "-c", PROGRAM, verb, *command(verb, engine, rows, Path(name)), *flags]
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{verb} of {size} fails:\n{done.stderr[-3000:]}")
    [line] = [line for line in done.stdout.splitlines() if line.startswith("measured ")]
    _, seconds, memory = line.split()
    return Measured(size, float(seconds), float(memory))


def growth(axis: Axis) -> list[Measured]:
    """The runs of an axis, smallest first."""
    return [measure(axis.verb, "hf", size, axis.lines(size), axis.flags(size)) for size in axis.sizes]


def report(verb: str, measured: Measured, before: Measured | None) -> str:
    """A line of the table; the last columns compare with the size before."""
    line = (
        f"{verb:6}  {measured.rows:8}  {measured.seconds:8.1f}  {measured.rows / measured.seconds:8.0f}  "
        f"{measured.memory:8.0f}"
    )
    if before is None:
        return line
    return f"{line}  {measured.seconds / before.seconds:11.1f}  {measured.memory - before.memory:+10.0f}"


def main() -> None:
    """Measure all sizes and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verb", choices=["rerank", "teach", "all"], default="all")
    parser.add_argument("--engine", choices=["hf", "similarity"], default="hf", help="teach's")
    parser.add_argument("--rows", nargs="+", choices=list(SIZES), default=["1k", "10k", "100k"])
    parser.add_argument("--json_path", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    figures: dict[str, list[Measured]] = {}
    print("verb        rows   seconds    rows/s  peak MiB  times longer  more MiB", flush=True)
    for verb in ("rerank", "teach") if arguments.verb == "all" else (arguments.verb,):
        found = figures.setdefault(verb, [])
        for size in sorted(arguments.rows, key=SIZES.__getitem__):
            found.append(measure(verb, arguments.engine, SIZES[size]))
            print(report(verb, found[-1], found[-2] if len(found) > 1 else None), flush=True)
    if arguments.json_path:
        time_now = time.strftime("%Y-%m-%d %H:%M")
        content = {verb: [one._asdict() for one in found] for verb, found in figures.items()}
        arguments.json_path.write_text(json.dumps({"time": time_now, **content}, indent=2) + "\n")


if __name__ == "__main__":
    main()

#!/usr/bin/env python
"""Measures throughput and peak memory of rerank and teach as their input grows.

    python scripts/bench_scale.py --verb all --rows 1k 10k 100k

Each size runs in a process of its own, with a BERT (teach --engine hf: a Llama) of one layer and 16 numbers a vector,
so that what is measured is the tool: reading, batching, writing. Rows are pairs of a query and a passage, 20 a query.
Time should grow as the rows do, and memory not at all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
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
            *("--use_cpu", "--per_device_eval_batch_size", "256", "--rerank_max_len", "64"),
        ]
    return [
        *(*shared, "--output_path", str(folder / "groups.jsonl"), "--engine", engine),
        *("--teacher", "pointwise", "--queries_per_round", "64"),
    ]


def measure(verb: str, engine: str, num_rows: int) -> Measured:
    """Write the input, run the verb on it in a process of its own, and throw both away."""
    with tempfile.TemporaryDirectory() as name:
        rows = Path(name, "rows.jsonl")
        with open(rows, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in tiny_models.rerank_lines(num_rows // DEPTH, DEPTH))
        words = [sys.executable, "-c", PROGRAM, verb, *command(verb, engine, rows, Path(name))]
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{verb} of {num_rows} rows fails:\n{done.stderr[-3000:]}")
    _, seconds, memory = done.stdout.splitlines()[-1].split()
    return Measured(num_rows, float(seconds), float(memory))


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

#!/usr/bin/env python
"""Measures ours against other programs, and against the limit, side by side in one run.

    python scripts/bench.py
    python scripts/bench.py --rows rerank_sentence_transformers prp_causal
    python scripts/bench.py --scaling

Every figure is a ratio: the same weights, the same texts, the same threads, works in turn, the best of several runs.
What must be equal is compared to 1e-4, and a row whose scores differ fails. ``pip install -e ".[bench]"`` brings the
programs, TEVATRON_DISTILL_DATA names the folder of the texts. Writes OUTPUT_DIR/bench.{md,json,png}.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path

NAMES = (
    *("rerank_sentence_transformers", "rerank_flag_embedding", "rerank_tevatron"),
    *("rerank_tevatron_short_lists", "rerank_int8", "rerank_cascade"),
    *("real_tokens", "yes_token", "prp_causal", "prp_small_head", "prp_t5", "questions"),
    *("train_sentence_transformers", "train_causal", "train_small_head", "memory", "start"),
    *("gpu_22m", "gpu_150m", "gpu_1b", "gpu_7b"),
)


def main() -> None:
    """Measure the rows that are asked for, and write table, figures and picture."""
    arguments = parse()
    os.environ |= {
        "OMP_NUM_THREADS": str(arguments.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }
    # numbers of threads are read when torch is imported
    import bench_report
    import torch
    from bench_measure import MissingError, Outcome, Setting
    from bench_rows import ROWS

    from tevatron_distill import InputError

    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    if arguments.scaling:
        bench_report.write_scaling(arguments.output_dir, arguments.threads)
        return
    setting = Setting(
        arguments.output_dir / "models",
        arguments.threads,
        arguments.repeats,
        arguments.clock,
        arguments.ranker,
        arguments.small_ranker,
    )
    found = {}
    for name in arguments.rows:
        began = time.perf_counter()
        try:
            found[name] = ROWS[name].run(setting)
        except (MissingError, InputError, ModuleNotFoundError) as error:
            found[name] = Outcome(f"not run: {error}")
        found[name].raw["seconds_of_the_row"] = round(time.perf_counter() - began, 1)
        print(f"{name}: {found[name].measured} ({found[name].raw['seconds_of_the_row']:.0f} s)", flush=True)
        bench_report.write(arguments.output_dir, {row: (ROWS[row], one) for row, one in found.items()}, setting)
    failed = [name for name, one in found.items() if one.measured.startswith("fails")]
    if failed:
        sys.exit(f"error: not equal: {', '.join(failed)}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--scaling", action="store_true", help="how time and memory grow, instead of the rows")
    parser.add_argument("--output_dir", type=Path, default=Path("bench"))
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--repeats", type=int, default=3, help="how often the works of a row take turns")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: seconds of computing, for a busy machine"
    )
    parser.add_argument("--ranker", help="folder of a trained cross-encoder, for rows about nDCG (else one is trained)")
    parser.add_argument("--small_ranker", help="folder of a smaller student, for the cascade (else one is cut)")
    return parser.parse_args()


if __name__ == "__main__":
    main()

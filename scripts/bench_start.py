"""bench.py's row of start-up times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench_measure import Outcome, Setting, start_up

MOST = 1.5
HELPS = (["--help"], ["evaluate", "--help"], ["convert", "--help"], ["retrieve", "--help"])
NAMES_TORCH = """
import sys
from tevatron_distill.driver.main import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print("torch" in sys.modules)
"""


def start(setting: Setting) -> Outcome:
    """Seconds of computing of the drivers without a model, on inputs of one query."""
    found, with_torch = {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder)
        os.environ["OMP_NUM_THREADS"] = "1"
        for words in [*HELPS, *runs(folder)]:
            command = [sys.executable, "-m", "tevatron_distill.driver.main", *words]
            found[" ".join(words[:2]) if "--help" in words else f"{words[0]} (run)"] = start_up(command)
            program = [sys.executable, "-c", NAMES_TORCH, *words]
            done = subprocess.run(program, capture_output=True, text=True, check=True)
            with_torch += [words[0]] if done.stdout.splitlines()[-1] == "True" else []
        os.environ["OMP_NUM_THREADS"] = str(setting.threads)
    said = ", ".join(f"{what} {seconds:.2f}" for what, seconds in found.items())
    met = max(found.values()) < MOST and not with_torch
    return Outcome(f"{said} s of computing", None, met, "", {"seconds": found, "import torch": with_torch})


def write_inputs(folder: Path) -> None:
    """A collection of two passages, a query, its judgement and a run."""
    passages = [{"docid": "a", "title": "", "text": "red cat"}, {"docid": "b", "title": "", "text": "green dog"}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in passages), encoding="utf-8")
    (folder / "queries.jsonl").write_text('{"query_id": "q1", "query": "red"}\n', encoding="utf-8")
    (folder / "qrels").write_text("q1 0 a 1\n", encoding="utf-8")
    (folder / "run").write_text("q1 b 2.0\nq1 a 1.0\n", encoding="utf-8")


def runs(folder: Path) -> Sequence[list[str]]:
    """A command line of each driver without a model."""
    here = {name: str(folder / name) for name in ("corpus.jsonl", "queries.jsonl", "qrels", "run", "found", "trec")}
    return (
        [
            *("evaluate", "--run_path", here["run"], "--qrels_path", here["qrels"]),
            *("--output_path", str(folder / "report"), "--overwrite_output_dir"),
        ],
        ["convert", "--input", here["run"], "--output", here["trec"], "--to", "trec", "--overwrite_output_dir"],
        [
            *("retrieve", "--corpus_path", here["corpus.jsonl"], "--queries_path", here["queries.jsonl"]),
            *("--output_path", here["found"], "--overwrite_output_dir"),
        ],
    )

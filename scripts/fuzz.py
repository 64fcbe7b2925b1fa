#!/usr/bin/env python
"""Gives every reader and parser inputs that nobody would write, guided by the lines that they reach.

    pip install -e ".[fuzz]"
    python scripts/fuzz.py [--target NAME ...] [--inputs N | --seconds S] [--seed 0]

A target may return or raise InputError; anything else, a broken law (what is written reads back as itself), and an
input that takes too long for its length end the run: the input is saved, the error printed, and the exit status is 1.
Each target runs in a process of its own, driven by atheris (libFuzzer); one input in 128 is also tried with a slice
of it repeated up to 128 KB, where a quadratic parser would take minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fuzz_mutations import mutate, stretch, words_of

if TYPE_CHECKING:
    from fuzz_targets import Target

try:
    import atheris
except ImportError:
    atheris = None

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

MEMORY = Path("/dev/shm")
"""Files there cost microseconds."""

STRETCHED = 1 << 17
ONE_IN = 128
SECONDS_FOR_ANY, SECONDS_PER_KB = 1.0, 0.03
"""How long an input may take."""

LIMIT = 60
"""Seconds after which libFuzzer ends an input."""

TOKENS = (
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    "\u2028".encode(),
    b"\r\n",
    b"\x00",
    b"\x1f\x8b",
    b"[1] > [2]",
    b"NaN",
    b"1e999",
)


class Outcome(NamedTuple):
    """What came of a target.

    Attributes:
        inputs: how many it has got.
        edges: branches of the package that the seeds reach, and that all inputs reach.
        seconds: of the process, imports included.
        slowest: seconds and bytes of the slowest input.
        error: what ended it; empty for nothing.
    """

    inputs: int
    edges: tuple[int, int]
    seconds: float
    slowest: str
    error: str = ""


class SlowInputError(Exception):
    """An input took too long for its length."""


def load_targets() -> dict[str, Target]:
    """The table of targets, which imports all of the package that reads something."""
    from fuzz_more_targets import MORE_TARGETS
    from fuzz_targets import TARGETS

    return {**TARGETS, **MORE_TARGETS}


def load_instrumented() -> dict[str, Target]:
    """The same, with the package's branches counted."""
    if atheris is None:
        raise SystemExit('fuzz.py needs atheris: pip install "tevatron-distill[fuzz]"')
    logging.disable(logging.CRITICAL)
    with (
        open(os.devnull, "w") as nothing,
        contextlib.redirect_stderr(nothing),  # a line for each module
        atheris.instrument_imports(include=["tevatron_distill"], enable_loader_override=False),
    ):
        return load_targets()


class Runner:
    """Runs a target on inputs, sees how long they take, and leaves the slowest's figures in a file.

    Args:
        target: a row of the table.
        folder: for its files.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._slowest = 0.0

    def __call__(self, data: bytes) -> None:
        """Run it on an input, and now and then on that input with a slice repeated."""
        try:
            self._timed(data)
            if self._target.stretches and zlib.crc32(data) % ONE_IN == 0:
                data = stretch(data, STRETCHED, random.Random(zlib.crc32(data)))
                self._timed(data)
        except BaseException:
            (self._folder / "broken").write_bytes(data)
            raise

    def _timed(self, data: bytes) -> None:
        seconds = self._seconds(data)
        bound = SECONDS_FOR_ANY + SECONDS_PER_KB * len(data) / 1024
        if seconds > bound:
            seconds = min(self._seconds(data) for _ in range(2))  # other work may have had the core
        if seconds > self._slowest:
            self._slowest = seconds
            (self._folder / "slowest").write_text(f"{seconds:.2f} s, {len(data)} bytes")
        if seconds > bound:
            raise SlowInputError(f"{seconds:.2f} s for {len(data)} bytes; {bound:.2f} s are allowed")

    def _seconds(self, data: bytes) -> float:
        began = time.process_time()
        self._target.run(data, self._folder)
        return time.process_time() - began


def fuzz(target: Target, folder: Path, words: Sequence[str]) -> None:
    """Fuzz a target; libFuzzer ends the process.

    Args:
        target: a row of the table.
        folder: for its files and its corpus.
        words: of libFuzzer's command line.
    """
    files, corpus = folder / "files", folder / "corpus"
    files.mkdir()
    corpus.mkdir()
    seeds = list(target.seeds(files))
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    known = words_of(seeds)
    tokens = [str(word).encode("utf-8", "replace")[:60] for word in known]
    lines = ["".join(f"\\x{byte:02x}" for byte in token) for token in (*TOKENS, *tokens) if token]
    (folder / "tokens").write_text("".join(f'"{line}"\n' for line in lines))

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        fresh = mutate(data, random.Random(seed), known, lambda one: bytes(atheris.Mutate(one, len(one) + 64)))
        return fresh[:max_size]

    options = [f"-dict={folder / 'tokens'}", f"-max_len={target.max_len}", f"-timeout={LIMIT}", "-rss_limit_mb=6000"]
    options += ["-print_final_stats=1", f"-artifact_prefix={folder}/found-"]
    atheris.Setup([sys.argv[0], *options, *words, str(corpus)], Runner(target, files), custom_mutator=mutated)
    atheris.Fuzz()


def run_target(name: str, target: Target, words: Sequence[str], findings: Path) -> Outcome:
    """Fuzz a target in a process of its own, and read what libFuzzer says of it."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as temporary:
        folder = Path(temporary)
        began = time.monotonic()
        child = os.fork()
        if not child:
            with open(folder / "said", "wb") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            try:
                fuzz(target, folder, words)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        said = (folder / "said").read_text(encoding="utf-8", errors="replace")
        edges = [int(number) for number in re.findall(r"cov: (\d+)", said)] or [0]
        count = re.findall(r"number_of_executed_units: (\d+)", said) or re.findall(r"^#(\d+)", said, re.MULTILINE)
        slowest = folder / "files" / "slowest"
        error = ""
        if status or not count:
            error = f"{error_of(said)}\ninput: {', '.join(save_findings(name, folder, findings)) or 'none'}"
        return Outcome(
            int((count or ["0"])[-1]),
            (edges[0], edges[-1]),
            time.monotonic() - began,
            slowest.read_text() if slowest.exists() else "",
            error,
        )


def save_findings(name: str, folder: Path, findings: Path) -> list[str]:
    """Keep the inputs that broke a target; their paths."""
    saved = []
    for path in [*sorted(folder.glob("found-*")), *folder.glob("files/broken")]:
        findings.mkdir(parents=True, exist_ok=True)
        kept = findings / f"{name}-{path.name.removeprefix('found-')}"
        kept.write_bytes(path.read_bytes())
        saved.append(str(kept))
    return saved


def error_of(said: str) -> str:
    """The traceback, or the last lines, of what a process has said."""
    traced = re.search(r"Uncaught Python exception.*?(?=^==\d+== ERROR|\Z)", said, re.DOTALL | re.MULTILINE)
    return traced[0].strip() if traced else "\n".join(said.strip().splitlines()[-15:])


def repeat(paths: Sequence[str], name: str, run: Callable[[bytes], None]) -> None:
    """Give saved inputs to a target once more."""
    for path in paths:
        print(f"{name}: {path}")
        run(Path(path).read_bytes())


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the targets one after the other and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", nargs="+", help="all by default")
    parser.add_argument("--inputs", type=int, help="for each target")
    parser.add_argument("--seconds", type=float, help="for each target")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="folder for inputs that break one")
    parser.add_argument("--repeat", nargs="+", metavar="FILE", help="give these to the one --target, without atheris")
    args = parser.parse_args(argv)
    targets = load_targets() if args.repeat else load_instrumented()
    unknown = sorted(set(args.target or ()) - targets.keys())
    if unknown:
        parser.error(f"--target must be of {', '.join(targets)}; got {unknown[0]}")
    names = args.target or list(targets)
    if args.repeat:
        with tempfile.TemporaryDirectory() as folder:
            repeat(args.repeat, names[0], Runner(targets[names[0]], Path(folder)))
        return 0
    inputs = 1000 if args.inputs is None and args.seconds is None else args.inputs
    words = [f"-seed={args.seed + 1}"]  # libFuzzer takes 0 for any
    words += [] if inputs is None else [f"-runs={inputs}"]
    words += [] if args.seconds is None else [f"-max_total_time={int(args.seconds)}"]
    print("| target | inputs | edges of seeds | edges | seconds | slowest input |")
    print("| --- | --- | --- | --- | --- | --- |")
    outcomes = {}
    for name in names:
        found = outcomes[name] = run_target(name, targets[name], words, args.findings)
        cells = (name, f"{found.inputs:,}", *found.edges, f"{found.seconds:.0f}", found.slowest)
        print(f"| {' | '.join(map(str, cells))} |", flush=True)
        if found.error:
            print(f"\n{name}: {found.error}\n", flush=True)
    failed = [name for name, found in outcomes.items() if found.error]
    print(f"\n{sum(found.inputs for found in outcomes.values()):,} inputs, findings: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

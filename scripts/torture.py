#!/usr/bin/env python
"""Kills teach, rerank and train again and again, and sees that the same command ends as if nothing had happened.

    python scripts/torture.py --verb all --kills 100 --seed 0

Each round starts a command on a new folder, kills it one to four times in a row, and then lets the same command end.
The files that are left must be those of an undisturbed run: the bytes of groups, runs and logs; for training the
weights, optimizer, scheduler, random state and losses. A kill is one of

- time: SIGKILL from outside at a random moment of the run;
- write: SIGKILL before or behind a random one of the run's opens, renames, removals and fsyncs in its folder;
- byte: the kernel ends the process in the middle of a write, when any file grows over a random size (SIGXFSZ).

All draws come from the seed. Processes are forked from one that has imported everything, so that a start costs little.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import tiny_models

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

VERBS = ("teach", "rerank", "train")
MODES = ("time", "write", "byte")
LIMIT = 120  # seconds that one run may take
ENDED_BY = {-signal.SIGKILL: "killed", -signal.SIGXFSZ: "killed", 0: "ended"}


class Plan(NamedTuple):
    """How a run is to end: ``mode`` and its moment, in seconds, writes or bytes; "" lets it end by itself."""

    mode: str = ""
    moment: float = 0.0


@dataclass
class Finished:
    """What became of a run."""

    code: int | None
    seconds: float
    log: str


@dataclass
class Command:
    """A command line that leaves its files in ``folder``."""

    verb: str
    folder: Path
    words: list[str]


@dataclass
class Tally:
    """What was counted for a verb."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    ended_before: int = 0
    torn: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def make_context() -> Any:
    """Processes are forked from a server that has imported the drivers."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"tevatron_distill.driver.{verb}" for verb in VERBS])
    return context


def drive(command: Command, plan: Plan, log: Connection) -> None:
    """The child: a driver as a program, with its end prepared."""
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the background jobs of a shell ignore
    driver = importlib.import_module(f"tevatron_distill.driver.{command.verb}")
    from tevatron_distill.driver.common import run_main

    events = watch_writes(command.folder, plan.moment if plan.mode == "write" else 0)
    if plan.mode == "byte":
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(plan.moment), resource.RLIM_INFINITY))
    if plan.mode == "full":  # as Python has it: the write fails, the process goes on
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(plan.moment), resource.RLIM_INFINITY))
    run_main(driver.main, command.words)
    print(f"\nwrites: {events[0]}", flush=True)


def watch_writes(folder: Path, last: float) -> list[int]:
    """Count what this process does to files below ``folder`` and kill it at the ``last`` such event (0: never)."""
    count = [0]
    here = str(folder)
    kinds = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}

    def tick() -> None:
        count[0] += 1
        if count[0] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in kinds or not str(arguments[0]).startswith(here):
            return
        if event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR):
            tick()

    def fsync(descriptor: Any) -> None:
        tick()
        plain_fsync(descriptor)
        tick()

    plain_fsync = os.fsync
    sys.addaudithook(hook)
    os.fsync = fsync
    return count


def run(context: Any, command: Command, plan: Plan = Plan()) -> Finished:  # noqa: B008
    """Start a command, end it as planned, and wait for it."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = context.Process(target=drive, args=(command, plan, theirs))
    process.start()
    began = time.monotonic()
    theirs.close()
    os.set_blocking(ours.fileno(), False)
    log = b""
    while time.monotonic() - began < LIMIT:
        left = plan.moment - (time.monotonic() - began) if plan.mode in ("time", "interrupt") else 0.02
        process.join(max(0.0, min(left, 0.02)))
        log += drain(ours)
        if process.exitcode is not None:
            break
        if plan.mode == "time" and left <= 0:
            process.kill()
    else:
        process.kill()
        process.join()
        log += f"\nstill running after {LIMIT} s".encode()
    return Finished(process.exitcode, time.monotonic() - began, (log + drain(ours)).decode(errors="replace"))


def drain(connection: Connection) -> bytes:
    """What a child has printed until now."""
    text = b""
    while True:
        try:
            part = os.read(connection.fileno(), 1 << 16)
        except BlockingIOError:
            return text
        if not part:
            return text
        text += part


class Victim:
    """A verb's command, its undisturbed run, and whether another run's files are the same."""

    def __init__(self, verb: str, folder: Path, context: Any) -> None:
        self.verb = verb
        self.folder = folder
        self._context = context
        self._inputs = folder / f"{verb}-inputs"
        self._inputs.mkdir(parents=True)
        self.words = getattr(self, f"_{verb}")()
        self.whole = self.command("whole")
        finished = run(context, self.whole)
        if finished.code != 0:
            raise SystemExit(f"the undisturbed run of {verb} fails:\n{finished.log}")
        self.seconds = finished.seconds
        self.num_writes = int(finished.log.rpartition("writes: ")[2])
        files = [path for path in self.whole.folder.rglob("*") if path.is_file()]
        self.largest = max(path.stat().st_size for path in files)

    def command(self, name: str) -> Command:
        """The verb on a folder of its own; the folder's name is no part of the output."""
        folder = self.folder / f"{self.verb}-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        return Command(self.verb, folder, [word.replace("OUT", str(folder)) for word in self.words])

    def plan(self, draw: random.Random) -> Plan:
        """A random end."""
        mode = draw.choice(MODES)
        if mode == "time":
            return Plan(mode, draw.uniform(0, self.seconds))
        if mode == "write":
            return Plan(mode, draw.randint(1, self.num_writes))
        return Plan(mode, int(self.largest ** draw.uniform(0.5, 1.0)))

    def _teach(self) -> list[str]:
        model = tiny_models.build_llama(self._inputs / "model")
        rows = self._write("rows.jsonl", tiny_models.rerank_lines(24, 6))
        return [
            *("--dataset_path", str(rows), "--model_name_or_path", str(model), "--output_path", "OUT/groups.jsonl"),
            *("--engine", "hf", "--sort", "heapsort", "--queries_per_round", "4", "--batch_tokens", "2000"),
            *("--run_path", "OUT/teacher.trec", "--permutation_path", "OUT/permutations.json"),
            *("--record_path", "OUT/answers.jsonl"),
        ]

    def _rerank(self) -> list[str]:
        model = tiny_models.build_llama(self._inputs / "model", head=True)
        rows = self._write("rows.jsonl", tiny_models.rerank_lines(450, 10))
        return [
            *("--dataset_path", str(rows), "--model_name_or_path", str(model), "--rerank_output_path", "OUT/run.tsv"),
            *("--output_dir", str(self.folder / "none"), "--use_cpu", "--per_device_eval_batch_size", "64"),
            *("--rerank_max_len", "48", "--query_prefix", "query: ", "--passage_prefix", "document: "),
        ]

    def _train(self) -> list[str]:
        model = tiny_models.build_llama(self._inputs / "model")
        groups = self._write("groups.jsonl", tiny_models.group_lines(9, 6))
        return [
            *("--dataset_path", str(groups), "--model_name_or_path", str(model), "--output_dir", "OUT"),
            *("--student", "yes_token", "--loss", "rank_net", "--train_group_size", "4", "--rerank_max_len", "96"),
            *("--use_cpu", "--max_steps", "14", "--per_device_train_batch_size", "1", "--learning_rate", "1e-3"),
            *("--gradient_accumulation_steps", "2", "--save_strategy", "steps", "--save_steps", "1"),
            *("--save_total_limit", "2", "--logging_steps", "1", "--disable_tqdm", "True", "--report_to", "none"),
        ]

    def _write(self, name: str, lines: Any) -> Path:
        path = self._inputs / name
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def torn(self, folder: Path) -> int:
        """Torn checkpoints or last lines that a killed run has left."""
        if self.verb == "train":
            from tevatron_distill.formats.checkpoints import whats_torn

            return sum(whats_torn(path) is not None for path in folder.glob("checkpoint-*"))
        partial = [*folder.glob("*.partial"), *folder.glob("answers.jsonl")]
        return sum(bool(text) and not text.endswith(b"\n") for text in (path.read_bytes() for path in partial))

    def differing(self, folder: Path) -> list[str]:
        """Files that are not those of the undisturbed run."""
        one, other = self.whole.folder, folder
        names = {str(path.relative_to(root)) for root in (one, other) for path in root.rglob("*") if path.is_file()}
        return sorted(name for name in names if not self._same(one / name, other / name))

    def _same(self, one: Path, other: Path) -> bool:
        if not (one.exists() and other.exists()):
            return False
        if one.name.endswith("run_config.json"):  # times and paths differ
            return all(json.loads(path.read_text()).get("complete", True) for path in (one, other))
        if one.suffix == ".sqlite":
            return self._answers(one) == self._answers(other)
        if one.name == "trainer_state.json":
            return trainer_state(one) == trainer_state(other)
        if one.suffix in (".pt", ".pth"):
            return same_values(load(one), load(other))
        return one.read_bytes() == other.read_bytes()

    @staticmethod
    def _answers(path: Path) -> list[Any]:
        with closing(sqlite3.connect(path)) as database:
            return database.execute("SELECT * FROM answers ORDER BY key").fetchall()


def trainer_state(path: Path) -> tuple[Any, ...]:
    """What training has come to: step, epoch, and the losses on the way; no times, no paths."""
    state = json.loads(path.read_text())
    losses = [entry for entry in state["log_history"] if "train_runtime" not in entry]
    return state["global_step"], state["epoch"], state["best_metric"], losses


def load(path: Path) -> Any:
    """The values of a torch file."""
    import torch

    return torch.load(path, weights_only=False)


def same_values(one: Any, other: Any) -> bool:
    """Whether nested values are equal, tensors and arrays bit by bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_values(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_values, one, other))
    if hasattr(one, "shape"):
        return one.shape == other.shape and bool((one == other).all())
    return bool(one == other)


def torture(verb: str, kills: int, seed: int, folder: Path, context: Any) -> Tally:
    """Kill a verb so many times and compare what it ends with after each round."""
    victim, draw, tally = Victim(verb, folder, context), random.Random(f"{seed} {verb}"), Tally()
    began = time.monotonic()
    while tally.kills.total() < kills:
        command = victim.command("round")
        tally.rounds += 1
        ended = False
        plans = [victim.plan(draw) for _ in range(min(draw.randint(1, 4), kills - tally.kills.total()))]
        for plan in plans:
            finished = run(context, command, plan)
            outcome = ENDED_BY.get(finished.code or 0, "failed")
            if outcome == "killed":
                tally.kills[plan.mode] += 1
                tally.torn += victim.torn(command.folder) > 0
                continue
            if outcome == "failed":
                tally.failures.append(f"round {tally.rounds}, {plans}: status {finished.code}\n{finished.log[-3000:]}")
            tally.ended_before += outcome == "ended"
            ended = outcome == "ended"
            break
        print(f"{verb}: {tally.kills.total()} kills, {len(tally.failures)} failures", file=sys.stderr, flush=True)
        if not ended:
            finished = run(context, command)
            if finished.code != 0:
                tally.failures.append(f"round {tally.rounds}, {plans}: status {finished.code}\n{finished.log[-3000:]}")
                continue
        if differing := victim.differing(command.folder):
            tally.failures.append(f"round {tally.rounds}, {plans}: differs in {', '.join(differing)}")
            shutil.move(command.folder, folder / f"{verb}-failed-{tally.rounds}")
    tally.seconds = time.monotonic() - began
    return tally


def main() -> None:
    """Torture the verbs and print a table; status 1 where a run ended otherwise than an undisturbed one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--verb", choices=[*VERBS, "all"], default="all")
    parser.add_argument("--kills", type=int, default=100, help="kills of each verb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep all files there (default: a temporary folder)")
    arguments = parser.parse_args()
    context = make_context()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        print("verb    kills  time  write  byte  rounds  ended first  torn met  differing  seconds", flush=True)
        for verb in VERBS if arguments.verb == "all" else (arguments.verb,):
            tally = torture(verb, arguments.kills, arguments.seed, folder, context)
            counts = [tally.kills[mode] for mode in MODES]
            print(
                f"{verb:6}  {sum(counts):5}  {counts[0]:4}  {counts[1]:5}  {counts[2]:4}  {tally.rounds:6}  "
                f"{tally.ended_before:11}  {tally.torn:8}  {len(tally.failures):9}  {tally.seconds:7.0f}",
                flush=True,
            )
            failures += [f"{verb}: {failure}" for failure in tally.failures]
    for failure in failures:
        print(failure, file=sys.stderr)
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()

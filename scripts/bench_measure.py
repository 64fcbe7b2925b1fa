"""How bench.py measures: works in turn, tokens that were computed, bare matrix products, memory, growth."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

SCRIPTS = Path(__file__).parent
TOLERANCE = 1e-4
"""How far scores of two programs may be apart that compute the same."""
CHUNK = 1024
"""Tokens of a bare matrix product."""

# A function of a module beside this one, in a process of its own
APART = """
import json, sys
from importlib import import_module
module, function, keywords = json.loads(sys.argv[1])
print("measured", json.dumps(getattr(import_module(module), function)(**keywords)))
"""


class MissingError(Exception):
    """A row lacks what it needs; the message says what."""


@dataclass
class Timed:
    """The runs of one work.

    Attributes:
        wall: seconds of each run,
        cpu: the process's seconds of computing in each,
        result: what the last has made.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    result: Any = None

    def best(self, clock: str) -> float:
        """The least of the runs, by ``wall`` or ``cpu``."""
        return min(getattr(self, clock))


def in_turn(works: Mapping[str, Callable[[], Any]], repeats: int, prepared: bool = False) -> dict[str, Timed]:
    """Run works in turn, a b a b, so that what else the machine does falls on all of them.

    Args:
        works: by name.
        repeats: how often each is run.
        prepared: a work makes, untimed, what is then run.
    """
    timed = {name: Timed() for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            run = work() if prepared else work
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            timed[name].result = run()
            timed[name].wall.append(time.perf_counter() - wall)
            timed[name].cpu.append(time.process_time() - cpu)
    return timed


def largest_difference(first: Sequence[float], second: Sequence[float]) -> float:
    """The largest difference of two lists of scores; infinite where they are not of one length or not finite."""
    if len(first) != len(second):
        return math.inf
    most = max((abs(a - b) for a, b in zip(first, second, strict=True)), default=0.0)
    return most if math.isfinite(most) else math.inf


@dataclass
class Tokens:
    """Tokens that were looked up in a model's embeddings, padding included."""

    computed: int = 0


@contextmanager
def counting_tokens(model: nn.Module) -> Iterator[Tokens]:
    """Count every token that goes through a model, whoever calls it."""
    count = Tokens()

    def add(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        count.computed += output.shape[:-1].numel()

    words = model.get_input_embeddings().weight.shape
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding) and module.weight.shape == words]
    handles = [table.register_forward_hook(add) for table in tables]  # T5 has one for each side
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()


class Watch(TorchDispatchMode):
    """Notes every tensor that an operation makes and one of whose sides is a given number (a vocabulary)."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.found: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor) and self.side in tensor.shape:
                self.found.append(tuple(tensor.shape))
        return made


def bare_products(model: nn.Module, left_out: Sequence[str] = (), clock: str = "wall") -> float:
    """Seconds that the matrix products of a model's weights take for one token, at `CHUNK` tokens a product.

    What attention multiplies beside the weights, and everything that is no product, is not in it: it is the least that
    any program could take with this library on this machine.

    Args:
        model: its linear layers count.
        left_out: names of layers that are not run for every token (a head).
        clock: ``wall`` or ``cpu``, as the works beside it are measured.
    """
    shapes: dict[tuple[int, int], int] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and not any(part in name for part in left_out):
            shape = module.in_features, module.out_features
            shapes[shape] = shapes.get(shape, 0) + 1
    seconds, now = 0.0, time.process_time if clock == "cpu" else time.perf_counter
    with torch.inference_mode():
        for (inside, outside), count in shapes.items():
            tokens, weight = torch.randn(CHUNK, inside), torch.randn(outside, inside)
            runs = []
            for _ in range(10):
                began = now()
                torch.nn.functional.linear(tokens, weight)
                runs.append(now() - began)
            seconds += count * min(runs) / CHUNK
    return seconds


def resident() -> float:
    """MiB of memory that this process holds now."""
    return _status("VmRSS")


def peak_resident() -> float:
    """MiB of memory that this process has held at the most, since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> None:
    """Let `peak_resident` begin anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


def apart(module: str, function: str, threads: int, **keywords: Any) -> Any:
    """What a function of a module beside this one gives, in a process of its own, so that its memory can be told.

    Args:
        module: name of the module.
        function: name of the function; it returns what JSON can hold.
        threads: for torch.
        keywords: of the function, as JSON.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "MALLOC_MMAP_THRESHOLD_": "32768",  # small blocks, too, go back to the system
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", APART, json.dumps([module, function, keywords])],
        capture_output=True,
        text=True,
        env=environment,
        cwd=SCRIPTS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module}.{function} fails apart:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.rpartition("measured ")[2])


def start_up(words: Sequence[str], repeats: int = 3) -> float:
    """The least seconds of computing, user and system, that a command takes."""
    runs = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        runs.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(runs)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The p of ``cost = c * size ** p`` that fits best, by least squares of logarithms.

    >>> exponent([1, 10, 100], [2, 20, 200])
    1.0
    """
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    middle = sum(x) / len(x)
    slope = sum((a - middle) * b for a, b in zip(x, y, strict=True)) / sum((a - middle) ** 2 for a in x)
    return round(slope, 4)


@dataclass
class Setting:
    """How the rows are measured.

    Attributes:
        folder: where models are made, once.
        threads: of torch, for all works alike.
        repeats: how often the works of a row take turns.
        clock: ``wall``, or ``cpu`` on a machine that does other things beside.
        ranker: a trained cross-encoder, for rows about quality; None where there is none,
        small_ranker: and a smaller student.
    """

    folder: Path
    threads: int = 2
    repeats: int = 3
    clock: str = "wall"
    ranker: str | None = None
    small_ranker: str | None = None


@dataclass
class Outcome:
    """What a row has found.

    Attributes:
        measured: for the table.
        ratio: how many times faster ours is (or smaller); None where the row is no ratio.
        met: whether the reach is met; None where there is none, or it was not measured.
        limit: how near the limit it is.
        raw: every figure.
    """

    measured: str
    ratio: float | None = None
    met: bool | None = None
    limit: str = ""
    raw: dict[str, Any] = field(default_factory=dict)


def compared(
    timed: Mapping[str, Timed],
    setting: Setting,
    reach: float | None,
    differences: Mapping[str, float],
    *,
    products: float | None = None,
    real_share: float | None = None,
    **raw: Any,
) -> Outcome:
    """The outcome of a row that compares ``ours`` with one other work.

    Args:
        timed: ``ours`` and the other.
        setting: how it was measured.
        reach: the ratio that is asked for; None for none.
        differences: largest differences of what must be equal to 1e-4, by name.
        products: seconds of the bare matrix products of what ours computes.
        real_share: share of real tokens in what ours computes.
        raw: further figures.
    """
    ours = timed["ours"].best(setting.clock)
    [other] = [name for name in timed if name != "ours"]
    ratio = timed[other].best(setting.clock) / ours
    equal = all(difference <= TOLERANCE for difference in differences.values())
    limits = [] if real_share is None else [f"{real_share:.1%} real tokens"]
    limits += [] if products is None else [f"products {products / ours:.0%} of our time"]
    seconds = {name: {"wall": one.wall, "cpu": one.cpu} for name, one in timed.items()}
    return Outcome(
        f"{ratio:.2f}×" if equal else "fails: " + ", ".join(f"{k} differ by {v:.1e}" for k, v in differences.items()),
        ratio,
        None if reach is None else equal and ratio >= reach,
        ", ".join(limits),
        {"seconds": seconds, "differences": dict(differences), "products": products, "real_share": real_share, **raw},
    )

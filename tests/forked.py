"""Processes that work together as a launcher's do, forked from one that has everything imported.

A process that torchrun starts spends seconds on imports; where the launcher itself is not what is tested, this is it.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([f"tevatron_distill.driver.{verb}" for verb in ("teach", "rerank", "train")])


def run_ranks(
    work: Callable[..., None], arguments: tuple[Any, ...], processes: int, log: Path, seconds: float = 200
) -> tuple[str, bool]:
    """What the processes said, and whether one failed; as torchrun does, the others end with it."""
    port = random.SystemRandom().randrange(20000, 60000)
    started = [CONTEXT.Process(target=_rank, args=(work, arguments, n, processes, port, log)) for n in range(processes)]
    for process in started:
        process.start()
    until = time.monotonic() + seconds
    while any(process.exitcode is None for process in started) and not any(process.exitcode for process in started):
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.02)
    failed = any(process.exitcode for process in started)
    for process in started:
        process.join(1 if failed else None)
        process.kill()
        process.join()
    return log.read_text(), failed


def _rank(
    work: Callable[..., None], arguments: tuple[Any, ...], rank: int, processes: int, port: int, log: Path
) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    if processes > 1:
        told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ |= {name: str(value) for name, value in told.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    work(*arguments)

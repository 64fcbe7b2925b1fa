"""Run in each process of a launcher: drivers with small blocks, for every command in a JSON file; one may be killed."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from tevatron_distill.driver import rerank, teach
from tevatron_distill.driver.common import run_main
from tevatron_distill.formats.blocks import BlockOutput

BLOCK_PAIRS = 12


def kill_in_front_of(number: int) -> None:
    """Die without a word before this process writes for the so-manieth time."""
    write, left = BlockOutput.write, [number]

    def dies(self, block, lines):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        write(self, block, lines)

    BlockOutput.write = dies


def work(job: str, writes: int | None = None) -> None:
    """Every command of the file; with ``writes``, until this process would write for the so-manieth time."""
    faulthandler.dump_traceback_later(150, exit=True)  # says where processes wait for each other
    rerank.BLOCK_PAIRS = BLOCK_PAIRS
    if writes is not None:
        kill_in_front_of(writes)
    run_main(run_commands, [job])


def run_commands(argv: Sequence[str] | None) -> None:
    """As one program, which a process of a launcher ends with."""
    for driver, words in json.loads(Path(*argv).read_text(encoding="utf-8")):
        {"rerank": rerank.main, "teach": teach.main}[driver](words)


if __name__ == "__main__":
    work(sys.argv[1])

"""Run in each process of a launcher: drivers with small blocks, for every command in a JSON file; one may be killed."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
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


if __name__ == "__main__":
    faulthandler.dump_traceback_later(100, exit=True)  # says where processes wait for each other
    rerank.BLOCK_PAIRS = BLOCK_PAIRS
    if "KILL_IN_FRONT_OF" in os.environ:
        kill_in_front_of(int(os.environ["KILL_IN_FRONT_OF"]))
    for driver, words in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        run_main({"rerank": rerank.main, "teach": teach.main}[driver], words)

"""Run in each process of a launcher: the driver, once for every command in a JSON file of lists of words."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
from pathlib import Path


def skip_the_compiler() -> None:
    """DeepSpeed compiles an operator for shared memory at its first collective (about two minutes); gloo will do."""
    try:
        importlib.metadata.version("deepspeed")
    except importlib.metadata.PackageNotFoundError:
        return
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if not word.startswith("--local_rank")]
    if any("deepspeed" in word for word in Path(words[0]).read_text().split('"')):
        skip_the_compiler()
    from tevatron_distill.driver.train import main
    from tevatron_distill.sharing import leave_processes

    logging.basicConfig(level=logging.INFO)
    for command in json.loads(Path(words[0]).read_text(encoding="utf-8")):
        main(command)
    leave_processes()

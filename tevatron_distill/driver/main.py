"""``tevatron-distill <verb> …``: the drivers by their names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from tevatron_distill import __version__
from tevatron_distill.driver.common import run_main

VERBS = {
    "retrieve": "find candidates in a collection, or join a run with its texts",
    "teach": "let a teacher order candidates, which makes groups",
    "train": "train a student on groups",
    "rerank": "rank candidates with a student",
    "evaluate": "measure runs against judgements",
    "report": "show measures, times, curves and every query on one page",
    "export": "write a student as the folder that other libraries load",
    "merge": "put together what the shards of a job array have made",
    "convert": "turn a run into other columns, or rows of any project into groups",
    "doctor": "say what is installed, what is missing and the command that brings it",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the driver that the first word names with the words behind it.

    Raises:
        SystemExit: with status 2 if there is no such driver, else as the driver.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in VERBS:
        run_main(importlib.import_module(f"tevatron_distill.driver.{words[0]}").main, words[1:])
    elif words and words[0] in ("-h", "--help"):
        print(usage())
    elif words and words[0] == "--version":
        print(__version__)
    else:
        print(usage(), file=sys.stderr)
        print(f"\nerror: the first word must be a verb; got {words[0] if words else 'nothing'}", file=sys.stderr)
        raise SystemExit(2)


def usage() -> str:
    """The verbs, a line each."""
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb.ljust(width)}  {description}" for verb, description in VERBS.items()]
    return "\n".join(["usage: tevatron-distill <verb> [flags]   (<verb> --help lists the flags)", "", *lines])


if __name__ == "__main__":
    main()

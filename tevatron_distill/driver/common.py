"""What all drivers share: how they start, and how they say that their input breaks a rule."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Callable, Sequence

from tevatron_distill.memory import peak_memory
from tevatron_distill.schema import InputError
from tevatron_distill.sharing import leave_processes

logger = logging.getLogger(__name__)


def run_main(main: Callable[[Sequence[str] | None], None], argv: Sequence[str] | None = None) -> None:
    """Run a driver's ``main`` as a program: log lines and errors of the input go to stderr, the latter with status 1.

    A process of a launcher that is through ends here (see `leave_processes`).

    Args:
        main: the driver.
        argv: words of the command line; None takes the program's own.

    Raises:
        SystemExit: with status 1 after an `InputError`, 130 after Ctrl-C.
    """
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING  # one process speaks for all
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    for chatty in ("httpx", "httpx2", "openai", "bm25s", "datasets", "filelock", "sentence_transformers"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        main(argv)
        logger.info("peak memory: %s", ", ".join(f"{name} {value:g}" for name, value in peak_memory().items()))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    leave_processes()


SECRET = ("hub_token",)


def as_mapping(*arguments: object) -> dict[str, object]:
    """The fields of a driver's dataclasses in one mapping, for the run's record; tokens of the hub are nobody's."""
    fields: dict[str, object] = {}
    for instance in arguments:
        if not dataclasses.is_dataclass(instance) or isinstance(instance, type):
            raise TypeError(f"as_mapping takes dataclass instances; got {instance!r}")
        fields |= {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}
    return {name: value for name, value in fields.items() if name not in SECRET}

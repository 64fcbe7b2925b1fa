"""Progress bars with rates and the time left: at a terminal; none in logs and under ``--disable_tqdm``."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LIBRARIES = {
    "HF_HUB_DISABLE_PROGRESS_BARS": ("transformers.utils.logging", "disable_progress_bar"),  # and those of the hub
    "HF_DATASETS_DISABLE_PROGRESS_BARS": ("datasets", "disable_progress_bars"),
}
"""Libraries with bars of their own: the variable that stops them when they are imported, and what stops them after."""

_bars = {"wanted": True}


def want_bars(wanted: bool) -> bool:
    """Say for this process whether there are bars.

    Args:
        wanted: not under ``--disable_tqdm``. Where stderr is no terminal there are none all the same.

    Returns:
        Whether there are bars.
    """
    _bars["wanted"] = wanted
    if wanted and sys.stderr.isatty():
        return True
    for variable, (module, function) in LIBRARIES.items():
        os.environ.setdefault(variable, "1")
        if module.partition(".")[0] in sys.modules:
            getattr(importlib.import_module(module), function)()
    return False


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str | None = None,
    unit: str = "it",
    total: int | None = None,
    initial: int = 0,
    leave: bool = True,
    hidden: bool = False,
) -> Any:
    """A bar around ``iterable``, or one that is moved by its ``update(n)``.

    Args:
        iterable: what is gone through.
        desc: what is done, in a word.
        unit: what is counted.
        total: how many there are, for the time left; ``len(iterable)`` where that is known.
        initial: how many an earlier run has done.
        leave: whether it stays when it is full.
        hidden: this process is not the one that speaks.
    """
    disable = True if hidden or not _bars["wanted"] else None  # None: as stderr is a terminal or not
    return tqdm(
        iterable,
        desc=desc,
        unit=unit,
        total=total,
        initial=initial,
        leave=leave,
        disable=disable,
        dynamic_ncols=True,
    )

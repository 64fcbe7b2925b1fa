"""The flag that all drivers have."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments.screens import first

NO_BARS = first("out", "no progress bars (in logs there are none)")


@dataclass
class BarArguments:
    """How the work is watched."""

    disable_tqdm: bool = field(default=False, metadata={"help": NO_BARS})

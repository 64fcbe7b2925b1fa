"""Flags of ``driver.convert``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments import check_choice
from tevatron_distill.formats.runs import RUN_FORMATS


@dataclass
class ConvertArguments:
    """Which run becomes which kind of file."""

    input: str = field(metadata={"help": "a run of 3, 4 or 6 columns"})
    output: str = field(metadata={"help": "the new file"})
    to: str = field(default="trec", metadata={"help": "kind of the new file", "choices": list(RUN_FORMATS)})
    remove_query: bool = field(
        default=False, metadata={"help": "drop the passage that has the query's own name (ArguAna, Quora)"}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "replace output that exists"})

    def __post_init__(self) -> None:
        check_choice("to", self.to, RUN_FORMATS)

"""Flags of ``driver.merge``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments.screens import first


@dataclass
class MergeArguments:
    """Which output the shards of a job array have made."""

    output_path: str = field(
        metadata={"help": first("out", "what --output_path or --rerank_output_path was in the shards' command")},
    )
    parts_path: str | None = field(
        default=None,
        metadata={"help": first("in", "folder of the parts, where they were copied (default: OUTPUT_PATH.parts)")},
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": first("out", "replace output that is complete")},
    )

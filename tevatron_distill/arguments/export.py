"""Flags of ``driver.export``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.schema import InputError


@dataclass
class ExportArguments:
    """What becomes a plain folder, and where it is written."""

    output_dir: str = field(default="", metadata={"help": "the new folder"})
    checkpoint: str | None = field(
        default=None,
        metadata={"help": "a folder checkpoint-N of training, by DeepSpeed and FSDP too, that becomes a plain folder"},
    )
    merge: bool = field(default=False, metadata={"help": "merge the adapter of --model_name_or_path into its model"})
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "with --merge: the adapter's folder, or its name on the hub"}
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": "replace a folder that exists"})

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise InputError("--output_dir must name the folder to write; got none")
        if (self.checkpoint is not None) == self.merge:
            raise InputError(
                "say what to export: --checkpoint DIR for a training's checkpoint, or --merge with "
                "--model_name_or_path ADAPTER; got " + ("both" if self.merge else "neither")
            )
        if self.merge and not self.model_name_or_path:
            raise InputError("--merge needs the adapter's folder: --model_name_or_path ADAPTER; got none")

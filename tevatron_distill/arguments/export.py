"""Flags of ``driver.export``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tevatron_distill.arguments.screens import first
from tevatron_distill.schema import InputError

FORMATS = ("hub", "causal_lm", "seq2seq_lm", "adapter", "merged", "onnx", "pairrm")
"""The keys of ``EXPORTS``, which this module must not import."""

ONNX_DTYPES = ("float32", "int8")


@dataclass
class ExportArguments:
    """What is exported, in which form, and where it is written."""

    output_dir: str = field(default="", metadata={"help": first("out", "the new folder")})
    model_name_or_path: str | None = field(
        default=None,
        metadata={"help": first("in", "the student: a folder of training, an adapter's, or a name on the hub")},
    )
    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": first(
                "in",
                "a folder checkpoint-N of training, by DeepSpeed and FSDP too; without --format it becomes a plain "
                "folder, as training leaves one",
            )
        },
    )
    format: str | None = field(
        default=None,
        metadata={
            "help": first(
                "how",
                "hub (the default): one folder for transformers, sentence-transformers, vLLM and Tevatron; "
                "causal_lm, seq2seq_lm: the language model that answers Yes; adapter: LoRA for peft and "
                "sentence-transformers; merged: LoRA in its model; onnx: for onnxruntime; pairrm: as LLM-Blender "
                "opens it",
            ),
            "choices": FORMATS,
        },
    )
    merge: bool = field(default=False, metadata={"help": "the same as --format merged"})
    onnx_dtype: str = field(
        default="float32",
        metadata={"help": first("how", "--format onnx: the numbers of its weights"), "choices": ONNX_DTYPES},
    )
    overwrite_output_dir: bool = field(default=False, metadata={"help": first("out", "replace a folder that exists")})

    def __post_init__(self) -> None:
        if not self.output_dir:
            raise InputError("--output_dir must name the folder to write; got none")
        if self.merge:
            if self.format not in (None, "merged"):
                raise InputError(f"--merge is --format merged; got --format {self.format} too; give one of them")
            self.format = "merged"
        if (self.checkpoint is None) == (self.model_name_or_path is None):
            raise InputError(
                "say what to export: --model_name_or_path STUDENT (with --merge, ADAPTER), or --checkpoint DIR for a "
                "training's checkpoint; got " + ("neither" if self.checkpoint is None else "both")
            )
        for name, allowed in (("format", (None, *FORMATS)), ("onnx_dtype", ONNX_DTYPES)):
            if getattr(self, name) not in allowed:
                known = ", ".join(str(one) for one in allowed if one)
                raise InputError(f"--{name} must be one of {known}; got {getattr(self, name)!r}")

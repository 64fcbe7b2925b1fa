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
    results_path: list[str] = field(
        default_factory=list,
        metadata={
            "help": first(
                "in",
                "for the model card: what driver.evaluate --output_path or driver.report has written; the runs that "
                "this student made are told by the records beside them",
            )
        },
    )
    license: str | None = field(
        default=None,
        metadata={
            "help": first("out", "for the model card: the model's licence as the Hub spells it, e.g. apache-2.0")
        },
    )
    push_to_hub: bool = field(
        default=False,
        metadata={"help": first("out", "push the folder to the Hub; the token is that of HF_TOKEN or `hf auth login`")},
    )
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": first("out", "the model's name on the Hub, ORGANISATION/NAME; the card's snippets load it")},
    )
    hub_revision: str | None = field(
        default=None, metadata={"help": "with --push_to_hub: the branch, made where it does not exist (default: main)"}
    )
    hub_private_repo: bool = field(
        default=False,
        metadata={"help": "with --push_to_hub: a repository that is made is private; a public one is refused"},
    )

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
        if self.push_to_hub and not self.hub_model_id:
            raise InputError("--push_to_hub needs --hub_model_id ORGANISATION/NAME; got none")
        for name in ("hub_revision", "hub_private_repo"):
            if getattr(self, name) and not self.push_to_hub:
                raise InputError(f"--{name} says how to push; got no --push_to_hub")
        for name, allowed in (("format", (None, *FORMATS)), ("onnx_dtype", ONNX_DTYPES)):
            if getattr(self, name) not in allowed:
                known = ", ".join(str(one) for one in allowed if one)
                raise InputError(f"--{name} must be one of {known}; got {getattr(self, name)!r}")

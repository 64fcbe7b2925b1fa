"""Write the README's table of flags from the dataclasses: ``python scripts/flag_table.py``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from transformers import TrainingArguments

from tevatron_distill.arguments.convert import ConvertArguments
from tevatron_distill.arguments.data import DatasetArguments, TrainDataArguments
from tevatron_distill.arguments.evaluate import EvaluateArguments
from tevatron_distill.arguments.export import ExportArguments
from tevatron_distill.arguments.merge import MergeArguments
from tevatron_distill.arguments.model import LayoutArguments, ModelArguments
from tevatron_distill.arguments.report import ReportArguments
from tevatron_distill.arguments.rerank import RerankArguments
from tevatron_distill.arguments.retrieve import RetrieveArguments
from tevatron_distill.arguments.share import ShareArguments
from tevatron_distill.arguments.teach import TeachArguments
from tevatron_distill.training_arguments import DistillTrainingArguments

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- flags: begin -->\n", "<!-- flags: end -->\n"

TABLES: dict[str, tuple[type, ...]] = {
    "retrieve": (RetrieveArguments,),
    "teach": (TeachArguments,),
    "teach, train and rerank": (DatasetArguments,),
    "teach and rerank": (ShareArguments,),
    "train and rerank": (ModelArguments, LayoutArguments),
    "train": (TrainDataArguments, DistillTrainingArguments),
    "rerank": (RerankArguments,),
    "evaluate": (EvaluateArguments,),
    "report": (ReportArguments,),
    "export": (ExportArguments,),
    "merge": (MergeArguments,),
    "convert": (ConvertArguments,),
}


def flags_of(types: tuple[type, ...], listed: set[str]) -> list[str]:
    """A row ``| flag | default | help |`` for each field that is ours and not in ``listed`` yet."""
    theirs = {field.name for field in dataclasses.fields(TrainingArguments)} - {"remove_unused_columns"}
    rows = []
    for field in (field for kind in types for field in dataclasses.fields(kind)):
        if field.name in theirs | listed or not field.init:
            continue
        listed.add(field.name)
        if field.default is not dataclasses.MISSING:
            default = "" if field.default is None else f"`{field.default}`" if field.default != "" else "`''`"
        elif field.default_factory is not dataclasses.MISSING:
            default = f"`{' '.join(field.default_factory())}`"
        else:
            default = "required"
        text = str(field.metadata["help"])
        choices = field.metadata.get("choices")
        if choices:
            text += f" ({', '.join(f'`{choice}`' for choice in choices)})"
        rows.append(f"| `--{field.name}` | {default} | {text} |".replace("%%", "%"))
    return rows


def flag_tables() -> str:
    """All tables as Markdown."""
    shared: set[str] = set()
    parts = []
    for name, types in TABLES.items():
        listed = set(shared)
        rows = flags_of(types, listed)
        if "and" in name:
            shared = listed
        parts.append("\n".join([f"**{name}**\n", "| flag | default | meaning |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def with_tables(text: str) -> str:
    """The README's text with its tables made anew."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + flag_tables() + END + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")

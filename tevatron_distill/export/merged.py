"""A LoRA adapter merged into its model."""

from __future__ import annotations

from pathlib import Path

from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import Readers, scores
from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.students.loading import ADAPTER_FILE


def write_merged(original: Original, folder: Path) -> Readers:
    """Write the whole of base and adapter, in float32, as training would have left it.

    Raises:
        InputError: if the folder holds no adapter.
    """
    if original.source.adapter is None:
        raise InputError(f"{original.path}: --format merged takes an adapter's folder; found no {ADAPTER_FILE} there")
    original.loaded.model.save_pretrained(folder)
    original.loaded.tokenizer.save_pretrained(folder)
    original.layout.settings.save(folder)
    return {"peft, before merging": lambda: scores(load_student(original.path, options=LoadOptions(training=True)))}

"""A trained student in the form that another program loads, checked by that program's own library."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from tevatron_distill.export.adapter import write_adapter
from tevatron_distill.export.card import CardOptions, write_card
from tevatron_distill.export.causal_lm import write_causal_lm
from tevatron_distill.export.checkpoint import export_checkpoint
from tevatron_distill.export.folder import new_folder
from tevatron_distill.export.hub import write_hub
from tevatron_distill.export.merged import write_merged
from tevatron_distill.export.onnx import write_onnx
from tevatron_distill.export.original import Original
from tevatron_distill.export.pairrm import write_pairrm
from tevatron_distill.export.rescoring import Readers, check, scores
from tevatron_distill.export.seq2seq_lm import write_seq2seq_lm
from tevatron_distill.schema import InputError
from tevatron_distill.students import load_student

__all__ = ["EXPORTS", "CardOptions", "Original", "export_checkpoint", "export_student", "merge_adapter"]

logger = logging.getLogger(__name__)

EXPORTS: dict[str, Callable[[Original, Path], Readers]] = {
    "hub": write_hub,
    "causal_lm": write_causal_lm,
    "seq2seq_lm": write_seq2seq_lm,
    "adapter": write_adapter,
    "merged": write_merged,
    "onnx": write_onnx,
    "pairrm": write_pairrm,
}
"""``--format`` → what writes a folder, and says by which libraries it is to be read again."""

WITHOUT_WEIGHTS = ("onnx",)
"""Formats that are no student's folder any more."""


def export_student(
    path: str,
    output: str | Path,
    format: str = "hub",
    *,
    onnx_dtype: str = "float32",
    overwrite: bool = False,
    origin: str | None = None,
    card: CardOptions | None = None,
) -> dict[str, float]:
    """Export a student.

    Args:
        path: the student's folder, or its name on the hub.
        output: the new folder; appears whole, or not at all.
        format: key of `EXPORTS`.
        onnx_dtype: key of `ONNX_DTYPES`, of the format ``onnx``.
        overwrite: replace the folder where it exists.
        origin: where the training's record lies, if it does not lie in ``path``.
        card: what the model card says that no record holds.

    Returns:
        By library, the largest difference of its scores of a sample to the student's.

    Raises:
        InputError: if the format cannot hold the student, or scores differ by more than `TOLERANCE`.
    """
    if format not in EXPORTS:
        raise InputError(f"--format must be one of {', '.join(EXPORTS)}; got {format!r}")
    with new_folder(output, overwrite) as folder:
        original = Original(path, load_student(path), onnx_dtype)
        expected, notes, unit = original.expected, original.notes, original.unit
        readers = EXPORTS[format](original, folder)
        del original  # or its weights would stay beside those of each library
        if format not in WITHOUT_WEIGHTS:
            readers["tevatron_distill"] = lambda: scores(load_student(str(folder)))
        differences = {name: check(path, expected, read(), name, unit) for name, read in readers.items()}
        write_card(folder, origin or path, format, name=str(output), options=card, notes=notes)
    for note in notes:
        logger.warning("%s: %s", output, note)
    return differences


def merge_adapter(path: str, output: str | Path, overwrite: bool = False) -> float:
    """Merge a LoRA adapter into its model: `export_student` with the format ``merged``.

    Returns:
        The largest difference of scores on a sample between the adapter and the folder.
    """
    return max(export_student(path, output, "merged", overwrite=overwrite).values())

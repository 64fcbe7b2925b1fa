"""A student that encodes apart, in ONNX: its token vectors by onnxruntime, its rows by tokenizers, scores by numpy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tevatron_distill.export.folder import read_json, save_plainly, write_json
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import PAIRS, Readers
from tevatron_distill.export.vector_rows import (
    Side,
    VectorRows,
    check_rows,
    plain_tokenizer,
    read_vector_rows,
    vector_rows,
)
from tevatron_distill.layouts import DualLayout
from tevatron_distill.reranker.onnx import MODEL_FILE, RECORD_FILE


def write_onnx_vectors(original: Original, layout: DualLayout, folder: Path, record: Mapping[str, Any]) -> Readers:
    """Write tokenizer and record beside the graph.

    Args:
        original: a colbert or simcls student.
        layout: its layout.
        folder: with ``model.onnx``, whose output is token vectors ``[R, T, D]``, not of unit length.
        record: what ``onnx.json`` holds so far; its ``difference``, of vectors, becomes that of scores.

    Raises:
        InputError: if the tokenizer alone makes other rows than the student's.
    """
    tokenizer = plain_tokenizer(original)
    rows = vector_rows(layout, tokenizer)
    check_rows(original, tokenizer, rows)
    save_plainly(tokenizer, folder)
    write_json(folder / RECORD_FILE, {**record, "vectors": rows.as_json()})
    got = read_onnx_vectors(folder)
    difference = float((got - original.expected).abs().max())
    write_json(folder / RECORD_FILE, {**record, "difference": difference, "vectors": rows.as_json()})
    if original.onnx_dtype == "float32":
        return {"onnxruntime and tokenizers": lambda: got}
    largest = float(original.expected.abs().max())
    original.notes.append(
        f"{original.onnx_dtype} rounds: scores of a sample, up to {largest:.3g}, differ by {difference:.2g}"
    )
    return {}


def read_onnx_vectors(folder: Path) -> Tensor:
    """Scores by onnxruntime, tokenizers and numpy, from the folder's files alone."""
    import onnxruntime

    rows = read_vector_rows(read_json(folder / RECORD_FILE)["vectors"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    session = onnxruntime.InferenceSession(str(folder / MODEL_FILE), providers=["CPUExecutionProvider"])

    def encode(side: Side, text: str) -> Any:
        tokenizer.enable_truncation(side.max_length)
        row = side.row(tokenizer.encode(side.fill(text)).ids)
        mask = np.array([row.attended], dtype=np.int64)
        [[vectors]] = session.run(None, {"input_ids": np.array([row.input_ids]), "attention_mask": mask})
        return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))[row.counted]

    return torch.tensor([score(rows, encode(rows.query, one), encode(rows.passage, other)) for one, other in PAIRS])


def score(rows: VectorRows, query: Any, passage: Any) -> float:
    """The score of the counted vectors of a query and a passage, arrays ``[T, D]`` of unit length."""
    if rows.pooling == "first":
        return float(query[0] @ passage[0] / rows.temperature)
    largest = (query @ passage.T).max(axis=1)
    if rows.zeros_below is not None and len(passage) < rows.zeros_below:
        largest = largest.clip(min=0)
    return float((largest.mean() if rows.pooling == "mean" else largest.sum()) / rows.temperature)

"""A student in ONNX, with all that a user of onnxruntime and tokenizers needs: neither torch nor transformers."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tevatron_distill.export.folder import read_json, save_plainly, write_json
from tevatron_distill.export.onnx_vectors import write_onnx_vectors
from tevatron_distill.export.original import Original, fitting
from tevatron_distill.export.rescoring import CASES, PAIRS, STRIPPED, Readers
from tevatron_distill.export.template import RowText, row_text, shows_query_first
from tevatron_distill.layouts import DualLayout, PointLayout
from tevatron_distill.reranker.onnx import MODEL_FILE, RECORD_FILE, export_onnx
from tevatron_distill.schema import InputError
from tevatron_distill.students.cross_encoder import PairRows


def write_onnx(original: Original, folder: Path) -> Readers:
    """Write ``model.onnx``, ``onnx.json``, ``tokenizer.json``, and the configs of model and student.

    ``onnx.json`` names the graph's inputs, the cap on logits if there is one, and as ``text`` what stands around query
    and passage in a row (see `RowText`), special tokens included; null where the tokenizer takes the two as a pair.
    Of a student that encodes apart it says as ``vectors`` how rows are made and joined (see `VectorRows`).

    Raises:
        InputError: if the student's kind is not exported (see `export_onnx`), or the extra is missing.
    """
    layout, model, dtype = original.layout, original.loaded.model, original.onnx_dtype
    if "onnx" not in fitting(original):
        raise original.misfit("onnx", "takes students that read one passage at a time")
    record = export_onnx(model, layout, folder / "graph", dtype)
    for path in (folder / "graph").iterdir():
        shutil.move(path, folder / path.name)
    (folder / "graph").rmdir()
    model.config.save_pretrained(folder)
    layout.settings.save(folder)
    if isinstance(layout, DualLayout):
        return write_onnx_vectors(original, layout, folder, record)
    if not isinstance(layout, PointLayout) or not shows_query_first(layout):
        original.notes.append("a row is no text of a query and a passage behind it: make rows as the student does")
        save_plainly(original.loaded.tokenizer, folder)
        return {}
    text = write_row_text(original, layout, folder)
    write_json(
        folder / RECORD_FILE,
        {**record, "softcap": layout.settings.softcap, "text": None if text is None else text._asdict()},
    )
    if dtype != "float32":
        original.notes.append(f"{dtype} rounds: scores of a sample differ by {record['difference']:.2g}")
        return {}
    return {"onnxruntime and tokenizers": partial(read_onnx, folder)}


def write_row_text(original: Original, layout: PointLayout, folder: Path) -> RowText | None:
    """Write the tokenizer so that it makes the student's rows by itself, and see that it does.

    Pairs are cut in it, the longer one first. Of a text the end would be cut, and the prompt's end with it.

    Raises:
        InputError: if its rows are others.
    """
    settings, tokenizer, text = layout.settings, original.loaded.tokenizer, None
    if isinstance(layout.encode, PairRows) and not settings.query_prefix and not settings.passage_prefix:
        backend = save_plainly(tokenizer, folder, settings.rerank_max_len)
    else:
        text, bare = row_text(original.loaded)
        backend = save_plainly(bare, folder)
    rows = [row.input_ids for case in CASES for row in layout.rows(case)]
    made = [one.ids[: sum(one.attention_mask)] for one in backend.encode_batch(texts(text))]
    if rows != made:
        raise InputError(
            f"{original.path}: the tokenizer alone makes other rows than the student reads; nothing was written"
        )
    return text


def texts(text: RowText | None) -> list[Any]:
    """The sample as the tokenizer takes it."""
    return list(STRIPPED) if text is None else [text.fill(query, document) for query, document in PAIRS]


def read_onnx(folder: Path) -> Tensor:
    """Scores by onnxruntime and tokenizers, from the folder's files alone."""
    import onnxruntime

    record = read_json(folder / RECORD_FILE)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = None if record["text"] is None else RowText(**record["text"])
    rows = tokenizer.encode_batch(texts(text))
    mask = torch.tensor([row.attention_mask for row in rows])
    inputs = {
        "input_ids": torch.tensor([row.ids for row in rows]),
        "attention_mask": mask,
        "token_type_ids": torch.tensor([row.type_ids for row in rows]),
        "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0),
    }
    session = onnxruntime.InferenceSession(str(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {name: inputs[name].numpy() for name in record["inputs"]})
    scores, cap = torch.from_numpy(logits)[:, 0], record["softcap"]
    return scores if cap is None else cap * torch.tanh(scores / cap)

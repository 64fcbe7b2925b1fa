"""Students in ONNX: exported once, checked against torch, and run by onnxruntime in float32 or int8."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tevatron_distill.extras import require_package
from tevatron_distill.formats.jsonl import read_json
from tevatron_distill.layouts import DualLayout, Layout, PointLayout
from tevatron_distill.loading import hash_weights
from tevatron_distill.reranker.last_layer import first_token_only, reads_first_token
from tevatron_distill.reranker.onnx_int8 import narrow, quiet, smoothed, write_int8
from tevatron_distill.schema import Candidates, InputError
from tevatron_distill.students.sample import LONG_PASSAGE, SAMPLE, TOLERANCE

logger = logging.getLogger(__name__)

BACKENDS = ("torch", "onnx")
ONNX_DTYPES = ("float32", "int8")
MODEL_FILE = "model.onnx"
RECORD_FILE = "onnx.json"
PACKAGES = ("onnx", "onnxruntime")
FORMAT = 3
"""Counts the changes of what is exported; older folders in the cache are then passed over."""


def require_onnx() -> None:
    """See that the extra is there.

    Raises:
        InputError: if a package of it is missing.
    """
    for name in PACKAGES:
        require_package(name, "--backend onnx")


class OnnxModel:
    """An exported student, in place of its torch model.

    It runs on the CPU, in as many threads as torch has when it is loaded.

    Args:
        folder: as `export_onnx` writes it.
        config: the model's config.

    Attributes:
        config: as given.
        record: what the folder's ``onnx.json`` says.

    Raises:
        InputError: if the folder is no such export, or onnxruntime is missing.
    """

    training = False

    def __init__(self, folder: str | Path, config: Any = None) -> None:
        require_onnx()
        import onnxruntime

        path = Path(folder, RECORD_FILE)
        if not path.is_file():
            raise InputError(f"{folder}: must be a student exported to ONNX; found no {RECORD_FILE}")
        self.config = config
        self.record: dict[str, Any] = read_json(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # one would be kept for every shape, and every batch has its own
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(Path(folder, MODEL_FILE)), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, **inputs: Tensor) -> dict[str, Tensor]:
        """``logits`` float32 ``[R, 1]`` of the model's inputs, int64 ``[R, T]`` each."""
        return {"logits": self._run(inputs)}

    def encode(self, input_ids: Tensor, attention_mask: Tensor, normalize: bool = True) -> Tensor:
        """Token vectors float32 ``[R, T, D]``, of unit length if asked; those of padding mean nothing."""
        vectors = self._run({"input_ids": input_ids, "attention_mask": attention_mask})
        return functional.normalize(vectors, dim=-1) if normalize else vectors

    def _run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        given = {name: inputs[name].numpy() for name in self.record["inputs"]}
        [output] = self._session.run(None, given)
        return torch.from_numpy(output)

    def to(self, device: str | torch.device) -> OnnxModel:
        """Itself.

        Raises:
            InputError: if the device is no CPU.
        """
        if torch.device(device).type != "cpu":
            raise InputError(f"--backend onnx runs on the CPU; got {device}; use --backend torch there")
        return self

    def eval(self) -> OnnxModel:
        """Itself."""
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """No weights, but a name that is different for different ones (passage vectors are told apart by it)."""
        return {f"onnx {self.record['dtype']} {self.record['identity']}": torch.empty(0)}


def on_backend(model: Any, layout: Layout, backend: str, dtype: str = "float32", cache_dir: str | None = None) -> Any:
    """What scores in the backend: the model itself (``torch``), or its export, made where the cache lacks it.

    Args:
        model: a student's torch model in float32.
        layout: the student's layout.
        backend: ``torch`` or ``onnx``.
        dtype: one of `ONNX_DTYPES`.
        cache_dir: where exports are kept, each in a folder named by a hash of all that it depends on; None for
            ``~/.cache`` (``XDG_CACHE_HOME``).

    Raises:
        InputError: if the student cannot be exported (see `export_onnx`).
    """
    if backend == "torch":
        return model
    require_onnx()
    home = Path(cache_dir or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    identity = onnx_identity(model, layout, dtype)
    folder = home / "tevatron_distill" / "onnx" / identity
    if not Path(folder, RECORD_FILE).is_file():
        logger.info("exporting the student to ONNX, once: %s", folder)
        export_onnx(model, layout, folder, dtype)
    return OnnxModel(folder, model.config)


def onnx_identity(model: Any, layout: Layout, dtype: str) -> str:
    """A hash of what an export depends on: weights, config, inputs, number format, and the programs that make it."""
    config = {key: value for key, value in model.config.to_dict().items() if not key.startswith("_")}
    programs = {name: importlib.metadata.version(name) for name in (*PACKAGES, "torch", "transformers")}
    kind = [type(model).__name__, input_names(layout), reads_first_token(model)]
    about = [FORMAT, dtype, dtype == "int8" and narrow(), kind, config, programs]
    found = hashlib.blake2b(json.dumps(about, sort_keys=True, default=str).encode(), digest_size=16)
    hash_weights(model, found)
    return found.hexdigest()


def export_onnx(model: Any, layout: Layout, folder: str | Path, dtype: str = "float32") -> dict[str, Any]:
    """Write a student as ``model.onnx`` with any number and length of rows, and ``onnx.json`` with what was checked.

    The graph takes the layout's inputs, int64 ``[R, T]`` each, and gives ``logits`` float32 ``[R, 1]``, or of a student
    that encodes apart token ``vectors`` float32 ``[R, T, D]``.

    Args:
        model: the student's torch model in float32, on the CPU.
        layout: the student's layout.
        folder: appears whole or not at all; must not exist.
        dtype: ``float32``; or ``int8``, in which the products with weights are computed (weights rounded once, a scale
            for each output; activations as they come), and not the head, nor attention.

    Returns:
        What ``onnx.json`` holds; ``difference`` is the largest to torch on a sample, in float32 at most `TOLERANCE`.

    Raises:
        InputError: if the student's kind is not exported, its weights are no float32, scores differ, or a package of
            the extra is missing.
    """
    require_onnx()
    names = input_names(layout)
    if model.dtype != torch.float32:
        raise InputError(f"--backend onnx takes float32 weights; got {model.dtype}; leave --dtype, --bf16, --fp16 out")
    folder = Path(folder)
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    record = {"format": FORMAT, "dtype": "float32", "inputs": names, "identity": onnx_identity(model, layout, dtype)}
    try:
        batches = sample_batches(layout)
        graph = Graph(model, names, isinstance(layout, DualLayout)).eval()
        width = model.config.get_text_config().hidden_size
        with smoothed(graph, batches, width) if dtype == "int8" else nullcontext():
            write_graph(model, layout, batches[0], partial / MODEL_FILE)
        record["difference"] = check(model, layout, batches, partial, record)
        if dtype == "int8":
            quantised = partial / "int8"
            quantised.mkdir()
            write_int8(partial / MODEL_FILE, quantised / MODEL_FILE, width)
            record = {**record, "dtype": dtype, "difference": check(model, layout, batches, quantised, record, None)}
            partial_of = quantised
        else:
            partial_of = partial
        Path(partial_of, RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        publish(partial_of, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    what = "vectors" if isinstance(layout, DualLayout) else "scores"
    logger.info("exported in %s; %s of a sample differ by %.2g at most", dtype, what, record["difference"])
    return record


def publish(made: Path, folder: Path) -> None:
    """Give a finished folder its name, unless another process was faster."""
    for file in made.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    try:
        made.rename(folder)
    except OSError:
        if not Path(folder, RECORD_FILE).is_file():
            raise


def input_names(layout: Layout) -> list[str]:
    """The inputs of a student's graph.

    Raises:
        InputError: if the student's kind is not exported.
    """
    if isinstance(layout, PointLayout):
        return list(layout.model_inputs)
    if isinstance(layout, DualLayout):
        return ["input_ids", "attention_mask"]
    raise InputError(
        "--backend onnx takes students that read one passage at a time (cross_encoder, yes_token, llm_ranker, colbert, "
        f"simcls); got {layout.settings.student}; use --backend torch"
    )


def sample_batches(layout: Any) -> list[dict[str, Tensor]]:
    """Padded inputs of several shapes: a batch, its first row alone, and a long row with two others."""
    if isinstance(layout, DualLayout):
        rows = [layout.encode_query(SAMPLE.query), *map(layout.encode_passage, SAMPLE.passages)]
        long = [layout.encode_passage(LONG_PASSAGE)]
    else:
        rows = layout.rows(SAMPLE)
        long = layout.rows(Candidates("long", SAMPLE.query, (LONG_PASSAGE,), (0.0,)))
    names = input_names(layout)
    shapes = (rows, rows[:1], [*long, *rows[:2]])
    return [{name: padded[name] for name in names} for padded in map(layout.pad, shapes)]


class Graph(nn.Module):
    """What is exported: inputs by place, and one output.

    Args:
        model: the student's model.
        names: of the inputs.
        vectors: the student encodes apart.
    """

    def __init__(self, model: Any, names: Sequence[str], vectors: bool) -> None:
        super().__init__()
        self.model, self.names, self.vectors = model, names, vectors

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits ``[R, 1]``, or token vectors ``[R, T, D]``, not normalised."""
        named = dict(zip(self.names, inputs, strict=True))
        if self.vectors:
            vectors: Tensor = self.model.encode(**named, normalize=False)
            return vectors
        logits: Tensor = self.model(**named)["logits"]
        return logits


def write_graph(model: Any, layout: Layout, batch: Mapping[str, Tensor], path: Path) -> None:
    """Export in float32.

    Attention is written out plainly: what stands for torch's own in ONNX guards against rows without any token by a
    select over all scores of attention, a tenth of the time in int8. The tracing exporter takes T5 as well, which the
    other one (torch 2.13) cannot, and a second where that takes ten; the graphs are equally fast.
    """
    names = list(batch)
    output = "vectors" if isinstance(layout, DualLayout) else "logits"
    graph = Graph(model, names, output == "vectors").eval()
    axes = {name: {0: "rows", 1: "tokens"} for name in names} | {output: {0: "rows"}}
    if output == "vectors":
        axes[output][1] = "tokens"
    attention = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with quiet(), torch.no_grad(), first_token_only(model):
            torch.onnx.export(
                graph,
                tuple(batch.values()),
                str(path),
                input_names=names,
                output_names=[output],
                dynamic_axes=axes,
                opset_version=18,
                dynamo=False,
            )
    finally:
        model.set_attn_implementation(attention)


def check(
    model: Any,
    layout: Layout,
    batches: Sequence[Mapping[str, Tensor]],
    folder: Path,
    record: Mapping[str, Any],
    tolerance: float | None = TOLERANCE,
) -> float:
    """The largest difference to torch.

    Raises:
        InputError: if it is more than the tolerance, or no number.
    """
    Path(folder, RECORD_FILE).write_text(json.dumps(record), encoding="utf-8")
    exported, differences = OnnxModel(folder), []
    graph = Graph(model, list(batches[0]), isinstance(layout, DualLayout)).eval()
    for batch in batches:
        with torch.inference_mode():
            expected, got = graph(*batch.values()), exported._run(batch)
        if graph.vectors:
            real = batch["attention_mask"].bool()
            expected, got = expected[real], got[real]
        differences.append(float((expected - got).abs().max()))
    difference = max(differences)
    if not difference <= (float("inf") if tolerance is None else tolerance) or difference == float("inf"):
        raise InputError(
            f"the student in ONNX must score as in torch, within {tolerance or 'finite numbers'}; it is "
            f"{difference:.2g} off; nothing was written; use --backend torch"
        )
    return difference

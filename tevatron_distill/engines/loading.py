"""Loading of models that answer: which device, and what is refused."""

from __future__ import annotations

from typing import Any

import torch

from tevatron_distill.loading import read_model, refuse_overflow
from tevatron_distill.schema import InputError


def check_dtype(dtype: str, model_type: str, model_name_or_path: str) -> None:
    """Refuse half precision where it cannot work.

    Args:
        dtype: name of a precision.
        model_type: the config's.
        model_name_or_path: for the message.

    Raises:
        InputError: for float16 with the T5 family, or without a GPU.
    """
    refuse_overflow(dtype, model_type, model_name_or_path)
    if dtype == "float16" and not torch.cuda.is_available():
        raise InputError("--dtype float16 needs a GPU; there is none here; use --dtype float32 or --dtype bfloat16")


def load_model(auto_class: Any, model_name_or_path: str, dtype: str, *, trust_remote_code: bool) -> Any:
    """A model in evaluation mode on the device at hand, every weight of it from the checkpoint.

    Args:
        auto_class: the Auto class that reads it.
        model_name_or_path: name or folder.
        dtype: key of `DTYPES`.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: if the checkpoint lacks weights that the answers depend on, or its own precision cannot work.
    """
    model, missing = read_model(auto_class, model_name_or_path, dtype, trust_remote_code=trust_remote_code)
    # A pooler stands behind the token vectors; nobody here reads it.
    missing = [name for name in missing if "pooler." not in name]
    if missing:
        raise InputError(
            f"--model_name_or_path {model_name_or_path}: weights are missing from the checkpoint and would be random "
            f"({', '.join(missing[:4])}); give a folder that was saved with its head"
        )
    check_dtype(str(model.dtype).removeprefix("torch."), model.config.model_type, model_name_or_path)
    return model.eval().to(answering_device())


def answering_device() -> str:
    """Where models answer: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"

"""Loading of models that answer: which precision, which device, and what is refused."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from tevatron_distill.schema import InputError

DTYPES: dict[str, torch.dtype | str] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""``--dtype``; ``auto`` is the precision of the checkpoint."""

OVERFLOWING = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
"""Model types whose activations leave the range of float16."""


def load_config(model_name_or_path: str, *, trust_remote_code: bool) -> Any:
    """The configuration of a model.

    Raises:
        InputError: if there is none at this name or path, or transformers does not know its type.
    """
    try:
        return AutoConfig.from_pretrained(model_name_or_path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"--model_name_or_path {model_name_or_path}: no model can be loaded here; {error}") from error


def load_tokenizer(model_name_or_path: str, *, trust_remote_code: bool) -> Any:
    """The tokenizer of a model.

    Raises:
        InputError: if it is missing or cannot be read.
    """
    try:
        return AutoTokenizer.from_pretrained(model_name_or_path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise InputError(f"--model_name_or_path {model_name_or_path}: needs a tokenizer beside it; {error}") from error


def check_dtype(dtype: str, model_type: str, model_name_or_path: str) -> None:
    """Refuse half precision where it cannot work.

    Args:
        dtype: key of `DTYPES`, or the name of a checkpoint's own precision.
        model_type: the configuration's.
        model_name_or_path: for the message.

    Raises:
        InputError: for float16 with the T5 family, or without a GPU.
    """
    if dtype != "float16":
        return
    if model_type in OVERFLOWING:
        raise InputError(
            f"--dtype float16: {model_name_or_path} is a {model_type}, whose activations overflow in float16; "
            "use --dtype bfloat16 or --dtype float32"
        )
    if not torch.cuda.is_available():
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
    try:
        model, loading = auto_class.from_pretrained(
            model_name_or_path, dtype=DTYPES[dtype], output_loading_info=True, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise InputError(f"--model_name_or_path {model_name_or_path}: cannot be loaded; {error}") from error
    # A pooler stands behind the token vectors; nobody here reads it.
    missing = sorted(key for key in loading["missing_keys"] if "pooler." not in key)
    if missing:
        raise InputError(
            f"--model_name_or_path {model_name_or_path}: weights are missing from the checkpoint and would be random "
            f"({', '.join(missing[:4])}); give a folder that was saved with its head"
        )
    check_dtype(str(model.dtype).removeprefix("torch."), model.config.model_type, model_name_or_path)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

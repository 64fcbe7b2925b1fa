"""What loading students, engines and retrievers has in common: precision, the pad rule, and reading a folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.utils.hub import cached_file

from tevatron_distill.extras import require_package
from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

DTYPES: dict[str, torch.dtype | str] = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""``--dtype``; ``auto`` is the precision of the folder."""

SENTENCE_PIECES = ("spiece.model", "tokenizer.model", "sentencepiece.bpe.model", "spm.model")
"""Files of tokenizers that are older than ``tokenizer.json``."""

OVERFLOWING = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}
"""Model types whose activations leave the range of float16."""


def find_file(path: str, name: str, cache_dir: str | None = None) -> Path | None:
    """A file of a model folder, local or on the hub; None where the folder lacks it."""
    if Path(path).is_dir():
        return Path(path, name) if Path(path, name).is_file() else None
    found = cached_file(
        path,
        name,
        cache_dir=cache_dir,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_gated_repo=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return None if found is None else Path(found)


def read_config(path: str, **keywords: Any) -> Any:
    """The config of a model.

    Args:
        path: name on the hub or folder.
        keywords: for ``from_pretrained``.

    Raises:
        InputError: if there is none at this name or path, or transformers does not know its type.
    """
    try:
        return AutoConfig.from_pretrained(path, **keywords)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no model config could be read; got {error}") from error


def read_tokenizer(path: str, **keywords: Any) -> tuple[Any, int]:
    """The tokenizer of a model, with a pad token by :func:`set_pad_token`, and that token's id.

    Args:
        path: name on the hub or folder.
        keywords: for ``from_pretrained``.

    Raises:
        InputError: if there is none, or it cannot be read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **keywords)
    except (OSError, ValueError, ImportError) as error:
        pieces = next((name for name in SENTENCE_PIECES if name in str(error) or Path(path, name).is_file()), None)
        if pieces is not None:  # without the library transformers takes the file for another kind, and says so
            for package in ("sentencepiece", "google.protobuf"):
                require_package(package, f"the tokenizer {pieces} of {path}")
        raise InputError(
            f"{path}: no tokenizer could be read; got {error}; save one there, or name a student's by --tokenizer_name"
        ) from error
    return tokenizer, set_pad_token(tokenizer)


@contextmanager
def tensors_alone(path: str | Path) -> Iterator[None]:
    """Read old weights (``.bin``, ``.pt``), which are pickles: no code in them runs.

    Args:
        path: for the message.

    Raises:
        InputError: if there is more in them than tensors.
    """
    try:
        yield
    except UnpicklingError as error:
        reason = " ".join(str(error).partition("\n\n")[2].split()) or str(error)
        raise InputError(
            f"{path}: old weights must hold tensors and nothing else; got a pickle that is not ({reason[:200]}); "
            "get them as safetensors"
        ) from error


def read_model(auto_class: Any, path: str, dtype: str, **keywords: Any) -> tuple[Any, list[str]]:
    """A model, and the names of the weights that its folder lacks.

    Args:
        auto_class: what reads it.
        path: name on the hub or folder.
        dtype: key of `DTYPES`.
        keywords: for ``from_pretrained``.

    Raises:
        InputError: if the folder cannot be loaded, or its own precision cannot work.
    """
    with tensors_alone(path):
        try:
            model, info = auto_class.from_pretrained(path, dtype=DTYPES[dtype], output_loading_info=True, **keywords)
        except (OSError, ValueError, ImportError, RuntimeError) as error:
            raise InputError(f"{path}: the model could not be loaded; got {error}") from error
    if is_deepspeed_zero3_enabled():
        # transformers 5.23 would save under every older name that it could have read (LayerNorm.gamma, key_mapping's)
        model._weight_conversions = None
    refuse_overflow(str(model.dtype).removeprefix("torch."), model.config.model_type, path)
    return model, sorted(info["missing_keys"])


def hash_weights(model: Any, found: hashlib.blake2b) -> None:
    """Let a hash take in a model's weights, with their names, number formats and shapes."""
    for name, weight in sorted(model.state_dict().items()):
        found.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        found.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())


def refuse_overflow(dtype: str, model_type: str, path: str) -> None:
    """Refuse T5 in float16.

    Args:
        dtype: name of a precision.
        model_type: the config's.
        path: for the message.

    Raises:
        InputError: if the model's activations would overflow.
    """
    if dtype == "float16" and model_type in OVERFLOWING:
        raise InputError(
            f"{path}: T5 overflows in float16; use bfloat16 or float32 (--bf16, --dtype bfloat16 or --dtype float32)"
        )


def set_pad_token(tokenizer: Any) -> int:
    """The one pad rule: own pad, unknown, another special token, 0; never the end of a sequence.

    A student pools at the last token that is not the pad token, so a pad token that ends sentences would move the
    place. The tokenizer is changed.

    Args:
        tokenizer: any tokenizer of transformers.

    Returns:
        The pad token's id.
    """
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    specials = [index for index, token in tokenizer.added_tokens_decoder.items() if token.special]
    named_pad = [index for index in specials if "pad" in str(tokenizer.convert_ids_to_tokens(index)).lower()]
    own = [] if tokenizer.pad_token_id == tokenizer.eos_token_id else [tokenizer.pad_token_id]
    unknown = [] if tokenizer.unk_token_id == tokenizer.eos_token_id else [tokenizer.unk_token_id]
    others = [index for index in (*named_pad, *specials, *range(len(tokenizer))) if index not in ends]
    pad = next(index for index in (*own, *unknown, *others) if index is not None)
    if pad != tokenizer.pad_token_id:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
        logger.info("pad token: %r (id %d)", tokenizer.pad_token, pad)
    return pad

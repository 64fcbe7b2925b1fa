"""Folders that appear whole, and the files that every format writes in the same way."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tevatron_distill.schema import InputError

LOCAL = ("is_local", "local_files_only", "add_bos_token", "add_eos_token")
"""Keys of a tokenizer's config that are about this machine, or that would put special tokens back."""


@contextmanager
def new_folder(output: str | Path, overwrite: bool) -> Iterator[Path]:
    """A folder that appears whole, or not at all.

    Raises:
        InputError: if it exists and must not be replaced.
    """
    output = Path(output)
    if output.exists() and not overwrite and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: the output exists already; choose another folder or give --overwrite_output_dir")
    partial = output.with_name(f"{output.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if output.exists():
        shutil.rmtree(output)
    os.replace(partial, output)


def read_json(path: Path) -> dict[str, Any]:
    """An object of JSON."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, values: Any) -> None:
    """JSON, indented."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_tokenizer(tokenizer: Any, folder: Path, **values: Any) -> None:
    """Save a tokenizer so that transformers 4 and 5 read the same from it.

    ``tokenizer.json`` says all that a fast tokenizer does, if its config names no class that would build it anew (as
    Llama's and Gemma's do, which put the token that begins a sequence back). transformers 4 does not know
    transformers 5's name of that general class.

    Args:
        tokenizer: a fast one.
        folder: where it is saved.
        values: keys of ``tokenizer_config.json``; an attribute that was set on a tokenizer is not always saved.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = {key: value for key, value in read_json(path).items() if key not in LOCAL}
    names = list(tokenizer.model_input_names)
    general = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names} if tokenizer.is_fast else {}
    write_json(path, {**config, **general, "truncation_side": "right", **values})


def save_model(model: Any, folder: Path, **values: Any) -> None:
    """Save a model, with further keys in its config, so that transformers 4 and 5 read the same from it.

    Args:
        model: of transformers.
        folder: where it is saved.
        values: keys of ``config.json``.
    """
    model.save_pretrained(folder)
    path = folder / "config.json"
    config = read_json(path)
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:  # where transformers 4 looks; it would take its default, silently
        config["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            config["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    write_json(path, {**config, **values})


def save_plainly(tokenizer: Any, folder: Path, max_length: int | None = None) -> Tokenizer:
    """Write ``tokenizer.json`` with padding on the right, and cutting where asked for; returns what it says."""
    backend = copy.deepcopy(tokenizer.backend_tokenizer)
    backend.enable_padding(direction="right", pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    backend.no_truncation()
    if max_length is not None:
        backend.enable_truncation(max_length)
    backend.save(str(folder / "tokenizer.json"))
    return backend

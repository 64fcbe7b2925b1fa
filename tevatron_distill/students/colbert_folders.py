"""Folders of other programs that hold a token-vector model: open-retrievals' and PyLate's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.layouts.settings import SETTINGS_FILE
from tevatron_distill.schema import InputError
from tevatron_distill.students.loading import LoadOptions, Source, find_file

OPEN_RETRIEVALS_LINEAR = "colbert_linear.pt"
EXPORTED = ("MultiVectorMask", "Normalize")
"""Modules of an exported student."""
PYLATE_SETTINGS = {
    "query_prefix": "query_marker",
    "document_prefix": "passage_marker",
    "query_length": "query_max_len",
    "document_length": "passage_max_len",
    "do_query_expansion": "query_expansion",
    "attend_to_expansion_tokens": "attend_to_expansion",
    "skiplist_words": "skiplist",
}
"""PyLate's key → ours."""


class Published(NamedTuple):
    """What another program left beside the encoder.

    Attributes:
        convention: key of ``CONVENTIONS``.
        linear: weights of the projection, ``weight`` ``[D, H]`` and perhaps ``bias`` ``[D]``.
        settings: values of ``RerankerSettings`` that it says.
    """

    convention: str
    linear: dict[str, Tensor]
    settings: dict[str, Any]


def read_published(source: Source, options: LoadOptions) -> Published | None:
    """The projection and the settings of a folder of open-retrievals or PyLate; None for any other folder.

    Raises:
        InputError: if it is a folder of PyLate's whose layers are none that the student has.
    """
    for path in dict.fromkeys((source.own, source.base)):
        linear = find_file(path, OPEN_RETRIEVALS_LINEAR, options.cache_dir)
        if linear is not None:
            return Published("open_retrievals", torch.load(linear, map_location="cpu", weights_only=True), {})
    return read_pylate(source.base, options)


def read_pylate(path: str, options: LoadOptions) -> Published | None:
    """A folder in which sentence-transformers' ``modules.json`` names an encoder and one linear layer on its tokens.

    One that `driver.export` wrote has modules behind them; what they do stands in its ``reranker_config.json``.

    Raises:
        InputError: if there is more than that.
    """
    listed = find_file(path, "modules.json", options.cache_dir)
    if listed is None:
        return None
    modules = _read(listed)
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if "Dense" not in kinds or "Pooling" in kinds:  # a bi-encoder with one vector a text: its encoder is all we take
        return None
    folder = modules[kinds.index("Dense")]["path"]
    config = _read(_find(path, f"{folder}/config.json", options))
    plain = config.get("activation_function", "Identity").endswith("Identity") and not config.get("use_residual")
    if find_file(path, SETTINGS_FILE, options.cache_dir) is not None:
        kinds = [kind for kind in kinds if kind not in EXPORTED]
    if kinds != ["Transformer", "Dense"] or modules[0]["path"] or not plain:
        raise InputError(
            f"{path}: a folder of PyLate is read when it is an encoder at its top and one linear layer; got "
            f"{', '.join(kinds)} with {config.get('activation_function', 'no activation')}"
            f"{' and a residual' if config.get('use_residual') else ''}; choose another model"
        )
    weights = find_file(path, f"{folder}/model.safetensors", options.cache_dir)
    if weights is not None:
        tensors = load_file(weights)
    else:
        pickled = _find(path, f"{folder}/pytorch_model.bin", options)
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
    linear = {name.removeprefix("linear."): tensor for name, tensor in tensors.items()}
    said = find_file(path, "config_sentence_transformers.json", options.cache_dir)
    values = {} if said is None else _read(said)
    settings = {ours: values[theirs] for theirs, ours in PYLATE_SETTINGS.items() if values.get(theirs) is not None}
    if "skiplist" in settings:
        settings["skiplist"] = tuple(settings["skiplist"])
    return Published("pylate", linear, settings)


def _find(path: str, name: str, options: LoadOptions) -> Path:
    found = find_file(path, name, options.cache_dir)
    if found is None:
        raise InputError(f"{path}: its modules.json names a linear layer; found no {name}; fetch the folder again")
    return found


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: must be JSON; got {error}; fetch the folder again") from error

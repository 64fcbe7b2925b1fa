"""Folders of sentence-transformers: which modules make a vector, with which prompts and lengths."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import nn

from tevatron_distill.loading import find_file
from tevatron_distill.retrieval.encoder_settings import EncoderSettings
from tevatron_distill.schema import InputError

POOLING_OF_MODE = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
MODE_OF_FLAG = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How folders wrote ``pooling_mode`` until version 5.4."""
STRANGE = (
    "do_lower_case",
    "processing_kwargs",
    "query_length",
    "document_length",
    "tokenizer_name_or_path",
    *(f"{part}_{words}" for part in ("model", "config", "tokenizer", "processor") for words in ("args", "kwargs")),
)
"""Keys of a transformer's file that change its vectors and are left to its own library."""
NO_LIMIT = 1 << 30


class SentenceFolder(NamedTuple):
    """What ``modules.json`` and the files beside it say.

    Attributes:
        transformer: subfolder of the transformer; empty for the folder itself.
        dense: subfolders of the linear layers behind the pooling.
        settings: pooling, normalisation, prompts and lengths.
        strange: why the folder needs its own library; empty where it is a transformer, one pooling, perhaps linear
            layers and a normalisation.
    """

    transformer: str
    dense: tuple[str, ...]
    settings: EncoderSettings
    strange: str


def read_sentence_folder(path: str, cache_dir: str | None = None) -> SentenceFolder | None:
    """Read a folder of sentence-transformers; None for any other.

    Args:
        path: name on the hub or folder.
        cache_dir: where downloads are kept.

    Raises:
        InputError: if a file of it is no JSON, or it is compared by something else than inner products.
    """
    listed = _read(path, "modules.json", cache_dir)
    if listed is None:
        return None
    said = _read(path, "config_sentence_transformers.json", cache_dir) or {}
    similarity = said.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise InputError(
            f"{path}: vectors must be compared by cosine or dot; its folder says {similarity}; choose another encoder"
        )
    kinds = [module["type"].rpartition(".")[2] for module in listed]
    places = [module["path"] for module in listed]
    dense = tuple(place for kind, place in zip(kinds, places, strict=True) if kind == "Dense")
    plain = ["Transformer", "Pooling", *["Dense"] * len(dense), *["Normalize"] * kinds.count("Normalize")]
    strange = f"its modules are {', '.join(kinds)}" if kinds != plain else ""
    pooling, max_len = None, None
    if not strange:
        pooling, strange = _pooling(_read(path, f"{places[1]}/config.json", cache_dir) or {})
        config = _read(path, str(Path(places[0], "sentence_bert_config.json")), cache_dir) or {}
        max_len = config.get("max_seq_length") or NO_LIMIT  # null: what tokenizer and positions allow
        strange = strange or _strange_transformer(config)
    # sentence-transformers 6.2 looks for the same three, and finds an empty "document" of its own first
    prompts = {name: prompt for name, prompt in (said.get("prompts") or {}).items() if prompt is not None}
    settings = EncoderSettings(
        pooling,
        "Normalize" in kinds or similarity == "cosine",
        prompts.get("query", ""),
        next((prompts[name] for name in ("document", "passage", "corpus") if name in prompts), ""),
        max_len,
        max_len,
        False,
    )
    return SentenceFolder(places[0], dense, settings, strange)


def read_dense(path: str, place: str, cache_dir: str | None = None) -> nn.Module:
    """A linear layer with its activation.

    Args:
        path: name on the hub or folder.
        place: the layer's subfolder.
        cache_dir: where downloads are kept.

    Raises:
        InputError: if its files are missing, or it is none of the usual kind.
    """
    config = _read(path, f"{place}/config.json", cache_dir) or {}
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    module, _, name = activation.rpartition(".")
    if not module.startswith("torch.nn.") or config.get("use_residual"):
        raise InputError(
            f"{path}/{place}: a linear layer must have an activation of torch.nn and no residual; got {activation}"
            f"{' with a residual' if config.get('use_residual') else ''}; choose another encoder"
        )
    weights = find_file(path, f"{place}/model.safetensors", cache_dir)
    pickled = find_file(path, f"{place}/pytorch_model.bin", cache_dir) if weights is None else None
    if weights is not None:
        tensors = load_file(weights)
    elif pickled is not None:
        tensors = torch.load(pickled, map_location="cpu", weights_only=True)
    else:
        raise InputError(f"{path}/{place}: found no weights of the linear layer; fetch the folder again")
    linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
    linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in tensors.items()})
    return nn.Sequential(linear, getattr(nn, name)())


def _pooling(config: dict[str, Any]) -> tuple[str | None, str]:
    """Our name of a folder's pooling, or why there is none."""
    modes = config.get("pooling_mode") or [mode for flag, mode in MODE_OF_FLAG.items() if config.get(flag)] or "mean"
    modes = [modes] if isinstance(modes, str) else list(modes)
    if not config.get("include_prompt", True):
        return None, "its pooling leaves out the prompt"
    if len(modes) > 1 or modes[0] not in POOLING_OF_MODE:
        return None, f"its pooling is {', '.join(modes)}"
    return POOLING_OF_MODE[modes[0]], ""


def _strange_transformer(config: dict[str, Any]) -> str:
    task = config.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        return f"its transformer's task is {task}"
    if "text" not in config.get("modality_config", ["text"]):
        return "its transformer takes no plain text"
    strange = [key for key in STRANGE if config.get(key)]
    return f"its transformer has {', '.join(strange)}" if strange else ""


def _read(path: str, name: str, cache_dir: str | None) -> Any:
    found = find_file(path, name, cache_dir)
    if found is None:
        return None
    try:
        return json.loads(found.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{found}: must be JSON; got {error}; fetch the folder again") from error

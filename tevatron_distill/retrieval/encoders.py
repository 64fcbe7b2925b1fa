"""Encoders: a vector for each text, by a transformer that is read here or by sentence-transformers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, AutoModelForTextEncoding
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from tevatron_distill.batching import Budget, auto_batch_tokens, num_cores, run_batches, token_budget_batches
from tevatron_distill.extras import load_package
from tevatron_distill.formats.jsonl import read_json
from tevatron_distill.layouts.rows import Row, pad_rows
from tevatron_distill.loading import DTYPES, find_file, hash_weights, read_config, read_model, read_tokenizer
from tevatron_distill.retrieval.encoder_settings import TEVATRON, EncoderSettings
from tevatron_distill.retrieval.sentence_folders import SentenceFolder, read_dense, read_sentence_folder
from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

ADAPTER_FILE = "adapter_config.json"

Made = npt.NDArray[np.float32]


def first(hidden: Tensor, mask: Tensor) -> Tensor:
    """Of ``[R, T, D]`` the first token of each row, ``[R, D]``; padding is on the right."""
    return hidden[:, 0]


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """The mean over a row's tokens."""
    return (hidden * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def last(hidden: Tensor, mask: Tensor) -> Tensor:
    """The last token of each row."""
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cls": first, "mean": mean, "last": last}
"""``--pooling``: token vectors ``[R, T, D]`` and their mask ``[R, T]`` → ``[R, D]``."""


class Encoder(Protocol):
    """What makes vectors."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def made_of(self) -> dict[str, object]:
        """All that a passage's vector depends on, name to JSON value."""
        ...

    def encode(self, texts: Sequence[str], side: str) -> Made:
        """A vector a text, float32 ``[N, D]``; ``side`` is ``query`` or ``passage``."""
        ...


@dataclass(frozen=True)
class EncoderOptions:
    """How an encoder is loaded.

    Attributes:
        tokenizer_name: another folder for the tokenizer.
        lora_name_or_path: adapter to put on the encoder.
        cache_dir: where downloads are kept.
        dtype: key of ``DTYPES``; None is float32 on a CPU and the folder's own precision on a GPU.
        attn_implementation: as in transformers.
        trust_remote_code: run code that the folder brings.
        batch_tokens: tokens of a batch, padding included; None is `auto_batch_tokens`.
    """

    tokenizer_name: str | None = None
    lora_name_or_path: str | None = None
    cache_dir: str | None = None
    dtype: str | None = None
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    batch_tokens: int | None = None

    def hub_keywords(self) -> dict[str, Any]:
        """Keywords for every ``from_pretrained``."""
        return {"cache_dir": self.cache_dir, "trust_remote_code": self.trust_remote_code}


def encoding_device() -> str:
    """Where texts are encoded: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_encoder(path: str, asked: EncoderSettings, options: EncoderOptions) -> Encoder:
    """Load an encoder: what is asked for counts, then what its folder says, then Tevatron's defaults.

    Args:
        path: name on the hub or folder: sentence-transformers', a plain encoder or decoder, or a LoRA adapter.
        asked: settings that differ from the folder's.
        options: precision, attention, …

    Raises:
        InputError: if the folder cannot be read, lacks weights, or needs sentence-transformers, which is not there or
            cannot do what is asked.
    """
    options = replace(options, dtype=options.dtype or ("float32" if encoding_device() == "cpu" else "auto"))
    folder = read_sentence_folder(path, options.cache_dir)
    if folder is not None and folder.strange:
        return LibraryEncoder(path, folder, asked, options)
    found = folder or SentenceFolder("", (), EncoderSettings(), "")
    base, adapter = _base_and_adapter(path, options)
    keywords = {**options.hub_keywords(), **({"subfolder": found.transformer} if found.transformer else {})}
    config = read_config(base, **keywords)
    tokenizer, _ = read_tokenizer(_tokenizer_path(base, adapter, options), **keywords)
    if options.attn_implementation:
        keywords["attn_implementation"] = options.attn_implementation
    auto_class = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
    model, missing = read_model(auto_class, base, options.dtype or "auto", **keywords)
    missing = [name for name in missing if "pooler." not in name]  # stands behind the token vectors
    if missing:
        raise InputError(
            f"{base}: these weights are missing and would be random: {', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}; an encoder's folder must hold all of them"
        )
    if adapter is not None:
        peft = load_package("peft", f"{adapter} (a LoRA adapter)")
        model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    dense = [read_dense(path, place, options.cache_dir) for place in found.dense]
    settings = _complete(path, asked.over(found.settings), config, tokenizer)
    return TransformerEncoder(tokenizer, model, dense, settings, options.batch_tokens)


class TransformerEncoder:
    """A transformer, the pooling of its last hidden states, and perhaps linear layers.

    Texts are encoded in batches by a budget of tokens, padded on the right, whatever the tokenizer's side is.

    Args:
        tokenizer: with a pad token.
        model: gives ``last_hidden_state``.
        dense: layers behind the pooling.
        settings: complete.
        batch_tokens: tokens of a batch; None is `auto_batch_tokens`.
    """

    def __init__(
        self,
        tokenizer: Any,
        model: Any,
        dense: Sequence[Any],
        settings: EncoderSettings,
        batch_tokens: int | None = None,
    ) -> None:
        self.settings = settings
        self._tokenizer = tokenizer
        self._device = encoding_device()
        self._model = model.eval().to(self._device)
        self._model.config.use_cache = False  # a decoder's keys and values are of no use here
        self._dense = nn.Sequential(*dense).eval().to(self._device)
        width = model.config.get_text_config().hidden_size
        self.dimension: int = dense[-1][0].out_features if dense else width
        self._batch_tokens = batch_tokens or auto_batch_tokens(self._device, width)
        self._budget = Budget(self._batch_tokens)

    def made_of(self) -> dict[str, object]:
        """Weights, tokens, and settings of passages."""
        settings = self.settings.said()
        weights, tokens = hashlib.blake2b(digest_size=16), hashlib.blake2b(digest_size=16)
        hash_weights(self._model, weights)
        hash_weights(self._dense, weights)
        tokens.update(json.dumps(self._tokenizer.get_vocab(), sort_keys=True).encode())
        return {
            "weights": weights.hexdigest(),
            "tokens": tokens.hexdigest(),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            **{name: value for name, value in settings.items() if not name.startswith("query_")},
        }

    def encode(self, texts: Sequence[str], side: str) -> Made:
        """A vector a text, float32 ``[N, D]``."""
        settings = self.settings.said()
        prefix, length = settings[f"{side}_prefix"], settings[f"{side}_max_len"]
        ends = [self._tokenizer.eos_token_id] if settings["append_eos_token"] else []
        encoded = self._tokenizer([prefix + text for text in texts], truncation=True, max_length=length - len(ends))[
            "input_ids"
        ]
        rows = [Row([*ids, *ends] or [self._tokenizer.pad_token_id]) for ids in encoded]
        lengths = [row.length for row in rows]
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        batches = token_budget_batches(lengths, self._batch_tokens)
        for batch, made in run_batches(
            lambda batch: self._forward([rows[place] for place in batch]),
            batches,
            lengths,
            self._budget,
            cores=num_cores(self._device),
        ):
            vectors[batch] = made
        return vectors

    @torch.inference_mode()
    def _forward(self, rows: Sequence[Row]) -> Made:
        batch = {name: part.to(self._device) for name, part in pad_rows(rows, self._tokenizer.pad_token_id).items()}
        hidden = self._model(**batch).last_hidden_state.float()
        pooled = self._dense(POOLINGS[str(self.settings.pooling)](hidden, batch["attention_mask"]))
        if self.settings.normalize:
            pooled = functional.normalize(pooled, dim=-1)
        made: Made = pooled.cpu().numpy()
        return made


class LibraryEncoder:
    """A folder whose modules only sentence-transformers knows.

    Args:
        path: name on the hub or folder.
        folder: what is strange about it, and its settings.
        asked: prefixes and normalisation may differ from the folder's.
        options: precision, …

    Raises:
        InputError: if the library is missing, or more is asked for than prefixes and normalisation.
    """

    def __init__(self, path: str, folder: SentenceFolder, asked: EncoderSettings, options: EncoderOptions) -> None:
        fixed = sorted({*asked.said()} & {"pooling", "query_max_len", "passage_max_len", "append_eos_token"})
        fixed += [name for name in ("lora_name_or_path", "tokenizer_name") if getattr(options, name)]
        if fixed:
            raise InputError(
                f"{path}: {folder.strange}, so that it is run by sentence-transformers as it stands; "
                f"leave out {', '.join(f'--{name}' for name in fixed)}"
            )
        library = load_package("sentence_transformers", f"--encoder_name_or_path {path} ({folder.strange})")
        attention = {"attn_implementation": options.attn_implementation} if options.attn_implementation else {}
        self.settings = asked.over(folder.settings)
        self._model = library.SentenceTransformer(
            path,
            device=encoding_device(),
            cache_folder=options.cache_dir,
            trust_remote_code=options.trust_remote_code,
            model_kwargs={"dtype": DTYPES[options.dtype or "auto"], **attention},
        )
        self.dimension: int = self._model.get_embedding_dimension()

    def made_of(self) -> dict[str, object]:
        """Weights, modules with their settings, and settings of passages."""
        weights = hashlib.blake2b(digest_size=16)
        hash_weights(self._model, weights)
        return {
            "weights": weights.hexdigest(),
            "modules": repr(self._model),
            "max_seq_length": self._model.max_seq_length,
            "passage_prefix": self.settings.passage_prefix,
            "normalize": self.settings.normalize,
        }

    def encode(self, texts: Sequence[str], side: str) -> Made:
        """A vector a text, float32 ``[N, D]``."""
        encode = self._model.encode_query if side == "query" else self._model.encode_document
        vectors = encode(
            list(texts),
            prompt=self.settings.said()[f"{side}_prefix"],
            normalize_embeddings=bool(self.settings.normalize),
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)


def _base_and_adapter(path: str, options: EncoderOptions) -> tuple[str, str | None]:
    found = find_file(path, ADAPTER_FILE, options.cache_dir)
    if found is None:
        return path, options.lora_name_or_path
    if options.lora_name_or_path:
        raise InputError(f"{path} is an adapter itself; got --lora_name_or_path {options.lora_name_or_path} too")
    return read_json(found)["base_model_name_or_path"], path


def _tokenizer_path(base: str, adapter: str | None, options: EncoderOptions) -> str:
    if options.tokenizer_name is None and adapter is not None:
        return adapter if find_file(adapter, "tokenizer_config.json", options.cache_dir) else base
    return options.tokenizer_name or base


def _complete(path: str, settings: EncoderSettings, config: Any, tokenizer: Any) -> EncoderSettings:
    """Settings without a gap, and said in the log."""
    if settings.pooling is None:
        decoder = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
        settings = replace(settings, pooling="last" if decoder else "cls")
        logger.warning("%s does not say how its token vectors become one; taking --pooling %s", path, settings.pooling)
    settings = settings.over(TEVATRON)
    most = min(getattr(config.get_text_config(), "max_position_embeddings", 0) or 1 << 30, tokenizer.model_max_length)
    lengths = {name: min(settings.said()[name], most) for name in ("query_max_len", "passage_max_len")}
    settings = replace(settings, **lengths)
    if settings.append_eos_token and tokenizer.eos_token_id is None:
        raise InputError(f"{path}: --append_eos_token needs a tokenizer with an end of sequence; this one has none")
    logger.info("%s: %s", path, ", ".join(f"{name} {value!r}" for name, value in settings.said().items()))
    return settings

"""What every student's loading shares: options, finding files, random heads, LoRA."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForSequenceClassification, BitsAndBytesConfig
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
)

from tevatron_distill.extras import load_package, require_package
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.loading import find_file as find_file
from tevatron_distill.loading import read_config, read_model, read_tokenizer, tensors_alone
from tevatron_distill.schema import InputError
from tevatron_distill.students.layers import keep_layers

logger = logging.getLogger(__name__)

ADAPTER_FILE = "adapter_config.json"
LORA_TARGET_MODULES = "q_proj,k_proj,v_proj,o_proj,down_proj,up_proj,gate_proj"

WHOLE_MODULES = ("lm_head", "score", "classifier", "head_layer", "mixture", "linear")
"""Heads, which four bits would spoil."""


@dataclass(frozen=True)
class LoraOptions:
    """A new LoRA adapter: rank, scale, dropout and the comma-separated names of the modules that get one."""

    r: int = 8
    alpha: int = 64
    dropout: float = 0.1
    target_modules: str = LORA_TARGET_MODULES


@dataclass(frozen=True)
class LoadOptions:
    """How a student is loaded.

    Attributes:
        training: weights that the folder lacks (a new score head) may be initialised; adapters stay trainable.
        tokenizer_name: another folder for the tokenizer.
        config_name: another folder for the config.
        cache_dir: where downloads are kept.
        dtype: ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the folder's own.
        attn_implementation: as in transformers; None leaves the choice to it.
        trust_remote_code: run code that the model's folder brings.
        quantize: hold the model under a trained adapter in four bits (QLoRA).
        lora: train this new adapter.
        lora_name_or_path: adapter to put on the model.
        num_hidden_layers: so many layers are left of the model, evenly spaced; None for all.
    """

    training: bool = False
    tokenizer_name: str | None = None
    config_name: str | None = None
    cache_dir: str | None = None
    dtype: str = "float32"
    attn_implementation: str | None = None
    trust_remote_code: bool = False
    quantize: bool = False
    lora: LoraOptions | None = None
    lora_name_or_path: str | None = None
    num_hidden_layers: int | None = None

    def hub_keywords(self) -> dict[str, Any]:
        """Keywords for every ``from_pretrained``."""
        return {"cache_dir": self.cache_dir, "trust_remote_code": self.trust_remote_code}


class Loaded(NamedTuple):
    """A student ready for use: tokenizer, model (a ``PreTrainedModel`` or peft's model around one), settings."""

    tokenizer: Any
    model: Any
    settings: RerankerSettings


class Source(NamedTuple):
    """Where weights come from: the base model, and the adapter on it, if there is one."""

    base: str
    adapter: str | None

    @property
    def own(self) -> str:
        """The folder that was trained: the adapter where there is one."""
        return self.adapter or self.base


def find_source(path: str, options: LoadOptions) -> Source:
    """Tell an adapter's folder from a model's.

    Raises:
        InputError: if nothing is there, two adapters are named at once, or an adapter's base model is out of reach.
    """
    if find_file(path, ADAPTER_FILE, options.cache_dir) is None:
        if find_file(path, "config.json", options.cache_dir) is None:
            raise InputError(f"{path}: must be a model's folder or name; found no config.json there")
        return Source(path, options.lora_name_or_path)
    if options.lora_name_or_path:
        raise InputError(
            f"{path} is an adapter itself; got --lora_name_or_path {options.lora_name_or_path} too; "
            "name the base model, or leave --lora_name_or_path out"
        )
    base = read_adapter_config(path, options).base_model_name_or_path
    if not can_be_read(base, options):
        raise InputError(
            f"{path} is an adapter on {base}, which cannot be read here; get that model (on the hub perhaps after "
            "accepting its licence and `hf auth login`), or name where it lies: --model_name_or_path <the base "
            f"model's folder> --lora_name_or_path {path}"
        )
    return Source(base, path)


def can_be_read(path: str | None, options: LoadOptions) -> bool:
    """Whether a model's config is found, in a folder or on the hub."""
    try:
        return bool(path) and find_file(str(path), "config.json", options.cache_dir) is not None
    except OSError:  # no such name, or the path of another machine, which is no name at all
        return False


def load_config(source: Source, options: LoadOptions, **keywords: Any) -> Any:
    """The base model's config.

    Raises:
        InputError: if it cannot be read.
    """
    return read_config(options.config_name or source.base, **options.hub_keywords(), **keywords)


def load_tokenizer(source: Source, options: LoadOptions) -> tuple[Any, int]:
    """The tokenizer of what was trained, else of its base, with a pad token, and that token's id.

    Raises:
        InputError: if there is none.
    """
    path = options.tokenizer_name or source.base
    if options.tokenizer_name is None and source.adapter:
        names = ("tokenizer_config.json", "tokenizer.json")
        if any(find_file(source.adapter, name, options.cache_dir) for name in names):
            path = source.adapter
    return read_tokenizer(path, **options.hub_keywords())


def set_config_pad(config: Any, pad_token_id: int) -> None:
    """Tell the model's config, and the text part of a multimodal one, the pad token."""
    config.pad_token_id = pad_token_id
    config.get_text_config().pad_token_id = pad_token_id


def classifier_class(config: Any) -> Any:
    """What loads a config as a sequence classifier; a class made on the spot for decoders that lack one (Granite).

    Raises:
        InputError: if the architecture is neither a classifier nor a causal language model.
    """
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING or "AutoModel" in str(getattr(config, "auto_map", "")):
        return AutoModelForSequenceClassification
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise InputError(f"transformers has no sequence classifier for {config.model_type}; choose another model")
    causal = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    name = causal.__name__.replace("ForCausalLM", "ForSequenceClassification")
    return type(name, (GenericForSequenceClassification, causal.__bases__[0]), {"__module__": __name__})


def load_model(
    auto_class: Any, source: Source, options: LoadOptions, config: Any, **keywords: Any
) -> tuple[Any, list[str]]:
    """Weights of the base model, and the names of those that the folder lacks.

    Raises:
        InputError: if the folder cannot be loaded, would be T5 in float16, or has not the layers that are asked for.
    """
    if options.num_hidden_layers is not None and (source.adapter or options.lora):
        raise InputError(
            f"{source.own}: --num_hidden_layers leaves layers out of a model, and an adapter names the whole one; "
            f"train without --lora, or save {source.base} with {options.num_hidden_layers} layers first"
        )
    attention = {"attn_implementation": options.attn_implementation} if options.attn_implementation else {}
    quantization = quantization_keywords(source, options) if options.quantize else {}
    keywords = {**attention, **quantization, **options.hub_keywords(), **keywords}
    model, missing = read_model(auto_class, source.base, options.dtype, config=config, **keywords)
    if options.num_hidden_layers is not None:
        keep_layers(model, options.num_hidden_layers, source.base)
    return model, missing


def quantization_keywords(source: Source, options: LoadOptions) -> dict[str, Any]:
    """What ``from_pretrained`` needs for four bits: nf4, quantised twice, computed in bfloat16; heads stay whole.

    Raises:
        InputError: if bitsandbytes or a GPU is missing, no adapter is trained, or ZeRO-3 would part the weights.

    Source:
        Dettmers et al. 2023 (QLoRA), arXiv 2305.14314.
    """
    if options.lora is None and source.adapter is None:
        raise InputError("--use_quantization_config trains an adapter on a model in four bits; add --lora")
    require_package("bitsandbytes", "--use_quantization_config")
    if not torch.cuda.is_available():
        raise InputError("--use_quantization_config needs a GPU; on this machine train with --lora alone")
    if is_deepspeed_zero3_enabled():
        raise InputError(
            "--use_quantization_config holds the whole model in each process, and ZeRO-3 would part it; use "
            "deepspeed/ds_zero2_config.json, or torchrun without --deepspeed"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(WHOLE_MODULES),
    )
    return {"quantization_config": config, "device_map": {"": torch.cuda.current_device()}}


def refuse_random(source: Source, missing: Iterable[str], allowed: Iterable[str], remedy: str) -> None:
    """Refuse a folder that lacks weights, for they would be random.

    Args:
        source: what was loaded.
        missing: names of weights that the base folder lacks.
        allowed: modules that an adapter, or training, brings.
        remedy: what the user can do.

    Raises:
        InputError: if a missing weight lies outside ``allowed``.
    """
    allowed = tuple(allowed)
    random = [name for name in missing if not any(part in allowed for part in name.split("."))]
    if random:
        raise InputError(
            f"{source.base}: these weights are missing and would be random: {', '.join(random[:5])}"
            f"{', …' if len(random) > 5 else ''}; {remedy}"
        )


def read_adapter_config(path: str, options: LoadOptions) -> Any:
    """What an adapter says of itself: its base model, its task, the modules that it brings.

    Raises:
        InputError: if peft is not installed.
    """
    peft = load_package("peft", f"{path} (a LoRA adapter)")
    return peft.PeftConfig.from_pretrained(path, cache_dir=options.cache_dir)


def adapter_modules(source: Source, options: LoadOptions) -> tuple[str, ...]:
    """Whole modules that an adapter brings beside its low-rank weights (its score head).

    peft before 0.5 saved the head of a classifier without naming it in the adapter's config.
    """
    if source.adapter is None:
        return ()
    config = read_adapter_config(source.adapter, options)
    if config.modules_to_save or config.task_type != "SEQ_CLS":
        return tuple(config.modules_to_save or ())
    peft = load_package("peft", f"{source.adapter} (a LoRA adapter)")
    with tensors_alone(source.adapter):
        weights = peft.load_peft_weights(source.adapter, device="cpu", cache_dir=options.cache_dir)
    return tuple({name.split(".")[-2] for name in weights if "lora_" not in name})


def add_adapter(model: Any, source: Source, options: LoadOptions, task_type: str, heads: Iterable[str]) -> Any:
    """Put an adapter on a model: the one that was trained (merged for inference), or a new one for training.

    Args:
        model: the base model.
        source: names the trained adapter, if there is one.
        options: the new adapter's, if one is asked for.
        task_type: peft's name of the task.
        heads: modules that are trained whole and saved with the adapter.

    Returns:
        The model, peft's model around it, or the merged model.

    Raises:
        InputError: if the trained adapter was made for another task.
    """
    if options.quantize:
        peft = load_package("peft", "--use_quantization_config")
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if source.adapter:
        peft = load_package("peft", f"{source.adapter} (a LoRA adapter)")
        found = read_adapter_config(source.adapter, options).task_type
        if found not in (None, task_type):
            raise InputError(
                f"{source.adapter}: this student takes adapters of the task {task_type}; got {found}, whose weights "
                "would not fit; merge it into its base model first (peft's merge_and_unload) and name that folder"
            )
        with tensors_alone(source.adapter):
            adapted = peft.PeftModel.from_pretrained(
                model, source.adapter, is_trainable=options.training, cache_dir=options.cache_dir
            )
        if options.training:
            return adapted
        with warnings.catch_warnings():  # T5's config says "tied" of FLAN-T5's untied head, which peft then notices
            warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
            return adapted.merge_and_unload()
    if options.lora is None or not options.training:
        return model
    peft = load_package("peft", "--lora")
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    targets: Any = [name.strip() for name in options.lora.target_modules.split(",") if name.strip()]
    if not present & set(targets):
        logger.info("none of %s in this model: LoRA goes to all its linear layers", ", ".join(targets))
        targets = "all-linear"
    config = peft.LoraConfig(
        task_type=task_type,
        r=options.lora.r,
        lora_alpha=options.lora.alpha,
        lora_dropout=options.lora.dropout,
        target_modules=targets,
        modules_to_save=[name for name in heads if name in present] or None,
    )
    return peft.get_peft_model(model, config)


def cut_text(tokenizer: Any, text: str, max_tokens: int) -> str:
    """The beginning of a text that has at most ``max_tokens`` tokens by itself."""
    return cut_texts(tokenizer, [text], max_tokens)[0]


def cut_texts(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[str]:
    """The beginning of each text that has at most ``max_tokens`` tokens by itself."""
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    if not tokenizer.is_fast:
        return [
            text if len(ids) <= max_tokens else tokenizer.decode(ids[:max_tokens])
            for text, ids in zip(texts, encoded["input_ids"], strict=True)
        ]
    return [
        text if len(spans) <= max_tokens else text[: last_end(spans, max_tokens)]
        for text, spans in zip(texts, encoded["offset_mapping"], strict=True)
    ]


def last_end(spans: Sequence[tuple[int, int]], num_tokens: int) -> int:
    """Where the last character ends that is whole in the first tokens; a rare one is several tokens of one span.

    >>> last_end([(0, 1), (1, 2), (1, 2), (2, 3)], 2)
    1
    """
    while num_tokens > 0 and spans[num_tokens][0] < spans[num_tokens - 1][1]:
        num_tokens -= 1
    return spans[num_tokens - 1][1] if num_tokens > 0 else 0


def with_prefix(prefix: str, text: str) -> str:
    """Prefix and text with a space between, as Tevatron joins them; ``{}`` in a prefix is where the text stands.

    open-retrievals takes such templates, and loses the text where one has no braces.

    >>> with_prefix("query:", "one"), with_prefix("A: {}", "{}"), with_prefix("", "one")
    ('query: one', 'A: {}', 'one')
    """
    if "{}" in prefix:
        return prefix.replace("{}", text, 1)
    return f"{prefix} {text}".strip() if prefix else text

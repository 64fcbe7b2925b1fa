"""Query and candidate as one row, and a mixture of experts that predicts several measures of quality at once."""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from transformers.utils.generic import ModelOutput

from tevatron_distill.layouts import MetricsLayout
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.schema import InputError
from tevatron_distill.students.cross_encoder import PairRows, fit_positions
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    adapter_modules,
    add_adapter,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
)
from tevatron_distill.students.mixture import Layer, MetricHead
from tevatron_distill.students.vectors import encoder_class

INCOMPLETE = "towers that nothing has learned rank nothing; train first (driver.train), or name a trained folder"


@dataclass
class SummaOutput(ModelOutput):
    """What the towers say, and how the gates shared the rows among the experts.

    Attributes:
        logits: float ``[R, M]``, one for each measure.
        importance: gates, float32 ``[R, M, E]``, 0 for experts that a row was not sent to.
        load: chance that a row is sent to an expert, float32 ``[R, M, E]``.
    """

    logits: Tensor | None = None
    importance: Tensor | None = None
    load: Tensor | None = None


@functools.cache
def summa_class(parent: Any) -> Any:
    """An encoder's own class with the head ``mixture`` on its first token; it bears its parent's name."""
    without_pooler = "add_pooling_layer" in inspect.signature(parent.__init__).parameters

    def init(self: Any, config: Any) -> None:
        parent.__init__(self, config, **({"add_pooling_layer": False} if without_pooler else {}))
        self.mixture = MetricHead(config.hidden_size, config.num_metrics)
        self.post_init()

    def init_weights(self: Any, module: Any) -> None:
        if isinstance(module, Layer):
            module.reset_parameters()
        else:
            parent._init_weights(self, module)

    def forward(
        self: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        **kwargs: Any,
    ) -> SummaOutput:
        """Score rows; peft's empty keywords are passed over."""
        stray = sorted(name for name, value in kwargs.items() if value is not None)
        if stray:
            raise TypeError(f"this model scores passages and takes no {', '.join(stray)}")
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = parent.forward(self, input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        logits, importance, load = self.mixture(hidden[:, 0])
        return SummaOutput(logits=logits, importance=importance, load=load)

    members = {"__init__": init, "_init_weights": init_weights, "forward": forward, "__module__": __name__}
    return type(parent.__name__, (parent,), members)


def load(source: Source, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Load an encoder with towers; in training they may be new.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; ``metrics`` names the towers, one without a name where it is None.
        options: dtype, attention, LoRA, …

    Raises:
        InputError: if the folder is no encoder with ``[CLS]`` and ``[SEP]``, lacks its towers at inference, or has
            another number of them.
    """
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    parent = encoder_class(source, config, "summa_reranker")
    if tokenizer.cls_token is None or tokenizer.sep_token is None:
        raise InputError(f"{source.base}: summa_reranker reads [CLS] query [SEP] passage; this tokenizer has none")
    trained = getattr(config, "num_metrics", None)
    wanted = len(settings.metrics) if settings.metrics else trained or 1
    if trained not in (None, wanted):
        raise InputError(
            f"{source.base}: was trained with {trained} measures; got {', '.join(settings.metrics or ())}; name as many"
        )
    config.num_metrics = wanted
    set_config_pad(config, pad)
    model, missing = load_model(summa_class(parent), source, options, config)
    refuse_random(source, missing, ("mixture",) if options.training else adapter_modules(source, options), INCOMPLETE)
    model = add_adapter(model, source, options, "FEATURE_EXTRACTION", ("mixture",))
    settings = replace(settings, pad_token_id=pad, pair_encoding=True)
    return Loaded(tokenizer, model, fit_positions(settings, model))


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> MetricsLayout:
    """The layout of a loaded summa_reranker."""
    types = "token_type_ids" in tokenizer.model_input_names and getattr(model.config, "type_vocab_size", 0) > 1
    inputs = ("input_ids", "attention_mask", *(("token_type_ids",) if types else ()))
    return MetricsLayout(tokenizer, settings, PairRows(tokenizer, settings, types), inputs)

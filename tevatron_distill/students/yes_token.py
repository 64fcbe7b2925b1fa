"""Score by the logit of ``Yes``: a causal language model through its Yes row, T5 through one decoder step."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tevatron_distill.layouts import PointLayout
from tevatron_distill.layouts.rows import Row
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.prompts import STUDENT_PROMPTS, PointPrompt
from tevatron_distill.schema import InputError, Passage
from tevatron_distill.students.cross_encoder import base_forward, check_one_label
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    adapter_modules,
    add_adapter,
    classifier_class,
    cut_text,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
)
from tevatron_distill.students.yes_seq2seq import SEQ2SEQ

DEFAULT_PROMPT = "instructdistill"
INCOMPLETE = "the folder must hold a whole language model, or a Yes-token student that was saved by training"


def load(source: Source, settings: RerankerSettings, options: LoadOptions) -> Loaded:
    """Load a Yes-token student from its own folder or from a plain language model's.

    Args:
        source: base model and adapter.
        settings: as saved or asked for; prompt, Yes token, pad id and padding side are filled in.
        options: dtype, attention, LoRA, …

    Raises:
        InputError: if the answer is no single token, the architecture fits neither way, or T5 is asked for in fp16.
    """
    prompt = student_prompt(settings.prompt)
    tokenizer, pad = load_tokenizer(source, options)
    config = load_config(source, options)
    answer = settings.yes_token or prompt.yes
    settings = replace(settings, prompt=prompt.name, yes_token=answer, pad_token_id=pad, pair_encoding=False)
    if settings.yes_token_id is None:
        token_id = answer_token(tokenizer, "" if config.is_encoder_decoder else prompt_end(prompt), answer)
        settings = replace(settings, yes_token_id=token_id)
    set_config_pad(config, pad)
    if config.is_encoder_decoder:
        return Loaded(
            tokenizer, load_seq2seq(source, config, settings, options), replace(settings, padding_side="right")
        )
    settings = replace(settings, softcap=getattr(config.get_text_config(), "final_logit_softcapping", None))
    return Loaded(tokenizer, load_causal(source, config, settings, options), settings)


def student_prompt(name: str | None) -> PointPrompt:
    """A row of ``STUDENT_PROMPTS``.

    Raises:
        InputError: if there is none of that name.
    """
    prompt = STUDENT_PROMPTS.get(name or DEFAULT_PROMPT)
    if prompt is None:
        raise InputError(f"--prompt must be one of {', '.join(STUDENT_PROMPTS)} for this student; got {name!r}")
    return prompt


def prompt_end(prompt: PointPrompt) -> str:
    """The last line of the prompt, behind which the answer comes."""
    return "".join(prompt.split("query", Passage("", "passage")))[-40:]


def answer_token(tokenizer: Any, before: str, answer: str) -> int:
    """The token that an answer begins with where it really stands.

    Behind a letter or a full stop it carries the space before it (``ĠYes``, ``▁Yes``), behind a space or a line break
    it does not.

    Args:
        tokenizer: the model's tokenizer.
        before: the prompt's end; empty for a decoder that begins with the answer.
        answer: one word, or a token's id in digits.

    Raises:
        InputError: if the tokenizer has no single token for it.
    """
    if answer.isdigit():
        return int(answer)
    gap = " " if before and not before[-1].isspace() else ""
    head = tokenizer(before, add_special_tokens=False)["input_ids"] if before else []
    whole = tokenizer(f"{before}{gap}{answer}", add_special_tokens=False)["input_ids"]
    tail = whole[len(head) :]
    if whole[: len(head)] != head or len(tail) != 1:
        pieces = tokenizer.convert_ids_to_tokens(tail)
        raise InputError(
            f"the answer {answer!r} must be one token behind {before[-10:]!r}; this tokenizer makes {pieces} of it; "
            "give --yes_token another word, or the id of a token"
        )
    return int(tail[0])


def load_seq2seq(source: Source, config: Any, settings: RerankerSettings, options: LoadOptions) -> Any:
    """T5 as a Yes-token student.

    Raises:
        InputError: if the architecture is no T5, or the folder cannot be loaded.
    """
    model_class = SEQ2SEQ.get(config.model_type)
    if model_class is None:
        raise InputError(
            f"{source.base}: encoder-decoders of type {', '.join(SEQ2SEQ)} are supported; got {config.model_type}"
        )
    config.yes_token_id = settings.yes_token_id
    model, missing = load_model(model_class, source, options, config)
    refuse_random(source, missing, (), INCOMPLETE)
    return add_adapter(model, source, options, "SEQ_2_SEQ_LM", ())


def load_causal(source: Source, config: Any, settings: RerankerSettings, options: LoadOptions) -> Any:
    """A causal language model as a sequence classifier whose one row is the language model's Yes row."""
    converted = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    if converted:
        check_one_label(source, config)
    config.num_labels = 1
    row = None if converted or "score" in adapter_modules(source) else yes_row(source, settings, options)
    model, missing = load_model(classifier_class(config), source, options, config)
    refuse_random(source, missing, () if converted and not source.adapter else ("score",), INCOMPLETE)
    if row is not None:
        with torch.no_grad():
            model.score.weight.copy_(row[None])
    return add_adapter(model, source, options, "SEQ_CLS", ("score",))


def yes_row(source: Source, settings: RerankerSettings, options: LoadOptions) -> torch.Tensor:
    """The row of the language model's head that gives the logit of Yes, float ``[D]``, scaled as its logits are.

    Raises:
        InputError: if the folder holds no language model.
    """
    names = load_config(source, options).architectures or ()
    if not any("CausalLM" in name or "LMHead" in name or "ConditionalGeneration" in name for name in names):
        raise InputError(
            f"{source.base}: yes_token needs a language model; got {', '.join(names) or 'no architecture'}"
        )
    config = load_config(source, options)
    model, missing = load_model(AutoModelForCausalLM, source, options, config)
    refuse_random(source, missing, (), INCOMPLETE)
    row = model.get_output_embeddings().weight[settings.yes_token_id].detach().clone()
    return row * logit_scale(config.get_text_config())


def logit_scale(config: Any) -> float:
    """What the language model multiplies its logits by (Cohere, Granite, Falcon-H1); 1 for most."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    return scale * float(getattr(config, "lm_head_multiplier", None) or 1.0)


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> PointLayout:
    """The layout of a loaded Yes-token student."""
    rows = PromptRows(tokenizer, settings)
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    if model.config.is_encoder_decoder:
        return PointLayout(tokenizer, settings, rows, inputs)
    if settings.padding_side == "left" and "position_ids" in inspect.signature(base_forward(model)).parameters:
        inputs = (*inputs, "position_ids")
    return PointLayout(tokenizer, settings, rows, inputs, ends_at_pad=True)


@dataclass
class PromptRows:
    """The prompt about one passage; where it is too long the passage is shortened, never the prompt's end."""

    tokenizer: Any
    settings: RerankerSettings

    def __call__(self, query: str, passage: Passage) -> Row:
        settings, tokenizer = self.settings, self.tokenizer
        if settings.query_max_len:
            query = cut_text(tokenizer, query, settings.query_max_len)
        head, text, tail = student_prompt(settings.prompt).split(query, passage)
        if settings.passage_max_len:
            text = cut_text(tokenizer, text, settings.passage_max_len)
        ids = tokenizer(head + text + tail)["input_ids"]
        while len(ids) > settings.rerank_max_len:
            length = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            if length == 0:
                raise InputError(
                    f"query {query[:60]!r}: the prompt with this query alone is {len(ids)} tokens long and "
                    f"rerank_max_len is {settings.rerank_max_len}; raise it, or cut queries by --query_max_len"
                )
            text = cut_text(tokenizer, text, max(0, length - (len(ids) - settings.rerank_max_len)))
            ids = tokenizer(head + text + tail)["input_ids"]
        return Row(ids)

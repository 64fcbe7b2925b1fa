"""Score by the logit of ``Yes``: a causal language model through its Yes row, T5 through one decoder step.

Where a prompt names the other answer too, the score is the difference of the two logits, which is one row again: the
difference of the two rows of the head.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from tevatron_distill.layouts import PointLayout
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.prompts import PointPrompt
from tevatron_distill.schema import InputError
from tevatron_distill.students.cross_encoder import base_forward, check_one_label
from tevatron_distill.students.loading import (
    Loaded,
    LoadOptions,
    Source,
    adapter_modules,
    add_adapter,
    classifier_class,
    load_config,
    load_model,
    load_tokenizer,
    refuse_random,
    set_config_pad,
)
from tevatron_distill.students.parted import whole
from tevatron_distill.students.yes_prompts import LLM_RANKER_PROMPT, prompt_rows, student_prompt, words_around
from tevatron_distill.students.yes_seq2seq import SEQ2SEQ

LLM_RANKER = RerankerSettings(student="llm_ranker", prompt=LLM_RANKER_PROMPT, padding_side="left")
"""Settings of open-retrievals' LLMRanker."""

QUERY_TEMPLATE, PASSAGE_TEMPLATE = "A: {}", "B: {}"
"""How bge-reranker-v2-gemma and open-retrievals call query and passage."""

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
    if prompt.name == LLM_RANKER_PROMPT:
        settings = replace(
            settings,
            query_prefix=settings.query_prefix or QUERY_TEMPLATE,
            passage_prefix=settings.passage_prefix or PASSAGE_TEMPLATE,
        )
    settings = replace(settings, prompt=prompt.name, pad_token_id=pad, pair_encoding=False)
    settings = with_answers(settings, prompt, tokenizer, config.is_encoder_decoder)
    set_config_pad(config, pad)
    if config.is_encoder_decoder:
        return Loaded(
            tokenizer, load_seq2seq(source, config, settings, options), replace(settings, padding_side="right")
        )
    softcap = getattr(config.get_text_config(), "final_logit_softcapping", None)
    if softcap is not None and settings.no_token_id is not None:
        raise InputError(
            f"{source.base}: this model caps each logit, so that a difference of two is no single row; "
            f'got --no_token {settings.no_token}; leave it out by --no_token "", or choose another --prompt'
        )
    settings = replace(settings, softcap=softcap)
    return Loaded(tokenizer, load_causal(source, config, settings, options), settings)


def with_answers(settings: RerankerSettings, prompt: PointPrompt, tokenizer: Any, decodes: bool) -> RerankerSettings:
    """Settings with the words of both answers and their tokens.

    Args:
        settings: as saved or asked for.
        prompt: says the answers where the settings do not.
        tokenizer: the model's.
        decodes: a decoder begins with the answer, behind nothing.
    """
    yes = settings.yes_token or prompt.yes
    no = prompt.no if settings.no_token is None else settings.no_token
    before = "" if decodes or not prompt.gap else words_around("query", prompt, settings)[1][-40:]
    if settings.yes_token_id is None:
        settings = replace(settings, yes_token_id=answer_token(tokenizer, before, yes))
    if no and settings.no_token_id is None:
        settings = replace(settings, no_token_id=answer_token(tokenizer, before, no))
    return replace(settings, yes_token=yes, no_token=no)


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
    config.yes_token_id, config.no_token_id = settings.yes_token_id, settings.no_token_id
    model, missing = load_model(model_class, source, options, config)
    refuse_random(source, missing, (), INCOMPLETE)
    return add_adapter(model, source, options, "SEQ_2_SEQ_LM", ())


def load_causal(source: Source, config: Any, settings: RerankerSettings, options: LoadOptions) -> Any:
    """A causal language model as a sequence classifier whose one row is the language model's Yes row."""
    converted = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    if converted:
        check_one_label(source, config)
    config.num_labels = 1
    row = None if converted or "score" in adapter_modules(source, options) else yes_row(source, settings, options)
    model, missing = load_model(classifier_class(config), source, options, config)
    refuse_random(source, missing, () if converted and not source.adapter else ("score",), INCOMPLETE)
    if row is not None:
        with whole(model.score.weight), torch.no_grad():
            model.score.weight.copy_(row[None])
    return add_adapter(model, source, options, "SEQ_CLS", ("score",))


def yes_row(source: Source, settings: RerankerSettings, options: LoadOptions) -> torch.Tensor:
    """The row of the language model's head that gives the score, float ``[D]``, scaled as its logits are.

    It is the row of Yes, less that of No where there is one.

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
    head = model.get_output_embeddings().weight
    with whole(head), torch.no_grad():
        row = head[settings.yes_token_id].clone()
        if settings.no_token_id is not None:
            row -= head[settings.no_token_id]
    return row * logit_scale(config.get_text_config())


def logit_scale(config: Any) -> float:
    """What the language model multiplies its logits by (Cohere, Granite, Falcon-H1); 1 for most."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    return scale * float(getattr(config, "lm_head_multiplier", None) or 1.0)


def layout(tokenizer: Any, model: Any, settings: RerankerSettings) -> PointLayout:
    """The layout of a loaded Yes-token student."""
    rows = prompt_rows(tokenizer, settings)
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")
    if model.config.is_encoder_decoder:
        return PointLayout(tokenizer, settings, rows, inputs)
    if settings.padding_side == "left" and "position_ids" in inspect.signature(base_forward(model)).parameters:
        inputs = (*inputs, "position_ids")
    return PointLayout(tokenizer, settings, rows, inputs, ends_at_pad=True)

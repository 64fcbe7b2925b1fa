"""T5 and its kin as the language models they are: InstructDistill's form."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from tevatron_distill.export.folder import save_model, save_tokenizer
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import CASES, Readers
from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.students.loading import with_prefix
from tevatron_distill.students.yes_prompts import student_prompt, words_around


def write_seq2seq_lm(original: Original, folder: Path) -> Readers:
    """Write a sequence-to-sequence language model, which scores by the logit of yes as the first decoded token.

    Raises:
        InputError: if the student is none.
    """
    if not original.config.is_encoder_decoder or original.layout.settings.yes_token_id is None:
        raise original.misfit("seq2seq_lm", "is T5 that answers by a token")
    # transformers 4 ties and scales by this flag, and transformers 5 writes true for an untied head, too
    save_model(original.loaded.model, folder, tie_word_embeddings=bool(original.config.scale_decoder_outputs))
    save_tokenizer(original.loaded.tokenizer, folder, padding_side="right")
    original.layout.settings.save(folder)
    return {"transformers": partial(read_seq2seq_lm, folder, original.layout.settings)}


def read_seq2seq_lm(folder: Path, settings: RerankerSettings) -> Tensor:
    """Scores by transformers alone."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    return score_seq2seq(model, AutoTokenizer.from_pretrained(folder), settings)


def score_seq2seq(model: Any, tokenizer: Any, settings: RerankerSettings) -> Tensor:
    """Scores by the published snippet: one decoder step over the whole vocabulary."""
    inputs = encode_prompts(tokenizer, settings)
    start = inputs["input_ids"].new_full((len(inputs["input_ids"]), 1), model.config.decoder_start_token_id or 0)
    with torch.inference_mode():
        logits = model(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], decoder_input_ids=start
        ).logits[:, 0]
    return answer(logits, settings)


def encode_prompts(tokenizer: Any, settings: RerankerSettings, side: str = "right") -> Any:
    """The sample in the student's prompt as token rows, padded on a side."""
    framed = student_prompt(settings.prompt).framed
    texts = prompt_texts(settings)
    return tokenizer(texts, padding=True, padding_side=side, add_special_tokens=not framed, return_tensors="pt")


def answer(logits: Tensor, settings: RerankerSettings) -> Tensor:
    """The logit of yes, less that of no where there is one, of logits over the vocabulary ``[R, V]``."""
    yes: Tensor = logits[:, settings.yes_token_id]
    return yes if settings.no_token_id is None else yes - logits[:, settings.no_token_id]


def prompt_texts(settings: RerankerSettings) -> list[str]:
    """The sample in the student's prompt."""
    prompt, texts = student_prompt(settings.prompt), []
    for case in CASES:
        head, tail = words_around(case.query, prompt, settings)
        shown = [with_prefix(settings.passage_prefix.rstrip(" "), prompt.passage_text(one)) for one in case.passages]
        texts += [head + text + tail for text in shown]
    return texts

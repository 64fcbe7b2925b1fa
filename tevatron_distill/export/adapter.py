"""A LoRA adapter as a folder of peft that other libraries open."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.export.folder import save_tokenizer
from tevatron_distill.export.hub import refuse_unlike_classifier, write_texts
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import PAIRS, STRIPPED, Readers, read_cross_encoder, score_pairs
from tevatron_distill.export.sentence_files import write_cross_encoder_files
from tevatron_distill.export.seq2seq_lm import score_seq2seq
from tevatron_distill.extras import load_package
from tevatron_distill.layouts import PointLayout
from tevatron_distill.students.loading import ADAPTER_FILE, find_file

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def write_adapter(original: Original, folder: Path) -> Readers:
    """Write an adapter with the files by which sentence-transformers opens it on its base as a classifier of one label.

    Its task is SEQ_CLS and it brings the score's row, so that the base may be the plain language model.

    Raises:
        InputError: if there is no adapter, or other libraries have no model for it.
    """
    source, settings = original.source, original.layout.settings
    if source.adapter is None or not isinstance(original.layout, PointLayout):
        raise original.misfit("adapter", "takes an adapter of a cross-encoder or a language model")
    for name in (ADAPTER_FILE, *WEIGHTS):
        found = find_file(source.adapter, name)
        if found is not None:
            shutil.copy(found, folder / name)
    if Path(source.base).is_dir():
        original.notes.append(f"the base model is a folder of this machine, {source.base}, which others do not have")
    if original.config.is_encoder_decoder:
        save_tokenizer(original.loaded.tokenizer, folder, padding_side="right")
        settings.save(folder)
        return {"transformers and peft": partial(read_seq2seq_adapter, original, folder)}
    refuse_unlike_classifier(original, "adapter")
    text = write_texts(original, folder)
    base = {"num_labels": 1, "pad_token_id": settings.pad_token_id}
    write_cross_encoder_files(folder, message=text is not None, config=base)
    readers: Readers = {"transformers and peft": partial(read_adapter, original, folder, text is not None)}
    if original.has_library("sentence_transformers", "sentence-transformers", "st"):
        readers["sentence-transformers"] = partial(read_cross_encoder, folder, STRIPPED if text is None else PAIRS)
    return readers


def read_adapter(original: Original, folder: Path, template: bool) -> Tensor:
    """Scores by transformers and peft."""
    peft, base = load_package("peft", "--format adapter"), original.source.base
    config = AutoConfig.from_pretrained(base, num_labels=1, pad_token_id=original.layout.settings.pad_token_id)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(model, folder).eval()
    return score_pairs(model, AutoTokenizer.from_pretrained(folder), False if template else None)


def read_seq2seq_adapter(original: Original, folder: Path) -> Tensor:
    """Scores by transformers and peft, by the published snippet."""
    peft = load_package("peft", "--format adapter")
    model = AutoModelForSeq2SeqLM.from_pretrained(original.source.base, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(model, folder).eval()
    return score_seq2seq(model, AutoTokenizer.from_pretrained(folder), original.layout.settings)

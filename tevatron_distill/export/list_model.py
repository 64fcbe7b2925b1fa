"""A listwise student as the causal language model that it is, which RankLLM and vLLM load as RankZephyr."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tevatron_distill.export.folder import save_model, save_tokenizer
from tevatron_distill.export.original import Original
from tevatron_distill.export.rescoring import CASES, Readers
from tevatron_distill.layouts import Layout


def write_list_model(original: Original, folder: Path) -> Readers:
    """Write the language model with its own chat template."""
    save_model(original.loaded.model, folder)
    save_tokenizer(original.loaded.tokenizer, folder, padding_side="left")
    original.layout.settings.save(folder)
    return {"transformers": partial(read_list_model, folder, original.layout)}


def read_list_model(folder: Path, layout: Layout) -> Tensor:
    """Scores by transformers: the identifiers' logits at the first token of the answer."""
    model, found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), []
    for case in CASES:
        batch = {**layout.collate([case]), "mask": torch.ones(1, len(case.passages), dtype=torch.bool)}
        with torch.inference_mode():
            logits = model(**{name: batch[name] for name in ("input_ids", "attention_mask")}).logits
        rows = torch.arange(len(logits))
        chosen = logits[rows, batch["answer_index"]].gather(1, batch["identifier_ids"])
        found.append(layout.verdict({"logits": chosen}, batch).scores.flatten())
    return torch.cat(found)

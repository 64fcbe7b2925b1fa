"""What an exported folder is checked on: the scores of a sample, by our code and by the libraries it is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.layouts import DualLayout, RerankerSettings
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadedStudent
from tevatron_distill.students.cross_encoder import join_pair
from tevatron_distill.students.sample import SAMPLE, TOLERANCE

SPACES = Candidates(
    "spaces",
    "  Is it red or green? ",
    (Passage("0", " two  spaces,\nand a line \n"), Passage("1", "kůň; 東京 {query} 'quoted' \"twice\"")),
    (0.0, 0.0),
)
"""White space and characters that a template or a trim would change."""

CASES = (Candidates(SAMPLE.query_id, SAMPLE.query, SAMPLE.passages[:3], SAMPLE.scores[:3]), SPACES)
"""Rows that no student cuts, for cutting is another matter in each library."""

PAIRS = [(case.query, passage.text) for case in CASES for passage in case.passages]
"""What other libraries score: a document of theirs is a passage without a title."""

STRIPPED = [(query, text.strip()) for query, text in PAIRS]
"""Where no template does it: encoders of pairs here see no white space around a passage."""

Reader = Callable[[], Tensor]
"""Loads the exported folder by a library, and gives float32 ``[len(PAIRS)]``, or of `SAMPLE` alone."""

Readers = dict[str, Reader]


def scores(loaded: LoadedStudent, cases: Sequence[Candidates] = CASES) -> Tensor:
    """What a student says of the sample, float32 ``[P]``; lengths are the student's own.

    Raises:
        InputError: if a query leaves no room for a passage.
    """
    model, layout, found = loaded.model.eval(), loaded.layout, []
    if isinstance(layout, DualLayout):
        layout = replace(layout, learned=None)  # what ranks
    for case in cases:
        batch = {**layout.collate([case]), "mask": torch.ones(1, len(case.passages), dtype=torch.bool)}
        with torch.inference_mode():
            outputs = model(**{name: batch[name] for name in layout.model_inputs if name in batch})
            found.append(layout.verdict(outputs, batch).scores.flatten())
    return torch.cat(found)


def check(source: str, expected: Tensor, got: Tensor, reader: str = "tevatron_distill", unit: float = 1.0) -> float:
    """The largest difference of scores.

    Args:
        source: what was exported.
        expected: the student's scores.
        got: those of the exported folder.
        reader: the library that gave them.
        unit: in which differences are told.

    Raises:
        InputError: if it is more than `TOLERANCE`, or no number.
    """
    difference = float((expected - got).abs().max()) / unit
    if not difference <= TOLERANCE:
        raise InputError(
            f"{source}: the exported folder must score as its source does, within {TOLERANCE}; by {reader} it is "
            f"{difference:.2g} off ({expected.tolist()} became {got.tolist()}); nothing was written"
        )
    return difference


def read_classifier(folder: Path, add_special_tokens: bool | None = None) -> Tensor:
    """Scores by transformers alone.

    Args:
        folder: a sequence classifier of one label.
        add_special_tokens: after the chat template was rendered: False as ``apply_chat_template`` and
            sentence-transformers do, True as vLLM's score endpoint; None encodes pairs, without a template.
    """
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    return score_pairs(model, AutoTokenizer.from_pretrained(folder), add_special_tokens)


def score_pairs(model: Any, tokenizer: Any, add_special_tokens: bool | None) -> Tensor:
    """Scores of a loaded classifier; `add_special_tokens` as in `read_classifier`."""
    if add_special_tokens is None:
        queries, documents = zip(*STRIPPED, strict=True)
        inputs = tokenizer(list(queries), list(documents), padding=True, return_tensors="pt")
    else:
        texts = [render(tokenizer, query, text) for query, text in PAIRS]
        inputs = tokenizer(texts, padding=True, add_special_tokens=add_special_tokens, return_tensors="pt")
    with torch.inference_mode():
        logits: Tensor = model(**inputs).logits[:, 0]
    return logits


def render(tokenizer: Any, query: str, document: str) -> str:
    """A pair by the folder's chat template, as sentence-transformers and vLLM hand it over."""
    messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False)
    return text


def read_cross_encoder(folder: Path, pairs: Sequence[tuple[str, str]] = PAIRS) -> Tensor:
    """Scores by sentence-transformers, as a user gets them."""
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu")
    return model.predict(list(pairs), convert_to_tensor=True, show_progress_bar=False)


def read_tevatron(folder: Path, settings: RerankerSettings, opening: str) -> Tensor:
    """Scores by what Tevatron's rerank driver does with its flags; what opens a row stands in ``--query_prefix``."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [
        join_pair(query, Passage("", text), opening + settings.query_prefix, settings.passage_prefix)
        for query, text in PAIRS
    ]
    end = [tokenizer.eos_token_id] if settings.append_eos_token else []
    rows = tokenizer(texts, truncation=True, max_length=settings.rerank_max_len - len(end))["input_ids"]
    inputs = tokenizer.pad({"input_ids": [[*row, *end] for row in rows]}, padding_side="right", return_tensors="pt")
    with torch.inference_mode():
        logits: Tensor = model(**inputs).logits[:, 0]
    return logits

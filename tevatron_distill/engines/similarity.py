"""A stand-in for a language model: a sentence encoder's similarity mixed with the first stage's scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel

from tevatron_distill.batching import auto_batch_tokens, token_budget_batches
from tevatron_distill.engines.identity import model_identity
from tevatron_distill.engines.loading import answering_device, check_dtype, load_model
from tevatron_distill.engines.request import Answer, Request, check_kind
from tevatron_distill.loading import read_config, read_tokenizer
from tevatron_distill.prompts import Prompt
from tevatron_distill.schema import Candidates, InputError

Vector = npt.NDArray[np.float64]
REQUESTS_PER_BATCH = 1024
NUM_REMEMBERED = 1024  # queries; more than a round has

T = TypeVar("T")


class SimilarityEngine:
    """Compares the labels of a prompt without a language model.

    A passage is worth ``weight * z(cosine) + (1 - weight) * z(first-stage score)``, z-scores within the query's
    candidates; the labels' logits are these worths over the temperature, so that A is preferred to B with probability
    ``sigmoid((worth_A - worth_B) / temperature)``. About one passage, "yes" has its worth and "no" has 0. It shows a
    passage as the prompt does, and has no position bias.

    Every text is encoded once, by mean pooling over its token vectors. Batches of texts are planned from all queries
    of a run, so that a vector does not depend on what was asked before.

    Args:
        model_name_or_path: sentence encoder, by its name on the hub or its folder.
        dtype: ``auto`` (the checkpoint's), ``float32``, ``bfloat16`` or ``float16``.
        max_length: tokens of a text that are read, within what the encoder can take.
        batch_tokens: tokens of a batch, padding included; None is `auto_batch_tokens`.
        similarity_weight: share of the cosine, from 0 to 1.
        similarity_temperature: difference of worth that makes a preference of .73; above 0.
        trust_remote_code: run code that comes with the model.

    Raises:
        InputError: if the model cannot be loaded.
    """

    answers = frozenset({"choice"})
    may_miss = False

    def __init__(
        self,
        model_name_or_path: str,
        *,
        dtype: str = "auto",
        max_length: int = 1024,
        batch_tokens: int | None = None,
        similarity_weight: float = 0.6,
        similarity_temperature: float = 1.0,
        trust_remote_code: bool = False,
    ) -> None:
        self.model_name = model_name_or_path
        self.num_tokens = 0
        self.num_shortened = 0
        self._dtype = dtype
        self._weight = similarity_weight
        self._temperature = similarity_temperature
        self._trust_remote_code = trust_remote_code
        self._config = read_config(model_name_or_path, trust_remote_code=trust_remote_code)
        if self._config.is_encoder_decoder:
            raise InputError(
                f"--engine similarity needs a sentence encoder; {model_name_or_path} is an encoder-decoder "
                f"({self._config.model_type}); use --engine hf for it"
            )
        check_dtype(dtype, self._config.model_type, model_name_or_path)
        self._batch_tokens = batch_tokens or auto_batch_tokens(answering_device(), self._config.hidden_size)
        self._tokenizer, _ = read_tokenizer(model_name_or_path, trust_remote_code=trust_remote_code)
        positions = getattr(self._config.get_text_config(), "max_position_embeddings", None)
        self._max_length = min(max_length, positions or max_length, self._tokenizer.model_max_length)
        self._planned: list[list[str]] = []
        self._batch_of: dict[str, int] = {}
        self._vectors: dict[str, Vector] = {}
        self._worths: dict[str, tuple[Candidates, Vector]] = {}
        self._digests: dict[str, tuple[Candidates, str]] = {}

    @cached_property
    def identity(self) -> str:
        """Weights, precision, and how similarity and first stage are mixed."""
        weights = model_identity(self.model_name, getattr(self._config, "_commit_hash", None))
        return (
            f"similarity {weights} dtype={self._dtype} max_length={self._max_length} weight={self._weight} "
            f"temperature={self._temperature}"
        )

    @cached_property
    def _model(self) -> Any:
        return load_model(AutoModel, self.model_name, self._dtype, trust_remote_code=self._trust_remote_code)

    def prepare(self, candidates: Iterable[Candidates], prompt: Prompt, num_passages: int) -> None:
        """Plan the batches of all texts of a run.

        Raises:
            InputError: if the prompt asks for something else than a choice.
        """
        check_kind("similarity", self.answers, prompt)
        self._plan(text for entry in candidates for text in _texts(entry, prompt))

    def key_text(self, request: Request) -> str:
        """The query with all its candidates and their scores, the passages in question, and how many labels."""
        candidates, prompt = request.candidates, request.prompt
        known, digest = self._digests.get(candidates.query_id, (None, ""))
        if known is not candidates:
            described = json.dumps([*_texts(candidates, prompt), *candidates.scores])
            digest = hashlib.sha256(described.encode()).hexdigest()
            _remember(self._digests, candidates.query_id, (candidates, digest))
        return json.dumps([digest, request.positions, len(prompt.labels(len(request.positions)))])

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The requests as they come; what costs time is planned in `prepare`."""
        indices = list(range(len(requests)))
        return [indices[start : start + REQUESTS_PER_BATCH] for start in range(0, len(indices), REQUESTS_PER_BATCH)]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """The worth of each passage shown, over the temperature; behind it 0 for a label without a passage."""
        answers: list[Answer] = []
        for request in requests:
            check_kind("similarity", self.answers, request.prompt)
            worths = self._worths_of(request.candidates, request.prompt) / self._temperature
            shown = tuple(float(worths[position]) for position in request.positions)
            num_labels = len(request.prompt.labels(len(shown)))
            answers.append(shown + (0.0,) * (num_labels - len(shown)))
        return answers

    def report(self) -> Mapping[str, float]:
        """Nothing but tokens."""
        return {}

    def _worths_of(self, candidates: Candidates, prompt: Prompt) -> Vector:
        known = self._worths.get(candidates.query_id)
        if known is None or known[0] is not candidates:
            query, *passages = (self._vector(text) for text in _texts(candidates, prompt))
            cosines = np.stack(passages) @ query
            worths = self._weight * _z_scores(cosines) + (1.0 - self._weight) * _z_scores(np.array(candidates.scores))
            known = (candidates, worths)
            _remember(self._worths, candidates.query_id, known)
        return known[1]

    def _vector(self, text: str) -> Vector:
        if text not in self._vectors:
            self._plan([text])
            batch = self._planned[self._batch_of[text]]
            self._vectors.update(zip(batch, self._encode(batch), strict=True))
        return self._vectors[text]

    def _plan(self, texts: Iterable[str]) -> None:
        unseen = sorted({text for text in texts if text not in self._batch_of})
        if not unseen:
            return
        encoded = self._tokenizer(unseen, truncation=True, max_length=self._max_length)["input_ids"]
        for batch in token_budget_batches([len(ids) for ids in encoded], self._batch_tokens):
            self._batch_of.update((unseen[index], len(self._planned)) for index in batch)
            self._planned.append([unseen[index] for index in batch])

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> Vector:
        encoded = self._tokenizer(
            texts, truncation=True, max_length=self._max_length, padding=True, return_tensors="pt"
        ).to(self._model.device)
        self.num_tokens += int(encoded["attention_mask"].sum())
        hidden = self._model(**encoded).last_hidden_state.float()  # [N, T, D]
        mask = encoded["attention_mask"].unsqueeze(-1)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        vectors: Vector = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy().astype(np.float64)
        return vectors


def _remember(known: dict[str, T], query_id: str, value: T) -> None:
    """Keep a query's value, and forget that of the query that came first where there are many."""
    known[query_id] = value
    if len(known) > NUM_REMEMBERED:
        del known[next(iter(known))]


def _texts(candidates: Candidates, prompt: Prompt) -> list[str]:
    return [candidates.query, *(prompt.passage_text(passage) for passage in candidates.passages)]


def _z_scores(values: Vector) -> Vector:
    deviation = values.std()
    if deviation <= 1e-9 * np.abs(values).max(initial=0.0):  # equal but for rounding
        return np.zeros(len(values))
    return (values - values.mean()) / deviation

"""Reranker: load any student's folder, score pairs, rank lists."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tevatron_distill.batching import auto_batch_tokens
from tevatron_distill.layouts import DualLayout, Layout, ListLayout, MetricsLayout, PairLayout, PointLayout
from tevatron_distill.reranker.batches import Batcher, TokenCount
from tevatron_distill.reranker.compare import Comparisons
from tevatron_distill.reranker.dual import encode_rows, score_vectors
from tevatron_distill.reranker.onnx import on_backend
from tevatron_distill.reranker.pair import score_pairs
from tevatron_distill.reranker.point import score_rows
from tevatron_distill.reranker.ranking import Ranking
from tevatron_distill.reranker.vectors import VectorStore, model_identity, write_store
from tevatron_distill.reranker.windows import score_windows
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, load_student

__all__ = ["SCORERS", "Reranker", "TokenCount", "default_device", "default_dtype"]

SCORERS: dict[type, Callable[..., list[list[float]]]] = {
    PointLayout: score_rows,
    MetricsLayout: score_rows,
    DualLayout: score_vectors,
    ListLayout: score_windows,
    PairLayout: score_pairs,
}
"""Layout → ``(model, layout, batcher, candidates)`` to scores aligned with each list's passages, higher is better."""


class Reranker(Comparisons, Ranking):
    """A student that ranks.

    Args:
        model: the student's model.
        layout: the student's layout (with its tokenizer and settings).
        device: where it runs; None takes a GPU where there is one.
        batch_tokens: budget of a batch, padding included; None is that of `auto_batch_tokens`.

    Attributes:
        batcher: forms the batches, and counts the tokens that have gone through the model.
        passage_vectors: passages that need not be encoded, see :meth:`use_passage_vectors`.
    """

    passage_vectors: VectorStore | None = None

    def __init__(
        self,
        model: Any,
        layout: Layout,
        device: str | torch.device | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.device = torch.device(device or default_device())
        self.model = model.to(self.device).eval()
        self.layout = layout if self.device.type != "cpu" else unrounded(layout)
        if batch_tokens is None:
            batch_tokens = auto_batch_tokens(
                self.device.type, getattr(model.config.get_text_config(), "hidden_size", 0)
            )
        self.batcher = Batcher(self.device, batch_tokens, on_cores=isinstance(self.model, torch.nn.Module))

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        student: str | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        lora_name_or_path: str | None = None,
        attn_implementation: str | None = None,
        trust_remote_code: bool = False,
        backend: str = "torch",
        onnx_dtype: str = "float32",
        cache_dir: str | None = None,
        **settings: Any,
    ) -> Reranker:
        """Load a student's folder, an adapter's folder, or a plain published model as ``student``.

        Args:
            path: a folder or a name on the hub.
            student: name in ``STUDENTS``; None for what the folder or a released name says, else ``cross_encoder``.
            device: where it runs; None takes a GPU where there is one.
            dtype: ``float32``, ``bfloat16``, ``float16`` or ``auto`` (the folder's own); None is float32 on a CPU and
                the folder's own elsewhere.
            batch_tokens: budget of a batch, padding included; None is that of `auto_batch_tokens`.
            lora_name_or_path: adapter to merge into the model.
            attn_implementation: as in transformers.
            trust_remote_code: run code that the model's folder brings.
            backend: ``torch``, or ``onnx`` (on the CPU; the student is exported the first time, see `on_backend`).
            onnx_dtype: ``float32``, or ``int8``, which is faster and rounds scores.
            cache_dir: where downloads and exports are kept.
            settings: values of ``RerankerSettings`` that differ from the folder's (``rerank_max_len``, ``prompt``, …).

        Raises:
            InputError: if the folder cannot be that student, or its score would be random.
        """
        device = torch.device("cpu" if backend == "onnx" else device or default_device())
        options = LoadOptions(
            cache_dir=cache_dir,
            dtype=dtype or default_dtype(device),
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            lora_name_or_path=lora_name_or_path,
        )
        loaded = load_student(str(path), student, options=options, settings=settings)
        model = on_backend(loaded.model, loaded.layout, backend, onnx_dtype, cache_dir)
        return cls(model, loaded.layout, device, batch_tokens)

    def compute_score(self, pairs: Sequence[str] | Sequence[Sequence[str]]) -> float | list[float]:
        """Scores of ``[[query, passage], …]`` as a list, or of one pair ``[query, passage]`` as a number.

        Raises:
            InputError: if an element is no pair, or the student knows passages beside each other only.
        """
        if isinstance(self.layout, PairLayout):
            raise InputError("this student compares passages and has no score for one alone; use compare or rank")
        if len(pairs) == 2 and all(isinstance(text, str) for text in pairs):
            [[score]] = self.score_candidates([Candidates("", str(pairs[0]), (Passage("", str(pairs[1])),), (0.0,))])
            return score
        candidates = []
        for number, pair in enumerate(pairs):
            if isinstance(pair, str) or len(pair) != 2:
                raise InputError(f"pair {number}: must be [query, passage]; got {pair!r}")
            candidates.append(Candidates(f"pair {number}", pair[0], (Passage("", pair[1]),), (0.0,)))
        return [scores[0] for scores in self.score_candidates(candidates)]

    def score_candidates(self, candidates: Sequence[Candidates]) -> list[list[float]]:
        """Scores of whole lists, aligned with their passages.

        Rows are batched in length order over all lists, so that many lists at once are faster than one by one; the
        scores are the same up to the last bits of floating point.

        Raises:
            InputError: if a text is empty, a row ends in the pad token, or a score is no finite number.
        """
        for one in candidates:
            if not one.query.strip() or not all(passage.title or passage.text.strip() for passage in one.passages):
                raise InputError(
                    f'query_id "{one.query_id}": query and passages must have text; got an empty one; remove it'
                )
        if not any(one.passages for one in candidates):
            return [[] for _ in candidates]
        with torch.inference_mode():
            stored = () if self.passage_vectors is None else (self.passage_vectors,)
            scores = SCORERS[type(self.layout)](self.model, self.layout, self.batcher, candidates, *stored)
        for one, row in zip(candidates, scores, strict=True):
            for passage, score in zip(one.passages, row, strict=True):
                if not math.isfinite(score):
                    raise InputError(
                        f'query_id "{one.query_id}", docid "{passage.docid}": a score must be finite; got {score}; '
                        "half precision may overflow (use --bf16 or float32), else the weights are broken"
                    )
        return scores

    def encode(
        self, texts: str | Sequence[str], normalize_embeddings: bool = True, *, is_query: bool = False
    ) -> list[Tensor]:
        """Vectors of a student that encodes passages apart: colbert's of tokens, simcls' one of a text.

        Args:
            texts: texts, or one.
            normalize_embeddings: vectors have unit length.
            is_query: the texts are queries (another prefix, another length), not passages.

        Returns:
            For each text float32 ``[T, D]`` on the CPU, its counted tokens only.

        Raises:
            TypeError: if the student does not.
        """
        layout = self.layout
        if not isinstance(layout, DualLayout):
            raise TypeError(f"only colbert and simcls make vectors of passages; this one is {layout.settings.student}")
        texts = [texts] if isinstance(texts, str) else texts
        rows = [layout.encode_query(text) if is_query else layout.encode_passage(Passage("", text)) for text in texts]
        with torch.inference_mode():
            vectors = encode_rows(self.model, layout, self.batcher, rows, normalize_embeddings)
        return [one.cpu() for one in vectors]

    def use_passage_vectors(self, folder: str | Path, candidates: Iterable[Candidates]) -> VectorStore:
        """Score with passage vectors of a folder, which is made from these lists where it does not exist yet.

        The vectors are stored in float16; a passage that the folder lacks is encoded when it is scored, and rounded
        alike, so that a score does not depend on what was stored.

        Args:
            folder: where the vectors lie, or will.
            candidates: lists whose passages are stored.

        Raises:
            InputError: if the student reads query and passage together, or the folder holds another student's vectors.
        """
        layout = self.layout
        if not isinstance(layout, DualLayout):
            raise InputError(
                "--passage_vectors_path needs a student that encodes passages apart (colbert, simcls); got "
                f"{layout.settings.student}"
            )
        identity = model_identity(self.model, layout)
        if not Path(folder).exists():
            distinct: dict[tuple[str, str], Passage] = {}
            for passage in (passage for one in candidates for passage in one.passages):
                distinct.setdefault((passage.title, passage.text), passage)

            def encode(passages: Sequence[Passage]) -> list[Tensor]:
                with torch.inference_mode():
                    rows = [layout.encode_passage(passage) for passage in passages]
                    return encode_rows(self.model, layout, self.batcher, rows)

            write_store(folder, list(distinct.values()), layout, identity, encode)
        self.passage_vectors = VectorStore(folder, identity)
        return self.passage_vectors


def unrounded(layout: Layout) -> Layout:
    """A layout that pads rows to the longest of a batch and no further; round lengths are a GPU's need."""
    settings = dataclasses.replace(layout.settings, pad_to_multiple_of=1)
    copied = copy.copy(layout)
    copied.settings = settings
    return copied


def default_device() -> torch.device:
    """A GPU where there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def default_dtype(device: torch.device) -> str:
    """float32 on a CPU, which computes half precision slowly; elsewhere the folder's own."""
    return "float32" if device.type == "cpu" else "auto"

"""What every format is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from tevatron_distill.export.rescoring import scores
from tevatron_distill.extras import is_installed, pip_command
from tevatron_distill.layouts import DualLayout, Layout, RerankerSettings
from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadedStudent, LoadOptions
from tevatron_distill.students.loading import Source, find_source


@dataclass
class Original:
    """The student that is exported.

    Attributes:
        path: its folder, or its name on the hub.
        loaded: the student, an adapter merged, in float32.
        onnx_dtype: key of `ONNX_DTYPES`.
        notes: what was not compared, or is not the same everywhere, in sentences; formats add to it.
    """

    path: str
    loaded: LoadedStudent
    onnx_dtype: str = "float32"
    notes: list[str] = field(default_factory=list)

    @cached_property
    def expected(self) -> Tensor:
        """The student's scores of the sample, float32 ``[P]``."""
        return scores(self.loaded)

    @property
    def unit(self) -> float:
        """In what differences of scores are told: 1; or the size of scores that are sums, or divided (MaxSim's)."""
        return max(1.0, float(self.expected.abs().max())) if isinstance(self.layout, DualLayout) else 1.0

    @property
    def layout(self) -> Layout:
        """The student's layout."""
        return self.loaded.layout

    @property
    def config(self) -> Any:
        """The model's config."""
        return self.loaded.model.config

    @property
    def source(self) -> Source:
        """Base model and adapter."""
        return find_source(self.path, LoadOptions())

    def has_library(self, module: str, title: str, extra: str) -> bool:
        """Whether a library is there to read the folder by; otherwise a note says what was not compared."""
        if is_installed(module):
            return True
        self.notes.append(f"{title} is not installed, so its scores were not compared: {pip_command(extra)}")
        return False

    def misfit(self, format: str, what: str) -> InputError:
        """What is said where a format cannot hold the student."""
        kind = f"{self.layout.settings.student} ({self.config.model_type})"
        fits = ", ".join(fitting(self))
        return InputError(f"{self.path}: --format {format} {what}; got {kind}; formats that fit: {fits}")


def strange(settings: RerankerSettings) -> bool:
    """Whether vectors are made or joined as no library does it."""
    if settings.student == "simcls":
        return settings.query_max_len != settings.passage_max_len
    prefixes = (settings.query_prefix, settings.passage_prefix) if settings.student == "colbert" else ()
    return settings.colbert_convention == "open_retrievals" or any(prefix.partition("{}")[2] for prefix in prefixes)


def fitting(original: Original) -> list[str]:
    """The formats that can hold a student."""
    settings, seq2seq = original.layout.settings, original.config.is_encoder_decoder
    kind = settings.student
    fits = {
        "hub": kind != "summa_reranker" and not strange(settings),
        "causal_lm": settings.yes_token_id is not None and not seq2seq,
        "seq2seq_lm": settings.yes_token_id is not None and seq2seq,
        "adapter": original.source.adapter is not None,
        "merged": original.source.adapter is not None,
        "onnx": kind in ("cross_encoder", "yes_token", "llm_ranker", "colbert", "simcls"),
        "pairrm": kind == "pair_ranker" and not seq2seq,
    }
    return [name for name, fit in fits.items() if fit] or ["none but its own folder"]

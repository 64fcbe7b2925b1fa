"""Engines answer the questions of teachers: a language model, or a stand-in for one."""

from __future__ import annotations

from collections.abc import Callable

from tevatron_distill.engines.cache import AnswerCache
from tevatron_distill.engines.hf import HFEngine
from tevatron_distill.engines.request import Engine, Request
from tevatron_distill.engines.similarity import SimilarityEngine

__all__ = ["ENGINES", "AnswerCache", "Engine", "HFEngine", "Request", "SimilarityEngine"]

ENGINES: dict[str, Callable[..., Engine]] = {
    "hf": HFEngine,
    "similarity": SimilarityEngine,
}

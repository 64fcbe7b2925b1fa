"""Engines answer the questions of teachers: a language model, or a stand-in for one."""

from __future__ import annotations

from collections.abc import Callable

from tevatron_distill.engines.cache import AnswerCache
from tevatron_distill.engines.chat import CHAT_TEMPLATES
from tevatron_distill.engines.hf import HFEngine
from tevatron_distill.engines.recorded import RecordedEngine
from tevatron_distill.engines.recorder import Recorder
from tevatron_distill.engines.request import WHO_ANSWERS, Answer, Engine, Request
from tevatron_distill.engines.similarity import SimilarityEngine

__all__ = [
    "CHAT_TEMPLATES",
    "ENGINES",
    "WHO_ANSWERS",
    "Answer",
    "AnswerCache",
    "Engine",
    "HFEngine",
    "RecordedEngine",
    "Recorder",
    "Request",
    "SimilarityEngine",
]

ENGINES: dict[str, Callable[..., Engine]] = {
    "hf": HFEngine,
    "recorded": RecordedEngine,
    "similarity": SimilarityEngine,
}

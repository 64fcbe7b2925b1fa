"""Engines answer the questions of teachers: a language model, or a stand-in for one."""

from __future__ import annotations

from collections.abc import Callable

from tevatron_distill.engines.cache import AnswerCache
from tevatron_distill.engines.chat import CHAT_TEMPLATES
from tevatron_distill.engines.hf import HFEngine
from tevatron_distill.engines.openai_compatible import OpenAICompatibleEngine
from tevatron_distill.engines.recorded import RecordedEngine
from tevatron_distill.engines.recorder import Recorder
from tevatron_distill.engines.request import WHO_ANSWERS, Answer, Engine, PartlyAnsweredError, Request
from tevatron_distill.engines.similarity import SimilarityEngine
from tevatron_distill.engines.vllm import VLLMEngine
from tevatron_distill.engines.wire import API_DIALECTS

__all__ = [
    "API_DIALECTS",
    "CHAT_TEMPLATES",
    "ENGINES",
    "WHO_ANSWERS",
    "Answer",
    "AnswerCache",
    "Engine",
    "HFEngine",
    "OpenAICompatibleEngine",
    "PartlyAnsweredError",
    "RecordedEngine",
    "Recorder",
    "Request",
    "SimilarityEngine",
    "VLLMEngine",
]

ENGINES: dict[str, Callable[..., Engine]] = {
    "hf": HFEngine,
    "vllm": VLLMEngine,
    "openai_compatible": OpenAICompatibleEngine,
    "recorded": RecordedEngine,
    "similarity": SimilarityEngine,
}

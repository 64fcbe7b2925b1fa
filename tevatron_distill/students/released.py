"""Released models whose folders do not say how they are asked: known by their names, else by signs in the folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.prompts import POINT_PROMPTS
from tevatron_distill.students import listwise, pair_ranker, yes_token
from tevatron_distill.students.loading import ADAPTER_FILE, LoadOptions, Source, find_file
from tevatron_distill.students.pair_checkpoint import is_pair_ranker

logger = logging.getLogger(__name__)


@dataclass
class Facts:
    """What a folder says of itself, read when it is asked for.

    Args:
        source: base model and adapter.
        options: where downloads are kept.
    """

    source: Source
    options: LoadOptions

    @cached_property
    def adapter(self) -> dict[str, Any]:
        """Keys of ``adapter_config.json``; none where there is no adapter."""
        return {} if self.source.adapter is None else self._json(self.source.adapter, ADAPTER_FILE)

    @cached_property
    def config(self) -> dict[str, Any]:
        """Keys of the base model's ``config.json``."""
        return self._json(self.source.base, "config.json")

    @property
    def origin(self) -> str:
        """The name under which the weights were loaded before transformers 4 saved them again; empty for none."""
        return "" if self.source.adapter else str(self.config.get("_name_or_path") or "")

    @cached_property
    def chat_template(self) -> str:
        """The tokenizer's template, a file of its own or a key; empty for none."""
        path = find_file(self.source.own, "chat_template.jinja", self.options.cache_dir)
        if path is not None:
            return path.read_text(encoding="utf-8")
        return str(self._json(self.source.own, "tokenizer_config.json").get("chat_template") or "")

    def _json(self, path: str, name: str) -> dict[str, Any]:
        file = find_file(path, name, self.options.cache_dir)
        try:
            values = {} if file is None else parse_json(file.read_text(encoding="utf-8"))
        except ValueError:  # a broken file is named by what loads it
            return {}
        return values if isinstance(values, dict) else {}


def is_first_rank_llama(facts: Facts) -> bool:
    """Whether an adapter has the shape that Tevatron's first RankLLaMA gave all of them: no keys are adapted."""
    adapter = facts.adapter
    return (
        (adapter.get("task_type"), adapter.get("r"), adapter.get("lora_alpha")) == ("SEQ_CLS", 32, 64)
        and isinstance(adapter.get("target_modules"), list)
        and set(adapter["target_modules"]) == {"q_proj", "v_proj", "o_proj", "down_proj", "up_proj", "gate_proj"}
    )


def judges_as_qwen3(facts: Facts) -> bool:
    """Whether the chat template holds the task of Qwen3-Reranker."""
    return POINT_PROMPTS["qwen3_reranker"].system.partition(".")[0] in facts.chat_template


class Released(NamedTuple):
    """A family of released models.

    Attributes:
        names: regular expression, searched in the last part of a name, in lower case.
        settings: what the models are loaded with where the caller does not say otherwise.
        signs: tells such a folder whatever it is called; None where nothing does.
    """

    names: str
    settings: RerankerSettings
    signs: Callable[[Facts], bool] | None = None


RELEASED: dict[str, Released] = {
    # castorini/rankllama-v1-*: two texts, each with its <s>, and no </s>; later ones carry a reranker_config.json
    "rankllama": Released(
        r"^rankllama-v1-|^rankllama-.*-merged",
        RerankerSettings(pair_encoding=True, query_prefix="query:", passage_prefix="document:"),
        is_first_rank_llama,
    ),
    # sunnweiwei/RankGPT, InstructDistill: plain language models
    "instructdistill": Released(
        r"^rank-(flan-t5|llama-2)-",
        RerankerSettings(student="yes_token", prompt="instructdistill", padding_side="left", rerank_max_len=1024),
    ),
    # castorini/monot5-*
    "monot5": Released(r"^monot5-", RerankerSettings(student="yes_token", prompt="monot5")),
    # BAAI; its cross-encoders (bge-reranker-base, -large, -v2-m3) need no row
    "bge_gemma": Released(r"^bge-reranker-v2-gemma$", replace(yes_token.LLM_RANKER, rerank_max_len=1024)),
    # Qwen/Qwen3-Reranker-*, and the sequence classifiers made of them
    "qwen3_reranker": Released(
        r"^qwen3-reranker-",
        RerankerSettings(student="yes_token", prompt="qwen3_reranker", padding_side="left", rerank_max_len=8192),
        judges_as_qwen3,
    ),
    "pair_rm": Released(r"^pairrm(-hf)?$", pair_ranker.DEFAULTS, lambda facts: is_pair_ranker(facts.config)),
    # castorini; numbers of two digits are several tokens, which only generation can name
    "rank_zephyr": Released(r"^rank_zephyr_", replace(listwise.DEFAULTS, prompt="rank_zephyr", decode="generation")),
    "rank_vicuna": Released(r"^rank_vicuna_", replace(listwise.DEFAULTS, prompt="rank_vicuna", decode="generation")),
    "first_mistral": Released(r"^first_mistral$", replace(listwise.DEFAULTS, prompt="rank_zephyr_alpha")),
}
"""Models that load without a flag beside their name or folder."""


def last_part(name: str) -> str:
    """What a model is called, without its owner, the folders above it, or the hub's cache around it.

    >>> last_part("Qwen/Qwen3-Reranker-0.6B"), last_part("hub/models--castorini--first_mistral/snapshots/0af3/")
    ('qwen3-reranker-0.6b', 'first_mistral')
    """
    parts = Path(name).parts
    if len(parts) > 2 and parts[-2] == "snapshots":
        return parts[-3].rpartition("--")[2].lower()
    return parts[-1].lower() if parts else ""


def named(name: str) -> str | None:
    """The row of ``RELEASED`` that a model's name belongs to; None where it belongs to none.

    >>> named("castorini/monot5-base-msmarco"), named("my-ranker")
    ('monot5', None)
    """
    called = last_part(name)
    return next((key for key, row in RELEASED.items() if re.search(row.names, called)), None)


def find_released(source: Source, options: LoadOptions) -> RerankerSettings | None:
    """The settings of a released model; None where it is none that is known.

    Its name counts first, then the name that its config remembers, then what lies in the folder.
    """
    facts = Facts(source, options)
    key = named(source.own) or named(facts.origin)
    key = key or next((key for key, row in RELEASED.items() if row.signs is not None and row.signs(facts)), None)
    if key is None:
        return None
    settings = RELEASED[key].settings
    logger.info("%s: loaded as the released model %s, student %s", source.own, key, settings.student)
    return settings


def released_prompt(name: str | None, prompts: Collection[str]) -> str | None:
    """The prompt that a released model was trained with, where it is one of ``prompts``.

    Args:
        name: on the hub, or a folder of that name; None for no model.
        prompts: names to choose from.

    >>> released_prompt("castorini/rank_zephyr_7b_v1_full", ["rank_gpt", "rank_zephyr"])
    'rank_zephyr'
    """
    key = None if name is None else named(name)
    prompt = None if key is None else RELEASED[key].settings.prompt
    return prompt if prompt in prompts else None

"""The students: what each loads, and the layout beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from tevatron_distill.layouts import Layout, RerankerSettings
from tevatron_distill.layouts.settings import SETTINGS_FILE
from tevatron_distill.schema import InputError
from tevatron_distill.students import colbert, cross_encoder, listwise, pair_ranker, simcls, summa_reranker, yes_token
from tevatron_distill.students.loading import Loaded, LoadOptions, LoraOptions, Source, find_file, find_source
from tevatron_distill.students.released import find_released
from tevatron_distill.students.special_tokens import put_special_tokens

__all__ = [
    "STUDENTS",
    "LoadOptions",
    "LoadedStudent",
    "LoraOptions",
    "RerankerSettings",
    "Student",
    "load_student",
    "student_name",
]

logger = logging.getLogger(__name__)

WAYS_TO_RANK = ("inference_mode", "pair_aggregation", "orders", "num_passes", "decode")
"""Settings that training has no part in, and that change without a warning."""


class Student(NamedTuple):
    """A kind of student.

    Attributes:
        load: ``(source, settings, options)`` to tokenizer, model and settings with everything filled in.
        layout: ``(tokenizer, model, settings)`` to the layout.
        defaults: settings where neither the folder nor the caller says otherwise.
        loss: name of the ranking loss that it is trained by where none is asked for.
    """

    load: Callable[[Source, RerankerSettings, LoadOptions], Loaded]
    layout: Callable[[Any, Any, RerankerSettings], Layout]
    defaults: RerankerSettings
    loss: str = "softmax_ce"


STUDENTS: dict[str, Student] = {
    "cross_encoder": Student(cross_encoder.load, cross_encoder.layout, RerankerSettings()),
    "yes_token": Student(yes_token.load, yes_token.layout, RerankerSettings(student="yes_token", padding_side="left")),
    "llm_ranker": Student(yes_token.load, yes_token.layout, yes_token.LLM_RANKER),
    "summa_reranker": Student(
        summa_reranker.load, summa_reranker.layout, RerankerSettings(student="summa_reranker"), loss="metric_bce"
    ),
    "colbert": Student(colbert.load, colbert.layout, RerankerSettings(student="colbert")),
    "simcls": Student(simcls.load, simcls.layout, RerankerSettings(student="simcls"), loss="margin_rank"),
    "pair_ranker": Student(pair_ranker.load, pair_ranker.layout, pair_ranker.DEFAULTS, loss="rank_net"),
    "listwise": Student(listwise.load, listwise.layout, listwise.DEFAULTS, loss="rank_net"),
}
"""Name → student; ``--student`` takes these."""


class LoadedStudent(NamedTuple):
    """A student ready to train or to rank; ``layout.settings.save(folder)`` writes what inference needs."""

    tokenizer: Any
    model: Any
    layout: Layout


def load_student(
    path: str,
    student: str | None = None,
    *,
    options: LoadOptions | None = None,
    settings: Mapping[str, Any] | None = None,
) -> LoadedStudent:
    """Load a student from a folder or a name on the hub.

    What the folder's ``reranker_config.json`` says counts, unless the caller says otherwise; a folder without one may
    be a released model that is known (``RELEASED``).

    Args:
        path: a student's folder, a plain model's, or an adapter's.
        student: name in ``STUDENTS``; None for the folder's own, a released model's, else ``cross_encoder``.
        options: dtype, attention, adapters, and whether it will be trained.
        settings: values of ``RerankerSettings`` that the caller wants; None in it means: no wish.

    Raises:
        InputError: if the folder cannot be that student (see each student's ``load``).
    """
    options = options or LoadOptions()
    source = find_source(path, options)
    saved = saved_settings(source, options)
    known = saved or find_released(source, options)
    name = _name(student, known)
    kind = STUDENTS[name]
    start = known if known and known.student == name else kind.defaults
    wishes = {key: value for key, value in (settings or {}).items() if value is not None}
    for key, value in wishes.items():
        if saved and not options.training and key not in WAYS_TO_RANK and getattr(start, key) != value:
            logger.warning("%s: trained with %s=%r, now used with %r", path, key, getattr(start, key), value)
    wanted = replace(start, **wishes, attn_implementation=options.attn_implementation or start.attn_implementation)
    tokenizer, model, filled = kind.load(source, wanted, options)
    if filled.special_tokens:
        put_special_tokens(tokenizer, filled.special_tokens)
    tokenizer.padding_side, tokenizer.truncation_side = filled.padding_side, "right"
    return LoadedStudent(tokenizer, model, kind.layout(tokenizer, model, filled))


def student_name(path: str, student: str | None, options: LoadOptions) -> str:
    """Which student a folder will be loaded as: the one asked for, its own, a released model's, or ``cross_encoder``.

    Raises:
        InputError: if there is no such student.
    """
    source = find_source(path, options)
    return _name(student, saved_settings(source, options) or find_released(source, options))


def _name(student: str | None, known: RerankerSettings | None) -> str:
    name = student or (known.student if known else "cross_encoder")
    if name not in STUDENTS:
        raise InputError(f"--student must be one of {', '.join(STUDENTS)}; got {name!r}")
    return name


def saved_settings(source: Source, options: LoadOptions) -> RerankerSettings | None:
    """The settings that training left in the folder; None where it left none."""
    path = find_file(source.own, SETTINGS_FILE, options.cache_dir)
    return None if path is None else RerankerSettings.read(path.parent)

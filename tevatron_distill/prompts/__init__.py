"""Every prompt, teacher and student alike: published wordings to the letter, and how their answers are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from tevatron_distill.prompts.choices import PAIR_PROMPTS, SET_PROMPTS, ChoicePrompt
from tevatron_distill.prompts.lists import LIST_PROMPTS, ListPrompt
from tevatron_distill.prompts.points import DEFAULT_INSTRUCTION, POINT_PROMPTS, STUDENT_PROMPTS, PointPrompt
from tevatron_distill.prompts.text import PASSAGE_STYLES, cut_words, render_passage
from tevatron_distill.prompts.wording import PROBLEMS, AnswerKind, Parsed, Prompt, Wording

__all__ = [
    "DEFAULT_INSTRUCTION",
    "LIST_PROMPTS",
    "PAIR_PROMPTS",
    "PASSAGE_STYLES",
    "POINT_PROMPTS",
    "PROBLEMS",
    "SET_PROMPTS",
    "STUDENT_PROMPTS",
    "TEACHER_PROMPTS",
    "AnswerKind",
    "ChoicePrompt",
    "ListPrompt",
    "Parsed",
    "PointPrompt",
    "Prompt",
    "TeacherPrompt",
    "Wording",
    "cut_words",
    "render_passage",
]

TeacherPrompt: TypeAlias = PointPrompt | ChoicePrompt | ListPrompt

TEACHER_PROMPTS: dict[str, Mapping[str, TeacherPrompt]] = {
    "pointwise": POINT_PROMPTS,
    "pairwise": PAIR_PROMPTS,
    "setwise": SET_PROMPTS,
    "listwise": LIST_PROMPTS,
}
"""The prompts of each teacher that asks an engine; the first is its default."""

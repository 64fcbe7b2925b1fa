"""Teachers turn a query with its candidates into a group: the passages and a verdict on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tevatron_distill.prompts import TEACHER_PROMPTS, AnswerKind, TeacherPrompt
from tevatron_distill.teachers.asking import AskingTeacher
from tevatron_distill.teachers.consistency import SelfConsistency
from tevatron_distill.teachers.function import FunctionTeacher
from tevatron_distill.teachers.given_order import FromRun
from tevatron_distill.teachers.listwise import ListwiseOracle
from tevatron_distill.teachers.merging import MergedTeacher, load_merged
from tevatron_distill.teachers.oracle import Oracle
from tevatron_distill.teachers.pairwise import PairwiseOracle
from tevatron_distill.teachers.pointwise import PointwiseOracle
from tevatron_distill.teachers.qrels import QrelsTeacher, load_qrels_teacher
from tevatron_distill.teachers.setwise import SetwiseOracle
from tevatron_distill.teachers.student import StudentTeacher, load_student_teacher
from tevatron_distill.teachers.verdicts import Teacher

__all__ = [
    "TEACHERS",
    "AskingTeacher",
    "FromRun",
    "FunctionTeacher",
    "ListwiseOracle",
    "MergedTeacher",
    "Oracle",
    "PairwiseOracle",
    "PointwiseOracle",
    "QrelsTeacher",
    "SelfConsistency",
    "SetwiseOracle",
    "StudentTeacher",
    "Teacher",
    "TeacherRow",
]


@dataclass(frozen=True)
class TeacherRow:
    """What the driver has to know of a teacher.

    Attributes:
        make: makes the oracle from a prompt, where ``sorts`` says how it is asked; else the teacher itself, from flags
            of the same names.
        help: what it does, in a few words.
        needs: flags that must be given.
        prompts: what can be asked; the first is the default.
        sorts: sorts that ask what the oracle can answer, each with its defaults; the first is the default.
        answers: kinds of answer that ``--answer`` can choose from; empty where the prompt decides.
        max_length: tokens of a prompt, where no flag says so.
    """

    make: Callable[..., Any]
    help: str
    needs: tuple[str, ...] = ()
    prompts: Mapping[str, TeacherPrompt] = field(default_factory=dict)
    sorts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    answers: tuple[AnswerKind, ...] = ()
    max_length: int = 1024


TEACHERS: dict[str, TeacherRow] = {
    "pointwise": TeacherRow(
        PointwiseOracle,
        "asks an engine about one passage at a time",
        prompts=TEACHER_PROMPTS["pointwise"],
        sorts={"pointwise": {}},
    ),
    "pairwise": TeacherRow(
        PairwiseOracle,
        "asks which of two passages is better, in both orders",
        prompts=TEACHER_PROMPTS["pairwise"],
        sorts={
            "allpair": {},
            "sliding_window": {"num_passes": 10, "window_size": 2, "step_size": 1},
            "heapsort": {"num_child": 1},
            "rechecked_heapsort": {"num_child": 1, "max_questions": 400},
        },
    ),
    "setwise": TeacherRow(
        SetwiseOracle,
        "asks which of several passages is the best",
        prompts=TEACHER_PROMPTS["setwise"],
        sorts={
            "heapsort": {"num_child": 3},
            "bubblesort": {"num_child": 3},
            "rechecked_heapsort": {"num_child": 9, "max_questions": 60},
        },
        answers=("choice", "text"),
    ),
    "listwise": TeacherRow(
        ListwiseOracle,
        "asks for the order of a window of passages",
        prompts=TEACHER_PROMPTS["listwise"],
        sorts={
            "sliding_window": {"num_passes": 1, "window_size": 20, "step_size": 10},
            "rechecked_heapsort": {"num_child": 9, "max_questions": 60},
        },
        answers=("text", "choice"),
        max_length=4096,
    ),
    "student": TeacherRow(
        load_student_teacher, "a student's folder or a published cross-encoder", needs=("model_name_or_path",)
    ),
    "qrels": TeacherRow(load_qrels_teacher, "takes judgements", needs=("qrels_path",)),
    "merged": TeacherRow(load_merged, "merges the verdicts of other teachers", needs=("merge_paths",)),
}
"""Teachers by name: those with sorts are a sort and an oracle that ask an engine."""

"""Teachers turn a query with its candidates into a group: the passages and a verdict on them."""

from __future__ import annotations

from tevatron_distill.teachers.pairwise import PairwiseTeacher
from tevatron_distill.teachers.qrels import QrelsTeacher
from tevatron_distill.teachers.verdicts import Teacher

__all__ = ["TEACHERS", "PairwiseTeacher", "QrelsTeacher", "Teacher"]

TEACHERS: dict[str, type[PairwiseTeacher] | type[QrelsTeacher]] = {
    "pairwise": PairwiseTeacher,
    "qrels": QrelsTeacher,
}

from __future__ import annotations

from tevatron_distill.schema import Candidates, Passage
from tevatron_distill.teachers import QrelsTeacher

PASSAGES = tuple(Passage(docid, docid) for docid in "abcde")


def test_candidates_stand_by_grade_and_then_as_the_first_stage_has_them():
    teacher = QrelsTeacher({"q1": {"b": 1, "d": 2, "e": 1, "c": -1, "elsewhere": 3}})
    [(_, group)] = teacher.teach([Candidates("q1", "?", PASSAGES, (5.0, 4.0, 3.0, 2.0, 1.0))])
    assert group.judgements == (0.0, 1.0, -1.0, 2.0, 1.0)
    assert group.permutation == (3, 1, 4, 0, 2)
    assert group.num_ranked == 3
    assert group.ranks() == (4, 2, 4, 1, 3)
    assert group.teacher == {"name": "qrels"}


def test_a_query_without_a_relevant_candidate_gets_no_group_and_is_counted():
    teacher = QrelsTeacher({"q1": {"a": 0, "elsewhere": 1}, "q3": {"a": 1}})
    scores = (5.0, 4.0, 3.0, 2.0, 1.0)
    taught = dict(teacher.teach([Candidates(query_id, "?", PASSAGES, scores) for query_id in ("q1", "q2", "q3")]))
    assert taught[0] is None
    assert taught[1] is None
    assert taught[2].num_ranked == 1
    assert teacher.report() == {"skipped": 2}

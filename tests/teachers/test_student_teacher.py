from __future__ import annotations

import pytest
from scripted import candidates_of, taught

from tevatron_distill.reranker import Reranker
from tevatron_distill.teachers.student import load_student_teacher


def test_a_cross_encoder_teaches_its_scores(bert_classifier_folder):
    block = [candidates_of(6), candidates_of(1, "q2")]
    groups = taught(load_student_teacher(str(bert_classifier_folder)), *block)
    expected = Reranker.from_pretrained(str(bert_classifier_folder)).score_candidates(block)
    for group, scores in zip(groups, expected, strict=True):
        assert group.scores == pytest.approx(scores, abs=1e-6)
        assert list(group.permutation) == sorted(range(len(scores)), key=lambda position: -scores[position])
        assert group.num_ranked == len(scores)
        assert group.teacher == {
            "name": "student",
            "student": "cross_encoder",
            "model": str(bert_classifier_folder),
        }

from __future__ import annotations

import pytest
from conftest import build_bert, build_causal, build_t5
from scripted import candidates_of, taught

from tevatron_distill.reranker import Reranker
from tevatron_distill.students import LoadOptions, load_student
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


KINDS = {
    "yes_token": (build_t5, ()),
    "colbert": (build_bert, ()),
    "pair_ranker": (build_bert, ()),
    "listwise": (build_causal, ("llama",)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_students_folder_is_a_teacher(kind, make_folder, tmp_path):
    build, arguments = KINDS[kind]
    student = load_student(str(make_folder(build, *arguments)), kind, options=LoadOptions(training=True), settings={})
    for part in (student.model, student.tokenizer):
        part.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    entry = candidates_of(5)
    [group] = taught(load_student_teacher(str(tmp_path)), entry)
    assert group.teacher["student"] == kind
    assert len(group.scores) == 5
    assert [docid for docid, _ in Reranker.from_pretrained(str(tmp_path)).rank(entry.query, entry.passages)] == [
        f"d{position}" for position in group.permutation
    ]

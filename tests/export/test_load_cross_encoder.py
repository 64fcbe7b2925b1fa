"""Any student as a CrossEncoder."""

from __future__ import annotations

import sys

import pytest
from exported_kinds import DOCUMENTS, QUERY, our_scores, trained

import tevatron_distill
from tevatron_distill.export import export_student
from tevatron_distill.schema import InputError

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="the extra `st` (sentence-transformers) is not installed"
)


@pytest.fixture
def student(make_folder, tmp_path_factory):
    return lambda name: trained(name, make_folder, tmp_path_factory)


@pytest.mark.parametrize("name", ["t5 yes", "t5 with lora", "llama yes", "bert", "passage first"])
def test_a_folder_as_training_leaves_it_scores_as_the_student(name, student):
    model = tevatron_distill.load_cross_encoder(str(student(name)), device="cpu")
    assert isinstance(model, sentence_transformers.CrossEncoder)
    pairs = [(QUERY, text) for text in DOCUMENTS]
    got = model.predict(pairs, batch_size=2, show_progress_bar=False).tolist()
    assert got == pytest.approx(our_scores(student(name)), abs=1e-5, rel=1e-5)
    ranked = [row["corpus_id"] for row in model.rank(QUERY, DOCUMENTS, show_progress_bar=False)]
    assert ranked == sorted(range(len(got)), key=got.__getitem__, reverse=True)


def test_an_exported_folder_is_opened_by_sentence_transformers_itself(student, tmp_path):
    export_student(str(student("llama yes")), tmp_path / "hub")
    model = tevatron_distill.load_cross_encoder(tmp_path / "hub", device="cpu")
    assert type(model[0]).__name__ == "Transformer"
    got = model.predict([(QUERY, text) for text in DOCUMENTS], show_progress_bar=False).tolist()
    assert got == pytest.approx(our_scores(student("llama yes")), abs=1e-4, rel=1e-4)


def test_a_t5_as_a_cross_encoder_is_saved_as_the_student(student, tmp_path):
    tevatron_distill.load_cross_encoder(student("t5 yes"), device="cpu").save_pretrained(str(tmp_path / "saved"))
    assert our_scores(tmp_path / "saved") == pytest.approx(our_scores(student("t5 yes")), abs=1e-5, rel=1e-5)


def test_a_student_of_several_passages_is_no_cross_encoder(student):
    with pytest.raises(InputError, match="scores one passage at a time, and pair_ranker does not"):
        tevatron_distill.load_cross_encoder(student("pairs"))


def test_a_missing_library_names_the_extra(student, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match=r"load_cross_encoder needs sentence-transformers: pip install .*\[st\]"):
        tevatron_distill.load_cross_encoder(student("t5 yes"))


@pytest.mark.parametrize("name", ["colbert", "colbert of pylate"])
def test_colbert_is_a_multi_vector_encoder(name, student, tmp_path):
    assert "sentence-transformers" in export_student(str(student(name)), tmp_path / "hub")
    model = sentence_transformers.MultiVectorEncoder(str(tmp_path / "hub"), device="cpu")
    query = model.encode_query([QUERY], show_progress_bar=False)
    texts = [text.strip() for text in DOCUMENTS]
    scores = model.similarity(query, model.encode_document(texts, show_progress_bar=False)).flatten().tolist()
    scale = 1.0 if name == "colbert of pylate" else 0.02
    assert [score / scale for score in scores] == pytest.approx(our_scores(student(name)), abs=1e-3, rel=1e-4)
    assert our_scores(tmp_path / "hub") == pytest.approx(our_scores(student(name)), abs=1e-4, rel=1e-5)


def test_simcls_is_a_bi_encoder(student, tmp_path):
    export_student(str(student("simcls")), tmp_path / "hub")
    model = sentence_transformers.SentenceTransformer(str(tmp_path / "hub"), device="cpu")
    [query] = model.encode_query([QUERY], show_progress_bar=False)
    passages = model.encode_document(DOCUMENTS, show_progress_bar=False)
    assert (passages @ query).tolist() == pytest.approx(our_scores(student("simcls")), abs=1e-4)

"""A folder for onnxruntime and tokenizers alone."""

from __future__ import annotations

import json

import numpy
import pytest
from exported_kinds import DOCUMENTS, QUERY, our_scores, trained
from tokenizers import Tokenizer

from tevatron_distill.export import export_student
from tevatron_distill.schema import InputError

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
SHORT = [place for place, text in enumerate(DOCUMENTS) if len(text) < 100]


@pytest.fixture
def student(make_folder, tmp_path_factory):
    return lambda name: trained(name, make_folder, tmp_path_factory)


def scores_without_torch(folder):
    """What a user writes."""
    record = json.loads((folder / "onnx.json").read_text())
    tokenizer, text = Tokenizer.from_file(str(folder / "tokenizer.json")), record["text"]
    if text is None:
        rows = tokenizer.encode_batch([(QUERY, DOCUMENTS[place].strip()) for place in SHORT])
    else:
        middle = text["opening"] + text["before"] + QUERY + text["between"]
        documents = [" ".join(DOCUMENTS[place].split()) for place in SHORT]
        rows = tokenizer.encode_batch([middle + document + text["behind"] + text["closing"] for document in documents])
    mask = numpy.array([row.attention_mask for row in rows])
    inputs = {
        "input_ids": numpy.array([row.ids for row in rows]),
        "attention_mask": mask,
        "token_type_ids": numpy.array([row.type_ids for row in rows]),
        "position_ids": (mask.cumsum(axis=1) - 1).clip(0),
    }
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {name: inputs[name] for name in record["inputs"]})
    cap = record["softcap"]
    return (logits if cap is None else cap * numpy.tanh(logits / cap))[:, 0].tolist()


@pytest.mark.parametrize("name", ["mistral yes", "bert", "t5 yes"])
def test_onnxruntime_and_tokenizers_score_as_the_student_does(name, student, tmp_path):
    differences = export_student(str(student(name)), tmp_path / "onnx", "onnx")
    assert list(differences) == ["onnxruntime and tokenizers"]
    ours = [our_scores(student(name))[place] for place in SHORT]
    assert scores_without_torch(tmp_path / "onnx") == pytest.approx(ours, abs=1e-4, rel=1e-4)
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    wanted = {"model.onnx", "onnx.json", "tokenizer.json", "config.json", "reranker_config.json"}
    assert names - {"README.md"} == wanted


def test_eight_bits_are_near_and_the_record_says_how_near(student, tmp_path, caplog):
    assert export_student(str(student("bert")), tmp_path / "onnx", "onnx", onnx_dtype="int8") == {}
    assert "int8 rounds: scores of a sample differ by" in caplog.text
    ours = [our_scores(student("bert"))[place] for place in SHORT]
    got = scores_without_torch(tmp_path / "onnx")
    assert got != pytest.approx(ours, abs=1e-6)
    assert got == pytest.approx(ours, abs=0.3)
    assert json.loads((tmp_path / "onnx" / "onnx.json").read_text())["dtype"] == "int8"


def test_rows_that_are_no_text_are_left_to_the_caller(student, tmp_path, caplog):
    export_student(str(student("passage first")), tmp_path / "onnx", "onnx")
    assert "make rows as the student does" in caplog.text


@pytest.mark.parametrize("name", ["pairs", "listwise"])
def test_a_student_of_several_passages_is_refused(name, student, tmp_path):
    with pytest.raises(
        InputError, match=r"--format onnx takes students that read one passage at a time.*formats that fit: hub"
    ):
        export_student(str(student(name)), tmp_path / "onnx", "onnx")
    assert not list(tmp_path.iterdir())

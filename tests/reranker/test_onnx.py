"""Students in onnxruntime: the scores of torch, made once, refused where they cannot be the same."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from conftest import WORDS, build_bert, build_causal, build_t5
from torch import nn

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from tevatron_distill.reranker import Reranker, onnx, onnx_int8
from tevatron_distill.reranker.onnx import OnnxModel, export_onnx, on_backend
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, load_student

LISTS = [
    Candidates(
        f"q{number}",
        " ".join(WORDS[: 1 + number]),
        tuple(Passage(f"d{place}", " ".join(WORDS[place:] * (1 + 3 * place))) for place in range(6)),
        (0.0,) * 6,
    )
    for number in range(3)
]
STUDENTS = {
    "bert": ((build_bert,), "cross_encoder"),
    "llama": ((build_causal, "llama"), "yes_token"),
    "qwen3": ((build_causal, "qwen3"), "yes_token"),
    "gemma2": ((build_causal, "gemma2"), "yes_token"),
    "t5": ((build_t5,), "yes_token"),
    "colbert": ((build_bert,), "colbert"),
    "simcls": ((build_bert,), "simcls"),
}


@pytest.fixture(scope="module")
def rerank(make_folder, tmp_path_factory):
    """A reranker of a tiny student whose scores differ, in a backend; exports are kept for the module."""
    cache = str(tmp_path_factory.mktemp("cache"))

    def load(name, backend="torch", onnx_dtype="float32", batch_tokens=None):
        build, student = STUDENTS[name]
        loaded = load_student(str(make_folder(*build, **({"head": True} if name == "bert" else {}))), student)
        torch.manual_seed(5)
        with torch.no_grad():
            for weight in loaded.model.eval().parameters():
                weight += 0.1 * torch.randn_like(weight)
        model = on_backend(loaded.model, loaded.layout, backend, onnx_dtype, cache)
        return Reranker(model, loaded.layout, "cpu", batch_tokens)

    return load


def flat(rows):
    return [score for row in rows for score in row]


@pytest.mark.parametrize("name", STUDENTS)
def test_scores_are_those_of_torch_at_any_number_and_length_of_rows(rerank, name):
    expected = flat(rerank(name).score_candidates(LISTS))
    for batch_tokens in (1, 600, 4096):
        got = flat(rerank(name, backend="onnx", batch_tokens=batch_tokens).score_candidates(LISTS))
        assert got == pytest.approx(expected, rel=1e-6, abs=1e-5)  # ColBERT's sums of 40 have float32's last digit
    assert max(expected) - min(expected) > 0.005


@pytest.mark.parametrize("name", ["bert", "llama", "t5", "colbert"])
def test_int8_scores_are_near(rerank, name):
    expected = torch.tensor(flat(rerank(name).score_candidates(LISTS)))
    got = torch.tensor(flat(rerank(name, backend="onnx", onnx_dtype="int8").score_candidates(LISTS)))
    assert not torch.equal(got, expected)
    assert (got - expected).abs().max() < 0.25 * (expected.max() - expected.min())


def test_a_student_is_exported_once_and_again_when_its_weights_change(bert_classifier_folder, tmp_path, monkeypatch):
    made = []
    real = onnx.export_onnx
    monkeypatch.setattr(onnx, "export_onnx", lambda *given: made.append(given[2]) or real(*given))
    loaded = load_student(str(bert_classifier_folder))
    loaded.model.eval()
    first = on_backend(loaded.model, loaded.layout, "onnx", cache_dir=str(tmp_path))
    again = on_backend(loaded.model, loaded.layout, "onnx", cache_dir=str(tmp_path))
    assert len(made) == 1
    assert again.record == first.record
    with torch.no_grad():
        loaded.model.classifier.bias += 1
    other = on_backend(loaded.model, loaded.layout, "onnx", cache_dir=str(tmp_path))
    assert len(made) == 2
    batch = loaded.layout.pad(loaded.layout.rows(LISTS[0]))
    assert torch.allclose(other(**batch)["logits"], first(**batch)["logits"] + 1, atol=1e-5)
    assert sorted(folder.name for folder in made[0].parent.iterdir()) == sorted(folder.name for folder in made)


def test_an_export_that_scores_otherwise_is_refused_and_leaves_nothing(bert_classifier_folder, tmp_path, monkeypatch):
    loaded = load_student(str(bert_classifier_folder))
    monkeypatch.setattr(OnnxModel, "_run", lambda self, inputs: torch.full((len(inputs["input_ids"]), 1), 9.0))
    with pytest.raises(InputError, match=r"must score as in torch, within 0\.0001"):
        export_onnx(loaded.model.eval(), loaded.layout, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_says_what_it_is(bert_classifier_folder, tmp_path):
    loaded = load_student(str(bert_classifier_folder))
    attention = loaded.model.config._attn_implementation
    export_onnx(loaded.model.eval(), loaded.layout, tmp_path / "out", "int8")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["model.onnx", "onnx.json"]
    record = json.loads((tmp_path / "out" / "onnx.json").read_text())
    assert record["dtype"] == "int8"
    assert record["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    assert 0 < record["difference"] < 1
    assert loaded.model.config._attn_implementation == attention


def test_int8_leaves_the_first_layers_way_back_and_attention_in_float32(make_folder, tmp_path):
    import onnx as library

    loaded = load_student(str(make_folder(build_causal, "llama")), "yes_token")
    for dtype in ("float32", "int8"):
        export_onnx(loaded.model.eval(), loaded.layout, tmp_path / dtype, dtype)
    graphs = [library.load(tmp_path / dtype / "model.onnx") for dtype in ("float32", "int8")]
    before, after = ([node.name for node in graph.graph.node if node.op_type == "MatMul"] for graph in graphs)
    ways_back = onnx_int8.ways_back(graphs[0], loaded.model.config.hidden_size)
    assert [name.split("/")[-2] for name in ways_back] == ["down_proj"] * loaded.model.config.num_hidden_layers
    assert {*ways_back} < {*after} < {*before}
    assert not any("up_proj" in name for name in after)


def test_a_feature_far_above_the_others_is_made_smaller_and_its_weights_larger():
    torch.manual_seed(0)
    inputs = torch.randn(1, 50, 8) * torch.tensor([1, 1, 40, 1, 1, 0, 1, 1])
    graph = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    weights, expected, seen = graph[0].weight.clone(), graph(inputs), []
    with onnx_int8.smoothed(graph, [{"inputs": inputs}], 8):
        handle = graph[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        assert torch.allclose(graph(inputs), expected, rtol=1e-5, atol=1e-6)
        handle.remove()
    spread = [largest.max() / largest.median() for largest in (x.abs().amax(dim=(0, 1)) for x in (inputs, *seen))]
    assert spread[1] < spread[0] / 4
    assert torch.equal(graph[0].weight, weights)
    assert torch.equal(graph(inputs), expected)


def test_what_cannot_be_exported_is_refused(bert_folder, bert_classifier_folder, tmp_path):
    pair = load_student(str(bert_folder), "pair_ranker", options=LoadOptions(training=True))
    with pytest.raises(InputError, match=r"one passage at a time .* got pair_ranker"):
        export_onnx(pair.model, pair.layout, tmp_path / "out")
    half = load_student(str(bert_classifier_folder), options=LoadOptions(dtype="bfloat16"))
    with pytest.raises(InputError, match=r"takes float32 weights; got torch\.bfloat16"):
        export_onnx(half.model, half.layout, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"found no onnx\.json"):
        OnnxModel(tmp_path / "empty")


@pytest.mark.parametrize("missing", onnx.PACKAGES)
def test_without_the_extra_it_is_named(bert_classifier_folder, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=rf"--backend onnx needs {missing}: pip install .*\[onnx\]"):
        on_backend(None, None, "onnx")


def test_a_gpu_is_not_its_place(rerank):
    model = rerank("bert", backend="onnx").model
    with pytest.raises(InputError, match="runs on the CPU; got cuda"):
        model.to("cuda")


def test_passage_vectors_of_int8_are_not_those_of_torch(rerank, tmp_path):
    rerank("colbert").use_passage_vectors(tmp_path / "vectors", LISTS)
    with pytest.raises(InputError, match="another student"):
        rerank("colbert", backend="onnx", onnx_dtype="int8").use_passage_vectors(tmp_path / "vectors", LISTS)

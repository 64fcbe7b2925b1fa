"""ColBERT elsewhere: sentence-transformers, transformers and onnxruntime score as the student does."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from conftest import build_bert
from exported_kinds import DOCUMENTS, QUERY, build_roberta
from safetensors import safe_open

from tevatron_distill.export import export_student, multi_vector, onnx_vectors
from tevatron_distill.export.snippets import snippets
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadOptions, LoraOptions, load_student

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="the extra `st` (sentence-transformers) is not installed"
)
CUT = {"query_max_len": 12, "passage_max_len": 24}
LONG_QUERY = f"{QUERY} or is it that the dog has two red cats, one of which is blue?"
PYLATE = {"colbert_convention": "pylate", "colbert_dim": 16, **CUT, "query_max_len": 16}
STUDENTS = {
    "mean": (build_bert, CUT),
    "mean, projected": (build_bert, {"colbert_dim": 16, "temperature": 0.5}),
    "mean with prefixes": (build_bert, {"query_prefix": "query:", "passage_prefix": "text: {}", **CUT}),
    "mean, no special tokens": (build_bert, {"count_special_tokens": False}),
    "mean with lora": (build_bert, {"colbert_dim": 16}),
    "mean, bytes": (build_roberta, {"passage_prefix": "text:"}),
    "pylate": (build_bert, PYLATE),
    "pylate, attended": (build_bert, {**PYLATE, "attend_to_expansion": True, "skiplist": (",", "the", "nowhere")}),
    "pylate, bytes": (build_roberta, {**PYLATE, "skiplist": ("?",)}),
    "pylate, long": (build_bert, {**PYLATE, "query_expansion": False, "query_marker": "", "temperature": 0.1}),
}
OTHERS = {
    "open-retrievals": (build_bert, {"colbert_convention": "open_retrievals", "colbert_dim": 16, **CUT}),
    "mutual": (build_bert, {"colbert_convention": "mutual", **CUT}),
    "two lengths": (build_bert, {"query_max_len": 12}),
    "words behind": (build_bert, {"query_prefix": "is {} red", **CUT}),
    "simcls": (build_bert, {"query_prefix": "query:", "temperature": 0.05}),
}
_made: dict = {}


@pytest.fixture
def student(make_folder, tmp_path_factory):
    """A student's folder as training leaves it, its vectors so far apart that each token matters."""

    def make(name):
        if name not in _made:
            build, settings = {**STUDENTS, **OTHERS}[name]
            kind = "simcls" if name in ("simcls", "two lengths") else "colbert"
            lora = LoraOptions(r=4, target_modules="query,value") if "lora" in name else None
            torch.manual_seed(3)
            loaded = load_student(
                str(make_folder(build, *(("modernbert",) if build is build_roberta else ()))),
                kind,
                options=LoadOptions(training=True, lora=lora),
                settings=settings,
            )
            with torch.no_grad():
                for weight in loaded.model.parameters():
                    if weight.requires_grad:
                        weight += 0.1 * torch.randn_like(weight)
            folder = tmp_path_factory.mktemp("student")
            loaded.model.save_pretrained(folder)
            loaded.tokenizer.save_pretrained(folder)
            loaded.layout.settings.save(folder)
            _made[name] = folder
        return _made[name]

    return make


def student_scores(folder):
    """Of texts that the student cuts, and of such that it does not."""
    return Reranker.from_pretrained(str(folder), device="cpu").compute_score([[LONG_QUERY, text] for text in DOCUMENTS])


def near(scores):
    """As near as sums and quotients of float32 come."""
    return pytest.approx(scores, abs=1e-4, rel=1e-4)


def pasted(folder, format):
    """What each snippet of the card says of the texts, without our own."""
    found = {}
    for one in snippets(folder, format, str(folder)):
        scope = {"query": LONG_QUERY, "passages": DOCUMENTS}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries, which are not ours
            if not one.library.endswith("tevatron_distill"):
                exec(one.code, scope)
                found[one.library] = scope["scores"]
    return found


@pytest.mark.parametrize("name", STUDENTS)
def test_transformers_and_sentence_transformers_score_an_exported_folder_as_we_do(name, student, tmp_path):
    differences = export_student(str(student(name)), tmp_path / "hub")
    assert differences.keys() == {"transformers", "sentence-transformers", "tevatron_distill"}
    ours = student_scores(student(name))
    assert len({round(score, 2) for score in ours}) > 3
    got = pasted(tmp_path / "hub", "hub")
    assert got == {"transformers": near(ours), "sentence-transformers": near(ours)}
    assert student_scores(tmp_path / "hub") == pytest.approx(ours, abs=1e-6, rel=1e-6)
    with safe_open(tmp_path / "hub" / "model.safetensors", framework="pt") as weights:
        assert not [key for key in weights.keys() if "linear" in key or "lora" in key]  # noqa: SIM118  no mapping
    load_student(str(tmp_path / "hub"), options=LoadOptions(training=True))  # and is learned from there


@pytest.mark.parametrize(
    "name", ["mean, projected", "mean with prefixes", "mean, bytes", "pylate", *sorted(OTHERS.keys() - {"mutual"})]
)
def test_onnxruntime_tokenizers_and_numpy_score_an_exported_folder_as_we_do(name, student, tmp_path):
    differences = export_student(str(student(name)), tmp_path / "onnx", "onnx")
    assert differences.keys() == {"onnxruntime and tokenizers"}
    assert pasted(tmp_path / "onnx", "onnx") == {"onnxruntime": near(student_scores(student(name)))}


def test_simcls_with_prefixes_and_a_temperature_is_scored_alike_too(student, tmp_path):
    export_student(str(student("simcls")), tmp_path / "hub")
    ours = near(student_scores(student("simcls")))
    assert pasted(tmp_path / "hub", "hub") == {"transformers": ours, "sentence-transformers": ours}


def test_an_exported_folder_is_exported_again_as_it_is(student, tmp_path):
    export_student(str(student("pylate")), tmp_path / "hub")
    export_student(str(tmp_path / "hub"), tmp_path / "again")
    for path in (tmp_path / "hub").rglob("*.json"):
        again = tmp_path / "again" / path.relative_to(tmp_path / "hub")
        assert json.loads(path.read_text()) == json.loads(again.read_text()), path.name


def test_eight_bits_round_and_the_card_says_how_much(student, tmp_path):
    export_student(str(student("mean")), tmp_path / "onnx", "onnx", onnx_dtype="int8")
    ours, got = student_scores(student("mean")), pasted(tmp_path / "onnx", "onnx")["onnxruntime"]
    assert got != near(ours)
    assert got == pytest.approx(ours, abs=2.5, rel=0.05)
    difference = json.loads((tmp_path / "onnx" / "onnx.json").read_text())["difference"]
    said = (tmp_path / "onnx" / "README.md").read_text()
    assert "Int8 rounds: scores of a sample, up to " in said
    assert f"differ by {difference:.2g}." in said


SPOILED = {
    "mean or sum": ("mean", "config_sentence_transformers.json", {"similarity_fn_name": "maxsim"}),
    "prefixes": ("mean with prefixes", "config_sentence_transformers.json", {"prompts": {}}),
    "special tokens": ("mean, no special tokens", "1_MultiVectorMask/config.json", {"skiplist_words": []}),
    "projection": ("mean, projected", "1_Dense/config.json", {"activation_function": "torch.nn.Tanh"}),
    "skiplist": ("pylate", "2_MultiVectorMask/config.json", {"skiplist_words": ["[CLS]", "[SEP]"]}),
    "expansion": ("pylate", "sentence_bert_config.json", {"query_expansion": None}),
    "length of expansion": (
        "pylate",
        "sentence_bert_config.json",
        {"query_length": None, "query_expansion": {"strategy": "fixed", "length": 20}},
    ),
    "attention": (
        "pylate, attended",
        "sentence_bert_config.json",
        {"query_expansion": {"strategy": "fixed", "length": 16}},
    ),
    "markers": ("pylate", "config_sentence_transformers.json", {"prompts": {}}),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_folder_that_scores_otherwise_is_not_published(name, student, tmp_path, monkeypatch):
    source, file, values = SPOILED[name]
    write = multi_vector.write_sentence_files

    def spoil(folder, *rest):
        write(folder, *rest)
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    monkeypatch.setattr(multi_vector, "write_sentence_files", spoil)
    with pytest.raises(InputError, match=r"by sentence-transformers it is .* off .*nothing was written"):
        export_student(str(student(source)), tmp_path / "hub")
    assert not list(tmp_path.iterdir())


def test_a_forgotten_temperature_is_found(student, tmp_path, monkeypatch):
    for module in (multi_vector, onnx_vectors):
        rows = module.vector_rows
        monkeypatch.setattr(module, "vector_rows", lambda *given, rows=rows: rows(*given)._replace(temperature=1.0))
    for format in ("hub", "onnx"):
        with pytest.raises(InputError, match="must score as its source does"):
            export_student(str(student("mean")), tmp_path / format, format)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("open-retrievals", "cannot leave the first token out"),
        ("words behind", "none behind it"),
        ("two lengths", "passages of one length"),
    ],
)
def test_what_sentence_transformers_cannot_do_is_refused_with_what_fits(name, said, student, tmp_path):
    with pytest.raises(InputError, match=rf"--format hub .*{said}.*; formats that fit: onnx$"):
        export_student(str(student(name)), tmp_path / "hub")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["hub", "onnx"])
def test_scores_in_both_directions_are_nobody_elses(format, student, tmp_path):
    with pytest.raises(InputError, match=r"mutual scores in both directions.* cannot be exported"):
        export_student(str(student("mutual")), tmp_path / "exported", format=format)
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_makes_other_rows_is_not_published(student, tmp_path, monkeypatch):
    monkeypatch.setattr("tevatron_distill.export.vector_rows.affixes", lambda prefix: ("", "", False))
    for format in ("hub", "onnx"):
        with pytest.raises(InputError, match="makes other rows of 'what is a reranker"):
            export_student(str(student("mean with prefixes")), tmp_path / format, format)


def test_a_folder_of_other_modules_is_still_refused_without_the_students_settings(student, tmp_path):
    export_student(str(student("pylate")), tmp_path / "hub")
    (tmp_path / "hub" / "reranker_config.json").unlink()
    with pytest.raises(InputError, match="one linear layer; got Transformer, Dense, MultiVectorMask, Normalize"):
        load_student(str(tmp_path / "hub"), "colbert")


def test_snippets_of_a_folder_name_it_even_if_it_is_called_like_a_model_on_the_hub(student, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    export_student(str(student("mean")), "exported/onnx", "onnx")
    assert 'folder = "exported/onnx"' in (tmp_path / "exported" / "onnx" / "README.md").read_text()


def test_snippets_of_a_name_on_the_hub_fetch_the_projection(student, tmp_path):
    export_student(str(student("mean, projected")), tmp_path / "hub")
    code = {one.library: one.code for one in snippets(tmp_path / "hub", "hub", "org/student", on_hub=True)}
    assert 'load_file(hf_hub_download("org/student", "1_Dense/model.safetensors"))' in code["transformers"]
    compile(code["transformers"], "card", "exec")

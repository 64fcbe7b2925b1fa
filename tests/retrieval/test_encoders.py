"""Vectors of texts: equal to sentence-transformers' and to Tevatron's, whatever stands in the batch."""

from __future__ import annotations

import json
import logging
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

from tevatron_distill import loading
from tevatron_distill.retrieval.encoder_settings import DTYPES, POOLINGS, EncoderSettings
from tevatron_distill.retrieval.encoders import POOLINGS as FUNCTIONS
from tevatron_distill.retrieval.encoders import EncoderOptions, LibraryEncoder, TransformerEncoder, load_encoder
from tevatron_distill.schema import InputError

TEXTS = ["red", "the cat sat on the mat and looked at the dog", "green blue", "one two three " * 20, "Yes No"]
DENSE = {"in_features": 32, "out_features": 8, "bias": True}


def sentence_folder(base, folder, pooling, *, dense=None, normalize=False, said=None, transformer=None):
    """A folder of sentence-transformers around a tiny model."""
    shutil.copytree(base, folder)
    kinds = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if normalize else [])]
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{kind}" if n else "", "type": f"sentence_transformers.models.{kind}"}
        for n, kind in enumerate(kinds)
    ]
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": False, **(transformer or {})},
        "config_sentence_transformers.json": said or {},
        "1_Pooling/config.json": {"word_embedding_dimension": 32, **pooling},
        **({"2_Dense/config.json": {**DENSE, "activation_function": dense}} if dense else {}),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    if dense:
        torch.manual_seed(0)
        save_file(
            {"linear.weight": torch.randn(8, 32), "linear.bias": torch.randn(8)}, folder / "2_Dense/model.safetensors"
        )
    return folder


def theirs(folder, side, normalize):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu")
    encode = model.encode_query if side == "query" else model.encode_document
    return encode(TEXTS, normalize_embeddings=normalize, show_progress_bar=False)


FOLDERS = {
    "cls": ("bert_folder", {"pooling_mode_cls_token": True}, {}),
    "mean, normalised": ("bert_folder", {"pooling_mode_mean_tokens": True}, {"normalize": True}),
    "prompts": (
        "bert_folder",
        {"pooling_mode": "mean"},
        {"said": {"prompts": {"query": "query: ", "document": "passage: "}, "similarity_fn_name": "dot"}},
    ),
    "dense": ("bert_folder", {"pooling_mode": "mean"}, {"dense": "torch.nn.modules.activation.Tanh"}),
    "last of a decoder": (
        "llama_folder",
        {"pooling_mode": "lasttoken"},
        {"normalize": True, "said": {"prompts": {"query": "Instruct: find\nQuery:"}}},
    ),
    "t5": ("t5_folder", {"pooling_mode": "mean"}, {"transformer": {"max_seq_length": None}}),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_plain_folder_gives_the_vectors_of_its_own_library(name, request, tmp_path):
    base, pooling, more = FOLDERS[name]
    folder = sentence_folder(request.getfixturevalue(base), tmp_path / "folder", pooling, **more)
    encoder = load_encoder(str(folder), EncoderSettings(), EncoderOptions())
    assert isinstance(encoder, TransformerEncoder)
    cosine = more.get("said", {}).get("similarity_fn_name", "cosine") == "cosine"
    for side in ("query", "passage"):
        vectors = encoder.encode(TEXTS, side)
        assert vectors.shape == (len(TEXTS), encoder.dimension)
        np.testing.assert_allclose(vectors, theirs(folder, side, normalize=cosine), rtol=1e-4, atol=1e-5)


def test_a_transformer_in_a_folder_of_its_own_is_found(bert_folder, tmp_path):
    plain = sentence_folder(bert_folder, tmp_path / "plain", {"pooling_mode": "mean"})
    nested = tmp_path / "nested"
    shutil.copytree(plain, nested / "0_Transformer", ignore=shutil.ignore_patterns("modules.json", "1_Pooling"))
    shutil.copytree(plain / "1_Pooling", nested / "1_Pooling")
    modules = json.loads((plain / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (nested / "modules.json").write_text(json.dumps(modules))
    vectors = [
        load_encoder(str(one), EncoderSettings(), EncoderOptions()).encode(TEXTS, "query") for one in (plain, nested)
    ]
    np.testing.assert_array_equal(*vectors)


def test_a_prompt_that_is_named_passage_is_the_one_of_passages(bert_folder, tmp_path):
    # sentence-transformers 6.2's encode_document means to take it, and takes the empty one of its own "document"
    from sentence_transformers import SentenceTransformer

    said = {"prompts": {"query": "query: ", "passage": "passage: "}}
    folder = sentence_folder(bert_folder, tmp_path / "folder", {"pooling_mode": "mean"}, normalize=True, said=said)
    vectors = load_encoder(str(folder), EncoderSettings(), EncoderOptions()).encode(TEXTS, "passage")
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, prompt_name="passage")
    np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-5)
    unsaid = load_encoder(str(folder), EncoderSettings(passage_prefix=""), EncoderOptions()).encode(TEXTS, "passage")
    assert np.abs(unsaid - vectors).max() > 1e-3


@pytest.mark.parametrize(
    ("pooling", "transformer"),
    [
        ({"pooling_mode": "max"}, {}),
        ({"pooling_mode": "mean"}, {"do_lower_case": True}),
        ({"pooling_mode": "mean"}, {"model_args": {"attn_implementation": "eager"}}),
    ],
)
def test_a_strange_folder_is_run_by_its_own_library(pooling, transformer, bert_folder, tmp_path):
    said = {"prompts": {"query": "query: ", "document": ""}}
    folder = sentence_folder(bert_folder, tmp_path / "folder", pooling, transformer=transformer, said=said)
    encoder = load_encoder(str(folder), EncoderSettings(), EncoderOptions())
    assert isinstance(encoder, LibraryEncoder)
    for side in ("query", "passage"):
        np.testing.assert_allclose(encoder.encode(TEXTS, side), theirs(folder, side, True), rtol=1e-4, atol=1e-5)
    assert encoder.dimension == 32
    assert json.loads(json.dumps(encoder.made_of())) == encoder.made_of()
    with pytest.raises(InputError, match=r"run by sentence-transformers as it stands; leave out --pooling"):
        load_encoder(str(folder), EncoderSettings(pooling="mean"), EncoderOptions())


def test_without_the_library_plain_folders_work_and_strange_ones_name_the_extra(bert_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    plain = sentence_folder(bert_folder, tmp_path / "plain", {"pooling_mode": "mean"})
    assert load_encoder(str(plain), EncoderSettings(), EncoderOptions()).encode(["red"], "query").shape == (1, 32)
    strange = sentence_folder(bert_folder, tmp_path / "strange", {"pooling_mode": "max"})
    with pytest.raises(InputError, match=r"its pooling is max\) needs sentence-transformers: pip install .*\[st\]"):
        load_encoder(str(strange), EncoderSettings(), EncoderOptions())


def test_folders_compared_by_distances_are_refused(bert_folder, tmp_path):
    folder = sentence_folder(
        bert_folder, tmp_path / "f", {"pooling_mode": "mean"}, said={"similarity_fn_name": "euclidean"}
    )
    with pytest.raises(InputError, match="compared by cosine or dot; its folder says euclidean"):
        load_encoder(str(folder), EncoderSettings(), EncoderOptions())


def alone(folder, text, pooling, length, ends=()):
    """A text's vector without padding, by transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    ids = [*tokenizer(text, truncation=True, max_length=length - len(ends))["input_ids"], *ends]
    with torch.no_grad():
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return {"cls": hidden[0], "mean": hidden.mean(0), "last": hidden[-1]}[pooling].numpy()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("base", ["bert_folder", "llama_folder"])
def test_a_text_has_the_vector_that_it_has_alone(base, pooling, request):
    folder = request.getfixturevalue(base)
    asked = EncoderSettings(pooling=pooling, query_prefix="Question: ", query_max_len=24)
    vectors = load_encoder(str(folder), asked, EncoderOptions(batch_tokens=64)).encode(TEXTS, "query")
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, alone(folder, f"Question: {text}", pooling, 24), rtol=1e-4, atol=1e-5)


def test_the_end_of_sequence_is_appended_within_the_length(llama_folder):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    asked = EncoderSettings(pooling="last", passage_max_len=10, append_eos_token=True)
    vectors = load_encoder(str(llama_folder), asked, EncoderOptions()).encode(TEXTS, "passage")
    for text, vector in zip(TEXTS, vectors, strict=True):
        expected = alone(llama_folder, text, "last", 10, [tokenizer.eos_token_id])
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("base", "pooling"), [("bert_folder", "cls"), ("llama_folder", "last")])
def test_a_folder_that_says_nothing_has_tevatrons_defaults(base, pooling, request, caplog):
    folder = str(request.getfixturevalue(base))
    with caplog.at_level(logging.WARNING):
        encoder = load_encoder(folder, EncoderSettings(), EncoderOptions())
    assert encoder.settings == EncoderSettings(pooling, False, "", "", 32, 128, False)
    assert f"taking --pooling {pooling}" in caplog.text
    caplog.clear()
    load_encoder(folder, EncoderSettings(pooling="mean", normalize=True), EncoderOptions())
    assert "taking" not in caplog.text


def test_lengths_keep_within_what_the_model_can_take(bert_folder):
    asked = EncoderSettings(pooling="mean", passage_max_len=100_000)
    encoder = load_encoder(str(bert_folder), asked, EncoderOptions())
    assert encoder.settings.passage_max_len == 512
    assert encoder.encode(["red " * 3000], "passage").shape == (1, 32)


def test_an_adapter_is_put_on_its_base_whoever_names_it(llama_folder, tmp_path):
    peft = pytest.importorskip("peft")
    base = AutoModel.from_pretrained(llama_folder)
    torch.manual_seed(3)
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False, task_type="FEATURE_EXTRACTION")
    adapted = peft.get_peft_model(base, config)
    adapted.peft_config["default"].base_model_name_or_path = str(llama_folder)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(llama_folder).save_pretrained(tmp_path / "merged")
    asked = EncoderSettings(pooling="last")
    merged = load_encoder(str(tmp_path / "merged"), asked, EncoderOptions()).encode(TEXTS, "query")
    itself = load_encoder(str(tmp_path / "adapter"), asked, EncoderOptions()).encode(TEXTS, "query")
    options = EncoderOptions(lora_name_or_path=str(tmp_path / "adapter"))
    named = load_encoder(str(llama_folder), asked, options).encode(TEXTS, "query")
    np.testing.assert_allclose(itself, merged, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(named, merged, rtol=1e-4, atol=1e-5)
    assert np.abs(merged - load_encoder(str(llama_folder), asked, EncoderOptions()).encode(TEXTS, "query")).max() > 1e-3
    with pytest.raises(InputError, match="is an adapter itself"):
        load_encoder(str(tmp_path / "adapter"), asked, options)


def test_missing_weights_are_refused(bert_folder, tmp_path):
    folder = tmp_path / "poor"
    shutil.copytree(bert_folder, folder)
    model = AutoModel.from_pretrained(bert_folder)
    weights = {name: tensor for name, tensor in model.state_dict().items() if "layer.1." not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"weights are missing and would be random: .*layer\.1\."):
        load_encoder(str(folder), EncoderSettings(pooling="mean"), EncoderOptions())


def test_what_passages_are_made_of_changes_with_all_that_changes_them(bert_folder, llama_folder):
    def made_of(folder=bert_folder, dtype=None, **asked):
        settings = EncoderSettings(**{"pooling": "mean", **asked})
        return load_encoder(str(folder), settings, EncoderOptions(dtype=dtype)).made_of()

    same = made_of()
    assert made_of(query_prefix="query: ", query_max_len=7) == same
    others = [
        made_of(llama_folder),
        made_of(dtype="bfloat16"),
        made_of(pooling="cls"),
        made_of(normalize=True),
        made_of(passage_prefix="passage: "),
        made_of(passage_max_len=9),
    ]
    assert all(other != same for other in others)


def test_the_names_of_flags_are_those_of_the_tables():
    assert list(POOLINGS) == list(FUNCTIONS)
    assert list(DTYPES) == list(loading.DTYPES)


def test_minilm_gives_the_vectors_of_its_own_library(minilm_folder):
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(str(minilm_folder), EncoderSettings(), EncoderOptions())
    model = SentenceTransformer(str(minilm_folder), device="cpu")
    assert encoder.settings == EncoderSettings("mean", True, "", "", 256, 256, False)
    np.testing.assert_allclose(encoder.encode(TEXTS, "passage"), model.encode(TEXTS), rtol=0, atol=1e-4)

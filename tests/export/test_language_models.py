"""Students as the language models they came from: the published snippets score as the student does."""

from __future__ import annotations

import json

import pytest
import torch
from exported_kinds import DOCUMENTS, QUERY, our_scores, trained
from safetensors.torch import load_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, T5ForConditionalGeneration

from tevatron_distill.arguments import export as arguments
from tevatron_distill.driver import export as driver
from tevatron_distill.export import EXPORTS, export_student
from tevatron_distill.reranker.onnx import ONNX_DTYPES
from tevatron_distill.schema import InputError
from tevatron_distill.students import load_student

PAIRS = [(QUERY, text) for text in DOCUMENTS]
SHORT = [text for text in DOCUMENTS if len(text) < 100]


@pytest.fixture
def student(make_folder, tmp_path_factory):
    return lambda name: trained(name, make_folder, tmp_path_factory)


def snippet_prompt(passage):
    """The published student's prompt, written out."""
    return (
        "Predict whether the given passage answer the question.\n\n"
        f"Question: {QUERY}\n\nPassage: {' '.join(passage.split()[:200])}\n\nDoes the passage answer the question?"
    )


def short_scores(folder):
    return [score for score, text in zip(our_scores(folder), DOCUMENTS, strict=True) if text in SHORT]


@pytest.mark.parametrize("name", ["llama yes", "mistral yes", "llama with lora", "gemma2 yes"])
def test_instruct_distills_snippet_reads_the_yes_row_in_the_head(name, student, tmp_path):
    export_student(str(student(name)), tmp_path / "lm", "causal_lm")
    settings = json.loads((tmp_path / "lm" / "reranker_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "lm", padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "lm").eval()
    inputs = tokenizer([snippet_prompt(text) for text in SHORT], return_tensors="pt", padding=True)
    with torch.no_grad():
        got = model(**inputs).logits[:, -1, settings["yes_token_id"]].tolist()
    assert got == pytest.approx(short_scores(student(name)), abs=1e-4, rel=1e-4)
    assert our_scores(tmp_path / "lm") == pytest.approx(our_scores(student(name)), abs=1e-5, rel=1e-5)


def test_the_embedding_of_yes_stays_where_the_head_was_tied(student, tmp_path):
    folder = student("qwen3 yes")
    export_student(str(folder), tmp_path / "lm", "causal_lm")
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "lm" / "model.safetensors")
    embeddings, head = after["model.embed_tokens.weight"], after["lm_head.weight"]
    yes = load_student(str(folder)).layout.settings.yes_token_id
    assert torch.equal(embeddings, before["model.embed_tokens.weight"])
    assert torch.equal(head[yes], before["score.weight"][0])
    others = torch.arange(len(head)) != yes
    assert torch.equal(head[others], embeddings[others])  # so that it can write as before
    assert json.loads((tmp_path / "lm" / "config.json").read_text())["tie_word_embeddings"] is False


def test_an_adapters_base_gives_the_other_rows_of_the_head(student, tmp_path, llama_folder):
    export_student(str(student("llama with lora")), tmp_path / "lm", "causal_lm")
    base, after = load_file(llama_folder / "model.safetensors"), load_file(tmp_path / "lm" / "model.safetensors")
    same = (base["lm_head.weight"] == after["lm_head.weight"]).all(dim=1)
    assert int((~same).sum()) == 1


def test_the_word_is_the_students_and_not_a_lower_case_yes(student, tmp_path):
    """Trap: sentence-transformers takes "yes" less "no" of a language model that says nothing."""
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="the extra `st` is not installed")
    export_student(str(student("qwen3 as published")), tmp_path / "lm", "causal_lm")
    model = sentence_transformers.CrossEncoder(str(tmp_path / "lm"), device="cpu")
    said, tokenizer = model[1], model.tokenizer
    assert [tokenizer.convert_ids_to_tokens(one) for one in (said.true_token_id, said.false_token_id)] == ["Yes", "No"]
    ours = our_scores(student("qwen3 as published"))
    assert model.predict(PAIRS, show_progress_bar=False).tolist() == pytest.approx(ours, abs=1e-4, rel=1e-4)


def test_a_prompt_with_the_passage_first_has_no_files_of_sentence_transformers(student, tmp_path, caplog):
    export_student(str(student("passage first")), tmp_path / "lm", "causal_lm")
    assert "would cut long rows at the query" in caplog.text
    assert "the head has the answer's rows alone" in caplog.text
    assert not (tmp_path / "lm" / "modules.json").exists()


@pytest.mark.parametrize("name", ["t5 yes", "t5 true - false"])
def test_t5_is_what_transformers_4_and_5_read_alike(name, student, tmp_path):
    """Trap: transformers 5 writes "tied" of an untied head; transformers 4 then ties and scales."""
    export_student(str(student(name)), tmp_path / "t5")  # --format hub
    config = json.loads((tmp_path / "t5" / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert config["architectures"] == ["T5ForConditionalGeneration"]
    tokenizer_config = json.loads((tmp_path / "t5" / "tokenizer_config.json").read_text())
    assert tokenizer_config["tokenizer_class"] == "PreTrainedTokenizerFast"
    state = load_file(tmp_path / "t5" / "model.safetensors")
    model = T5ForConditionalGeneration.from_pretrained(tmp_path / "t5").eval()
    settings = load_student(str(student(name))).layout.settings
    start = torch.zeros(1, 1, dtype=torch.long)
    for text, expected in zip(SHORT, short_scores(student(name)), strict=True):
        prompt = snippet_prompt(text) if name == "t5 yes" else f"Query: {QUERY} Document: {text.strip()} Relevant: "
        ids = AutoTokenizer.from_pretrained(tmp_path / "t5")(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            out = model(input_ids=ids, decoder_input_ids=start, output_hidden_states=True)
            hidden = out.decoder_hidden_states[-1][0, 0]
            # transformers 4: ties by the flag, and scales what it ties
            rows = state["shared.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
            by_4 = functional.linear(hidden * (32**-0.5 if config["tie_word_embeddings"] else 1), rows)
        for logits in (out.logits[0, 0], by_4):
            no = logits[settings.no_token_id] if settings.no_token_id is not None else 0
            assert float(logits[settings.yes_token_id] - no) == pytest.approx(expected, abs=1e-4, rel=1e-4)


def test_a_listwise_student_is_a_plain_language_model(student, tmp_path):
    differences = export_student(str(student("listwise")), tmp_path / "lm")
    assert differences.keys() == {"transformers", "tevatron_distill"}
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "lm").generate(torch.tensor([[3, 4]]), max_new_tokens=1).ndim


def test_t5_in_another_form_is_refused_with_what_fits(student, tmp_path):
    with pytest.raises(InputError, match=r"causal language model.*formats that fit: hub, seq2seq_lm, onnx"):
        export_student(str(student("t5 yes")), tmp_path / "x", "causal_lm")
    with pytest.raises(InputError, match=r"is T5 that answers by a token.*formats that fit: hub, causal_lm, onnx"):
        export_student(str(student("llama yes")), tmp_path / "x", "seq2seq_lm")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["llama with lora", "bert with lora"])
def test_sentence_transformers_opens_an_adapter(name, student, tmp_path, caplog):
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="the extra `st` is not installed")
    differences = export_student(str(student(name)), tmp_path / "adapter", "adapter")
    assert {"transformers and peft", "sentence-transformers", "tevatron_distill"} == differences.keys()
    assert "a folder of this machine" in caplog.text
    assert not (tmp_path / "adapter" / "model.safetensors").exists()
    model = sentence_transformers.CrossEncoder(str(tmp_path / "adapter"), device="cpu")
    pairs = [(QUERY, text.strip()) for text in DOCUMENTS]
    assert model.predict(pairs, show_progress_bar=False).tolist() == pytest.approx(
        our_scores(student(name)), abs=1e-4, rel=1e-4
    )


def test_an_adapter_of_t5_is_opened_by_peft(student, tmp_path):
    assert "transformers and peft" in export_student(str(student("t5 with lora")), tmp_path / "adapter", "adapter")


@pytest.mark.parametrize("name", ["llama yes", "pairs"])
def test_what_is_no_adapter_is_refused(name, student, tmp_path):
    with pytest.raises(InputError, match=r"takes an adapter of a cross-encoder or a language model"):
        export_student(str(student(name)), tmp_path / "adapter", "adapter")


def test_the_command_exports_a_students_folder_and_a_checkpoint(student, tmp_path, caplog):
    caplog.set_level("INFO")
    words = ["--model_name_or_path", str(student("bert")), "--output_dir", str(tmp_path / "hub")]
    driver.main(words)
    assert "scores of a sample differ from the source's by: transformers" in caplog.text
    words[:2] = ["--checkpoint", str(tmp_path / "hub")]
    driver.main([*words[:3], str(tmp_path / "deep" / "onnx"), "--format", "onnx"])
    assert (tmp_path / "deep" / "onnx" / "model.onnx").is_file()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["onnx"]


def test_the_flags_choices_are_the_tables():
    assert (tuple(EXPORTS), ONNX_DTYPES) == (arguments.FORMATS, arguments.ONNX_DTYPES)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--merge", "--format", "hub", "--model_name_or_path", "x"], "--merge is --format merged; got --format hub"),
        (["--checkpoint", "x", "--model_name_or_path", "y"], "say what to export.*got both"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        driver.main([*words, "--output_dir", "out"])

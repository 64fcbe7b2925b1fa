"""The Yes row equals the language model's own logit; published snippets are reproduced; the prompt is never eaten."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import build_causal, build_t5, train_byte_level
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    CohereConfig,
    GraniteConfig,
    T5ForConditionalGeneration,
)

from tevatron_distill.prompts import STUDENT_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadedStudent, LoadOptions, load_student
from tevatron_distill.students.yes_token import answer_token

PASSAGES = (
    Passage("a", "one two three", "the title"),
    Passage("b", "a reranker orders passages by relevance " * 5),
    Passage("c", "cat"),
)
CANDIDATES = [Candidates("q", "what is a reranker?", PASSAGES, ())]
PROMPT = STUDENT_PROMPTS["instructdistill"]


def snippet_prompt(query: str, passage: Passage) -> str:
    """The published student's prompt, written out."""
    text = f"Title: {passage.title} Content: {passage.text}" if passage.title else passage.text
    text = " ".join(text.split()[:200])
    return (
        "Predict whether the given passage answer the question.\n\n"
        f"Question: {query}\n\nPassage: {text}\n\nDoes the passage answer the question?"
    )


def logits_of(student: LoadedStudent, candidates=CANDIDATES) -> list[float]:
    batch = student.layout.collate(candidates)
    student.model.eval()
    with torch.no_grad():
        outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    return student.layout.row_scores(outputs).tolist()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gemma2"])
def test_the_yes_row_equals_the_full_vocabularys_logit(make_folder, architecture, tied):
    folder = make_folder(build_causal, architecture, tied=tied)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    if architecture == "gemma2":
        assert model.config.final_logit_softcapping == 30.0
    tokenizer.padding_side = "left"
    inputs = tokenizer(
        [snippet_prompt("what is a reranker?", passage) for passage in PASSAGES],
        return_tensors="pt",
        padding=True,
        return_token_type_ids=False,
    )
    yes = tokenizer.convert_tokens_to_ids("ĠYes")
    with torch.no_grad():
        expected = model(**inputs).logits[:, -1, yes].tolist()  # InstructDistill's snippet for LLaMA
    student = load_student(str(folder), "yes_token")
    assert student.layout.settings.yes_token_id == yes
    assert logits_of(student) == pytest.approx(expected, abs=2e-6)


def test_a_small_softcap_bends_the_score_as_it_bends_the_logit(make_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(make_folder(build_causal, "gemma2"), folder)
    config = AutoConfig.from_pretrained(folder)
    config.final_logit_softcapping = 0.1
    config.save_pretrained(folder)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    student = load_student(str(folder), "yes_token")
    assert student.layout.settings.softcap == 0.1
    expected = []
    for passage in PASSAGES:
        ids = tokenizer(snippet_prompt("what is a reranker?", passage), return_tensors="pt").input_ids
        with torch.no_grad():
            expected.append(model(ids).logits[0, -1, student.layout.settings.yes_token_id].item())
    assert logits_of(student) == pytest.approx(expected, abs=1e-6)
    assert max(map(abs, expected)) < 0.1


@pytest.mark.parametrize(
    ("config_class", "scale"), [(GraniteConfig, {"logits_scaling": 8.0}), (CohereConfig, {"logit_scale": 0.25})]
)
def test_what_scales_the_logits_goes_into_the_row(tmp_path, config_class, scale):
    tokenizer = train_byte_level(tmp_path, pad="<pad>")
    config = config_class(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **scale,
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    student = load_student(str(tmp_path), "yes_token")
    ids = tokenizer(snippet_prompt("what is a reranker?", PASSAGES[0]), return_tensors="pt").input_ids
    with torch.no_grad():
        expected = model(ids).logits[0, -1, student.layout.settings.yes_token_id].item()
    assert logits_of(student)[0] == pytest.approx(expected, abs=1e-6)
    student.model.save_pretrained(tmp_path / "saved")
    student.tokenizer.save_pretrained(tmp_path / "saved")
    student.layout.settings.save(tmp_path / "saved")
    assert logits_of(load_student(str(tmp_path / "saved"))) == logits_of(student)


@pytest.mark.parametrize("tied", [False, True])
def test_t5_reproduces_the_published_snippet_before_and_after_saving(make_folder, tmp_path, tied):
    folder = make_folder(build_t5, tied=tied)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(
        [snippet_prompt("what is a reranker?", passage) for passage in PASSAGES], return_tensors="pt", padding=True
    )
    yes = tokenizer("Yes", add_special_tokens=False).input_ids[0]

    def snippet(path) -> list[float]:
        """InstructDistill's usage example for T5, in plain transformers code."""
        model = T5ForConditionalGeneration.from_pretrained(path).eval()
        with torch.no_grad():
            logits = model(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                decoder_input_ids=torch.zeros(len(PASSAGES), 1, dtype=torch.long),
            ).logits
        return logits[:, 0, yes].tolist()

    student = load_student(str(folder), "yes_token")
    assert logits_of(student) == pytest.approx(snippet(folder), abs=1e-5)
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    assert snippet(tmp_path) == snippet(folder)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["T5ForConditionalGeneration"]
    assert config["tie_word_embeddings"] is tied  # transformers 4 ties and scales by it
    assert logits_of(load_student(str(tmp_path))) == logits_of(student)


def test_t5_swallows_what_peft_sends_and_refuses_labels(t5_folder):
    model = load_student(str(t5_folder), "yes_token").model
    inputs = {"input_ids": torch.tensor([[5, 6, 1]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}
    assert model(**inputs, labels=None, decoder_input_ids=None, use_cache=None).logits.shape == (1, 1)
    with pytest.raises(TypeError, match="takes no labels"):
        model(**inputs, labels=torch.tensor([[1]]))


def test_t5_in_half_precision_is_refused_with_the_way_out(t5_folder):
    with pytest.raises(InputError, match=r"T5 overflows in float16; use bfloat16 or float32"):
        load_student(str(t5_folder), "yes_token", options=LoadOptions(dtype="float16"))
    load_student(str(t5_folder), "yes_token", options=LoadOptions(dtype="bfloat16"))


def test_a_converted_folder_is_a_plain_sequence_classifier(llama_folder, tmp_path):
    from transformers import AutoModelForSequenceClassification

    student = load_student(str(llama_folder), "yes_token")
    student.model.save_pretrained(tmp_path)
    plain, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert plain.score.weight.shape == (1, 32)
    assert plain.config.pad_token_id == student.tokenizer.pad_token_id


@pytest.mark.parametrize(
    ("before", "piece"), [("the question?", "ĠYes"), ("Answer:", "ĠYes"), ("Answer:\n", "Yes"), ("", "Yes")]
)
def test_the_answer_is_found_behind_the_text_that_it_follows(llama_folder, before, piece):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    assert tokenizer.convert_ids_to_tokens(answer_token(tokenizer, before, "Yes")) == piece


def test_an_answer_of_several_tokens_is_refused_and_an_id_is_taken(llama_folder):
    with pytest.raises(InputError, match=r"'Definitely' must be one token.*id of a token"):
        load_student(str(llama_folder), "yes_token", settings={"yes_token": "Definitely"})
    student = load_student(str(llama_folder), "yes_token", settings={"yes_token": "77"})
    assert student.layout.settings.yes_token_id == 77


@pytest.mark.parametrize("folder", ["llama_folder", "t5_folder"])
@pytest.mark.parametrize("limit", [60, 64, 80])
def test_a_long_passage_is_shortened_and_the_prompts_end_stays(folder, limit, request):
    student = load_student(str(request.getfixturevalue(folder)), "yes_token", settings={"rerank_max_len": limit})
    query, passage = "what is red?", Passage("d", "one two three four five " * 30)
    head, text, tail = PROMPT.split(query, passage)
    row = student.layout.rows([Candidates("q", query, (passage,), ())][0])[0]
    assert limit - 3 <= len(row.input_ids) <= limit
    shown = "".join(student.tokenizer.decode(row.input_ids, skip_special_tokens=True).split())
    assert shown.startswith("".join((head + text[:8]).split()))
    assert shown.endswith("".join(tail.split()))


def test_a_query_that_leaves_no_room_is_an_error_and_can_be_cut(llama_folder):
    long = [Candidates("q", "red " * 500, (Passage("d", "one"),), ())]
    with pytest.raises(InputError, match="--query_max_len"):
        load_student(str(llama_folder), "yes_token", settings={"rerank_max_len": 100}).layout.collate(long)
    wishes = {"rerank_max_len": 100, "query_max_len": 10}
    load_student(str(llama_folder), "yes_token", settings=wishes).layout.collate(long)


def test_words_are_cut_at_two_hundred(llama_folder):
    student = load_student(str(llama_folder), "yes_token", settings={"rerank_max_len": 1000})
    short, long = Passage("d", "one " * 200), Passage("d", "one " * 300)
    assert student.layout.encode("red", [short]) == student.layout.encode("red", [long])


def test_an_encoder_is_no_yes_token_student(bert_folder):
    with pytest.raises(InputError, match="needs a language model; got BertModel"):
        load_student(str(bert_folder), "yes_token")


def test_an_unknown_prompt_is_refused(llama_folder):
    with pytest.raises(InputError, match="--prompt must be one of instructdistill"):
        load_student(str(llama_folder), "yes_token", settings={"prompt": "haiku"})

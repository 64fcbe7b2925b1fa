from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import build_causal, build_t5
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tevatron_distill.engines import HFEngine, Request
from tevatron_distill.prompts import PAIR_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage

PROMPT = PAIR_PROMPTS["instructdistill"]
CHAT = (
    "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CANDIDATES = Candidates(
    "q1",
    "what is a reranker?",
    tuple(
        Passage(str(number), text)
        for number, text in enumerate(
            ["the cat sat on the mat", "a reranker orders passages", "red green blue yellow one two three four", "dog"]
        )
    ),
    (4.0, 3.0, 2.0, 1.0),
)


def pair(i, j, candidates=CANDIDATES, prompt=PROMPT):
    return Request(
        prompt, candidates, (i, j), tuple(prompt.passage_text(candidates.passages[position]) for position in (i, j))
    )


def ids_of(engine, asked):
    return engine._encoder.encode(asked).input_ids


REQUESTS = [pair(i, j) for i in range(4) for j in range(4) if i != j]


def plain_answer(folder, asked):
    """One prompt, one forward pass, no padding; written from the published description alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    query, (a, b) = asked.candidates.query, asked.passages
    if (config := json.loads((Path(folder) / "config.json").read_text()))["model_type"] == "t5":
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
        text = (
            f'Question: Given a query "{query}", which of the following two passages is more relevant to the query?'
            f"\n\npassage A: {a}\n\npassage B: {b}\n\nOutput the identifier of the more relevant passage. "
            "The answer must be passage A or passage B.\nAnswer:"
        )
        start = [config["decoder_start_token_id"], tokenizer.convert_tokens_to_ids("▁passage")]
        logits = model(
            input_ids=tokenizer(text, return_tensors="pt").input_ids, decoder_input_ids=torch.tensor([start])
        ).logits[0, -1]
        return tuple(logits[tokenizer.convert_tokens_to_ids(f"▁{label}")].item() for label in "AB")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    text = (
        "### System:\nYou are a pairwise passage ranker that can judge which passages is more relevant to the query."
        f'\n\n### User:\nGiven a query "{query}", which of the following two passages is more relevant to the query?'
        f"\n\nPassage A: {a}\n\nPassage B: {b}\n\nOutput the identifier of the more relevant passage. "
        "The answer must be Passage A or Passage B.\n\n### Assistant:\nThe more relevant passage is Passage"
    )
    logits = model(**tokenizer(text, return_tensors="pt")).logits[0, -1]
    return tuple(logits[tokenizer.convert_tokens_to_ids(f"Ġ{label}")].item() for label in "AB")


@pytest.fixture(
    params=[(build_t5,), (build_causal, "llama"), (build_causal, "qwen3"), (build_causal, "gemma2")],
    ids=["t5", "llama", "qwen3", "gemma2"],
)
def folder(request, make_folder):
    return make_folder(*request.param)


@pytest.fixture
def chat_folder(llama_folder, tmp_path):
    """The tiny Llama with a chat template that writes the first token itself."""
    folder = tmp_path / "chat"
    shutil.copytree(llama_folder, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    return folder


def test_the_answers_are_those_of_plain_transformers(folder):
    engine = HFEngine(str(folder), dtype="float32", batch_tokens=600 if "t5" in folder.name else 60)
    answers = {}
    batches = engine.batches(REQUESTS)
    for batch in batches:
        answers.update(zip(batch, engine.answer([REQUESTS[index] for index in batch]), strict=True))
    assert len(batches) > 1
    for index, asked in enumerate(REQUESTS):
        assert answers[index] == pytest.approx(plain_answer(folder, asked), abs=1e-5)


def test_an_answer_does_not_depend_on_its_batch(folder):
    engine = HFEngine(str(folder))
    together = engine.answer(REQUESTS)
    for asked, answer in zip(REQUESTS, together, strict=True):
        assert engine.answer([asked])[0] == pytest.approx(answer, abs=1e-5)


def test_batches_hold_each_request_once_within_the_budget(t5_folder):
    engine = HFEngine(str(t5_folder), batch_tokens=500)
    batches = engine.batches(REQUESTS)
    assert sorted(index for batch in batches for index in batch) == list(range(len(REQUESTS)))
    for batch in batches:
        lengths = [len(ids_of(engine, REQUESTS[index])) for index in batch]
        assert len(batch) == 1 or len(batch) * max(lengths) <= 500 * 1.1
    assert [len(batch) for batch in HFEngine(str(t5_folder), batch_tokens=1).batches(REQUESTS)] == [1] * 12


def test_tokens_are_counted_without_padding(llama_folder, t5_folder):
    for folder, extra in ((llama_folder, 0), (t5_folder, 2)):
        engine = HFEngine(str(folder))
        engine.answer(REQUESTS[:3])
        assert engine.num_tokens == sum(len(ids_of(engine, asked)) + extra for asked in REQUESTS[:3])


def test_a_tokenizer_without_pad_token_answers_the_same(make_folder):
    folder = make_folder(build_causal, "llama", pad=None)
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    answers = HFEngine(str(folder)).answer(REQUESTS)
    for asked, answer in zip(REQUESTS, answers, strict=True):
        assert answer == pytest.approx(plain_answer(folder, asked), abs=1e-5)


def test_special_tokens_inside_a_passage_are_words_and_end_nothing(folder):
    def with_text(text):
        return replace(CANDIDATES, passages=(Passage("1", text), *CANDIDATES.passages[1:]))

    noisy, spaced = with_text("<pad> a </s> dog <s>"), with_text("< pad> a < /s> dog < s>")
    if folder.name.startswith("build_t5"):  # whose tokenizer knows no <s>
        spaced = with_text("< pad> a < /s> dog <s>")
    asked = [pair(0, 2, noisy), pair(2, 1, noisy)]
    engine = HFEngine(str(folder))
    for alone, answer in zip([pair(0, 2, spaced), pair(2, 1)], engine.answer(asked), strict=True):
        assert answer == pytest.approx(plain_answer(folder, alone), abs=1e-5)
    ids, tokens = ids_of(engine, asked[0]), engine._tokenizer
    frame = {tokens.bos_token_id, tokens.eos_token_id, tokens.pad_token_id}
    assert sum(token in frame for token in ids) == 1  # at the prompt's beginning or end


def test_a_chat_template_is_used_where_there_is_one(chat_folder, llama_folder):
    engine = HFEngine(str(chat_folder))
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    asked = REQUESTS[0]
    system, user = PROMPT.causal.system, PROMPT.causal.user.replace("{query}", CANDIDATES.query)
    user = user.replace("{a}", asked.passages[0]).replace("{b}", asked.passages[1])
    text = f"<s>system: {system}</s><s>user: {user}</s>assistant: The more relevant passage is Passage"
    ids = ids_of(engine, asked)
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 2
    assert ids_of(HFEngine(str(chat_folder), chat_template="never"), asked) == ids_of(
        HFEngine(str(llama_folder)), asked
    )
    model = AutoModelForCausalLM.from_pretrained(chat_folder, dtype=torch.float32)
    logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    expected = tuple(logits[tokenizer.convert_tokens_to_ids(f"Ġ{label}")].item() for label in "AB")
    assert engine.answer([asked])[0] == pytest.approx(expected, abs=1e-5)


def test_showing_a_prompt_in_another_way_makes_another_identity(chat_folder):
    ways = [{}, {"chat_template": "never"}, {"dtype": "float32"}, {"max_length": 99}]
    assert len({HFEngine(str(chat_folder), **way).identity for way in ways}) == len(ways)


@pytest.mark.parametrize("which", ["t5_folder", "llama_folder"])
def test_a_chat_template_that_is_not_there_is_refused(which, request):
    with pytest.raises(InputError, match=r"--chat_template always: .* has no chat template"):
        HFEngine(str(request.getfixturevalue(which)), chat_template="always")


def test_a_chat_template_that_swallows_the_message_is_refused(chat_folder):
    tokenizer = AutoTokenizer.from_pretrained(chat_folder)
    tokenizer.chat_template = "{{ 'query: ' }}"
    tokenizer.save_pretrained(chat_folder)
    with pytest.raises(InputError, match="does not show the turns"):
        HFEngine(str(chat_folder)).prepare([CANDIDATES], PROMPT, 2)


def test_a_long_prompt_loses_words_of_its_passages_and_nothing_else(folder):
    engine = HFEngine(str(folder))
    whole = ids_of(engine, REQUESTS[0])
    asked = REQUESTS[0]
    long = replace(CANDIDATES, passages=(Passage("1", "green " * 90), Passage("2", "mat"), *CANDIDATES.passages[2:]))
    tight = HFEngine(str(folder), max_length=len(whole) + 20)
    ids = ids_of(tight, pair(0, 1, long))
    tight.answer([pair(0, 1, long)])
    assert len(whole) < len(ids) <= len(whole) + 20
    assert tight.num_shortened == 1
    text = tight._tokenizer.decode(ids)
    assert "more relevant" in text
    assert text.count("green") < 90
    assert ids[-20:] == ids_of(engine, pair(0, 1, long))[-20:]
    tight.answer([asked])
    assert tight.num_shortened == 1


def test_a_query_that_leaves_no_room_is_refused_before_anything_is_asked(folder):
    engine = HFEngine(str(folder), max_length=200)
    long = replace(CANDIDATES, query_id="q7", query="cat " * 300)
    with pytest.raises(InputError, match=r'query_id "q7": the prompt must fit in --max_length 200 tokens'):
        engine.prepare([CANDIDATES, long], PROMPT, 2)


def test_a_label_of_several_tokens_is_refused(folder):
    several = replace(PROMPT, name="odd", label_names=("A", "Bxyzzy"))
    with pytest.raises(InputError, match='--prompt odd: the label "Bxyzzy" must be one token'):
        HFEngine(str(folder)).prepare([], several, 2)


def test_float16_is_refused_for_t5_and_without_a_gpu(t5_folder, llama_folder, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="T5 overflows in float16; use bfloat16 or float32"):
        HFEngine(str(t5_folder), dtype="float16")
    with pytest.raises(InputError, match="--dtype float16 needs a GPU"):
        HFEngine(str(llama_folder), dtype="float16")


def test_a_half_precision_t5_checkpoint_is_refused_too(t5_folder, tmp_path):
    AutoModelForSeq2SeqLM.from_pretrained(t5_folder, dtype=torch.float16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(t5_folder).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="T5 overflows in float16"):
        HFEngine(str(tmp_path)).answer(REQUESTS[:1])
    assert len(HFEngine(str(tmp_path), dtype="float32").answer(REQUESTS[:1])) == 1


def test_bfloat16_answers_in_plain_numbers(folder):
    answers = HFEngine(str(folder), dtype="bfloat16").answer(REQUESTS)
    for asked, answer in zip(REQUESTS, answers, strict=True):
        assert answer == pytest.approx(plain_answer(folder, asked), abs=0.1, rel=0.05)


def test_a_model_whose_head_would_be_random_is_refused(bert_folder):
    with pytest.raises(InputError, match="would be random"):
        HFEngine(str(bert_folder)).answer(REQUESTS[:1])


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}: no model config"):
        HFEngine(str(tmp_path))

"""Generated texts and likelihoods against plain transformers, in batches and alone."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from conftest import WORDS, build_causal, build_t5
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from tevatron_distill.engines import AnswerCache, HFEngine, Request, SimilarityEngine
from tevatron_distill.prompts import LIST_PROMPTS, PAIR_PROMPTS, POINT_PROMPTS, SET_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage

LIST, LIKELIHOOD = LIST_PROMPTS["rank_zephyr"], POINT_PROMPTS["llm_rankers_qlm"]
SET_TEXT = replace(SET_PROMPTS["llm_rankers"], answer="text")


def candidates_of(number):
    texts = [" ".join(WORDS[place : place + 1 + number + place]) for place in range(5)]
    query = " ".join(["what is", *WORDS[: number + 1]])
    return Candidates(f"q{number}", query, tuple(Passage(str(n), text) for n, text in enumerate(texts)), (0.0,) * 5)


def ask(prompt, positions, candidates):
    texts = tuple(prompt.passage_text(candidates.passages[position]) for position in positions)
    return Request(prompt, candidates, positions, texts)


TEXT_REQUESTS = [ask(LIST, tuple(range(2 + number % 3)), candidates_of(number)) for number in range(5)]
LIKELIHOOD_REQUESTS = [ask(LIKELIHOOD, (number % 5,), candidates_of(number)) for number in range(6)]


@pytest.fixture(
    params=[(build_t5,), (build_causal, "llama"), (build_causal, "qwen3"), (build_causal, "gemma2")],
    ids=["t5", "llama", "qwen3", "gemma2"],
)
def folder(request, make_folder):
    return make_folder(*request.param)


def load(folder):
    auto_class = AutoModelForSeq2SeqLM if folder.name.startswith("build_t5") else AutoModelForCausalLM
    return auto_class.from_pretrained(folder, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(folder)


def plain_text(folder, request, room):
    """Greedy by hand: one prompt, no padding, no cache, the argmax of each step."""
    model, tokenizer = load(folder)
    wording = request.render(is_encoder_decoder=model.config.is_encoder_decoder)
    said = []
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            ids = tokenizer(wording.text(), return_tensors="pt").input_ids
            begun = [0, *tokenizer(wording.prefix, add_special_tokens=False)["input_ids"]]
            step = lambda: model(input_ids=ids, decoder_input_ids=torch.tensor([begun + said])).logits[0, -1]  # noqa: E731
        else:
            ids = tokenizer(wording.text() + wording.prefix)["input_ids"]
            step = lambda: model(input_ids=torch.tensor([ids + said])).logits[0, -1]  # noqa: E731
        while len(said) < room and (token := int(step().argmax())) != tokenizer.eos_token_id:
            said.append(token)
    return tokenizer.decode(said, skip_special_tokens=True).strip()


def plain_likelihood(folder, request):
    model, tokenizer = load(folder)
    text = f"Passage: {request.passages[0]}\nPlease write a question based on this passage."
    query = request.candidates.query
    if model.config.is_encoder_decoder:
        target = tokenizer(query, add_special_tokens=False)["input_ids"]
        before, inputs = [0], {"input_ids": tokenizer(text, return_tensors="pt").input_ids}
        inputs["decoder_input_ids"] = torch.tensor([before + target])
    else:
        before = tokenizer(text)["input_ids"]
        target = tokenizer(f"{text} {query}")["input_ids"][len(before) :]
        inputs = {"input_ids": torch.tensor([before + target])}
    with torch.no_grad():
        logits = model(**inputs).logits[0]
    total = 0.0
    for place, token in enumerate(target):
        total += logits[len(before) - 1 + place].log_softmax(-1)[token].item()
    return total


def test_a_text_is_the_likeliest_token_at_each_step_within_its_room(folder):
    engine = HFEngine(str(folder), dtype="float32")
    for request, text in zip(TEXT_REQUESTS, engine.answer(TEXT_REQUESTS), strict=True):
        assert text == plain_text(folder, request, engine._encoder.room(request))


def test_a_text_goes_on_behind_the_answers_beginning(folder):
    engine = HFEngine(str(folder), dtype="float32")
    requests = [ask(SET_TEXT, (0, 1, 2), candidates_of(number)) for number in range(3)]
    for request, text in zip(requests, engine.answer(requests), strict=True):
        assert text == plain_text(folder, request, engine._encoder.room(request))


def test_texts_do_not_depend_on_their_batch(folder):
    engine = HFEngine(str(folder), dtype="float32")
    assert engine.answer(TEXT_REQUESTS) == [engine.answer([request])[0] for request in TEXT_REQUESTS]


def test_a_text_has_room_for_all_identifiers_and_no_more(folder):
    engine = HFEngine(str(folder))
    for request in TEXT_REQUESTS:
        answer = LIST.answer_text(range(len(request.passages)))
        num_tokens = len(engine._tokenizer(answer, add_special_tokens=False)["input_ids"])
        assert num_tokens < engine._encoder.room(request) <= num_tokens + 4


def test_the_folders_own_sampling_and_penalties_are_not_used(tmp_path, llama_folder):
    folder = tmp_path / "build_causal"
    shutil.copytree(llama_folder, folder)
    GenerationConfig(
        do_sample=True, temperature=3.0, repetition_penalty=5.0, no_repeat_ngram_size=1, eos_token_id=[1, 7]
    ).save_pretrained(folder)
    engine = HFEngine(str(folder))
    assert engine.answer(TEXT_REQUESTS) == [
        plain_text(llama_folder, r, engine._encoder.room(r)).partition(engine._tokenizer.decode([7]))[0].strip()
        for r in TEXT_REQUESTS
    ]


def test_generated_tokens_are_counted(llama_folder):
    engine = HFEngine(str(llama_folder))
    [request] = TEXT_REQUESTS[:1]
    engine.answer([request])
    read = len(engine._encoder.encode(request).input_ids)
    assert read < engine.num_tokens <= read + engine._encoder.room(request)


def test_a_likelihood_is_the_sum_over_the_querys_tokens(folder):
    engine = HFEngine(str(folder), dtype="float32")
    answers = engine.answer(LIKELIHOOD_REQUESTS)
    for request, (answer,) in zip(LIKELIHOOD_REQUESTS, answers, strict=True):
        assert answer == pytest.approx(plain_likelihood(folder, request), abs=1e-4)
        assert engine.answer([request])[0][0] == pytest.approx(answer, abs=1e-4)


def test_all_kinds_go_through_one_call(folder):
    engine = HFEngine(str(folder))
    choice = ask(PAIR_PROMPTS["instructdistill"], (0, 1), candidates_of(1))
    mixed = [LIKELIHOOD_REQUESTS[0], TEXT_REQUESTS[0], choice, LIKELIHOOD_REQUESTS[3], TEXT_REQUESTS[3]]
    together = engine.answer(mixed)
    for request, answer in zip(mixed, together, strict=True):
        [alone] = engine.answer([request])
        assert answer == (alone if isinstance(alone, str) else pytest.approx(alone, abs=1e-4))
    assert sorted(index for batch in engine.batches(mixed) for index in batch) == [0, 1, 2, 3, 4]


def test_a_window_of_long_passages_is_shortened_until_it_fits_together_with_its_answer(llama_folder):
    long = replace(
        candidates_of(0), passages=tuple(Passage(str(n), f"{word} " * 400) for n, word in enumerate(WORDS[:4]))
    )
    request = ask(LIST, (0, 1, 2, 3), long)
    engine = HFEngine(str(llama_folder), max_length=700)
    encoded = engine._encoder.encode(request)
    assert encoded.shortened
    assert 600 < len(encoded.input_ids) + encoded.room <= 700
    text = engine._tokenizer.decode(encoded.input_ids)
    assert all(f"[{n + 1}] {word}" in text for n, word in enumerate(WORDS[:4]))
    assert text.rstrip().endswith("do not say any word or explain.")


def test_a_query_too_long_for_a_window_is_an_error_and_no_loop(llama_folder):
    engine = HFEngine(str(llama_folder), max_length=600)
    long = replace(candidates_of(0), query="cat " * 500)
    for refuse in (lambda: engine.prepare([long], LIST, 20), lambda: engine.answer([ask(LIST, (0, 1), long)])):
        with pytest.raises(InputError, match=r'query_id "q0": the prompt must fit in --max_length 600 .*too many'):
            refuse()


def test_nothing_beyond_the_places_asked_gets_vocabulary_logits(llama_folder, monkeypatch):
    engine = HFEngine(str(llama_folder))
    seen = []
    head = engine._forward._model.lm_head
    head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    engine.answer([ask(PAIR_PROMPTS["instructdistill"], (0, 1), candidates_of(1))])
    assert seen == []  # two rows of the head stand in its place
    engine.answer(LIKELIHOOD_REQUESTS)
    longest = max(len(engine._encoder.encode(request).target) for request in LIKELIHOOD_REQUESTS)
    assert seen == [longest]


def test_what_an_engine_cannot_answer_is_refused_with_those_that_can(bert_folder):
    engine = SimilarityEngine(str(bert_folder))
    with pytest.raises(
        InputError,
        match=r"--engine similarity gives choice; .* text, which --engine hf, vllm, openai_compatible or recorded",
    ):
        engine.prepare([candidates_of(0)], LIST, 5)


def test_texts_come_back_from_the_cache_as_they_were(tmp_path, t5_folder):
    requests = [*TEXT_REQUESTS, *LIKELIHOOD_REQUESTS]
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        answers = cache.ask(HFEngine(str(t5_folder)), requests)
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        again = cache.ask(HFEngine(str(t5_folder)), requests)
        assert cache.num_asked == 0
    assert again == answers
    assert [type(answer) for answer in again] == [str] * 5 + [tuple] * 6

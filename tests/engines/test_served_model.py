"""A tiny model behind a server and the same one in this process give the same answers."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import torch
from conftest import build_causal
from stub_server import StubServer, choice_of, completion
from transformers import AutoModelForCausalLM, AutoTokenizer

from tevatron_distill.driver import teach
from tevatron_distill.engines import HFEngine, OpenAICompatibleEngine, Request
from tevatron_distill.formats.groups import read_groups
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.prompts import LIST_PROMPTS, PAIR_PROMPTS, POINT_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
WORDS = ["red", "green", "blue", "yellow", "one", "two", "three", "four"]
PASSAGES = tuple(Passage(str(place), " ".join(WORDS[place:])) for place in range(5))
CANDIDATES = Candidates("q", "what is red", PASSAGES, (5.0, 4.0, 3.0, 2.0, 1.0))


def ask(prompt, *positions):
    texts = tuple(prompt.passage_text(PASSAGES[position]) for position in positions)
    return Request(prompt, CANDIDATES, positions, texts)


class ServedModel:
    """Answers completions with the logits of a model in this process, every token among the likely ones."""

    def __init__(self, folder):
        self.name = str(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def __call__(self, body, path):
        chat = path.endswith("/chat/completions")
        text, special = body.get("prompt"), True
        if chat:
            text = self.tokenizer.apply_chat_template(
                body["messages"],
                tokenize=False,
                add_generation_prompt=body.get("add_generation_prompt", True),
                continue_final_message=body.get("continue_final_message", False),
                **body["chat_template_kwargs"],
            )
            special = False
        encoded = self.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
        ids = torch.tensor([encoded["input_ids"]])
        with torch.no_grad():
            if not body.get("logprobs"):
                said = self.model.generate(ids, max_new_tokens=body["max_tokens"], do_sample=False)[0, ids.shape[1] :]
                return completion(self.tokenizer.decode(said, skip_special_tokens=True), None, chat, self.name)
            logprobs = self.model(ids).logits[0].log_softmax(-1)
        if body.get("echo"):
            spoken = [None, *logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()]
            offsets = [start for start, _ in encoded["offset_mapping"]]
            told = {"tokens": [], "token_logprobs": spoken, "text_offset": offsets}
            return completion(text, told, chat, self.name)
        # Spelled as in the vocabulary, so that "A" and " A" differ; the engine takes both for the label.
        likely = {self.tokenizer.decode([token]): value for token, value in enumerate(logprobs[-1].tolist())}
        return choice_of(likely, chat, self.name)


@pytest.fixture
def folder(tmp_path):
    build_causal(tmp_path, "llama")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("chat_template", ["auto", "never"])
def test_texts_and_labels_are_those_of_the_model_itself(folder, chat_template):
    pairs = [ask(PAIR_PROMPTS["instructdistill"], i, j) for i, j in ((0, 1), (1, 0), (2, 4))]
    texts = [ask(LIST_PROMPTS["rank_zephyr"], 0, 1, 2), ask(LIST_PROMPTS["rank_zephyr"], 3, 1)]
    served = ServedModel(folder)
    with StubServer(served) as server:
        engine = OpenAICompatibleEngine(server.url, str(folder), chat_template=chat_template, top_logprobs=500)
        answers = engine.answer([*pairs, *texts])
    here = HFEngine(str(folder), chat_template=chat_template)
    spelled = [served.tokenizer.decode([token]).strip() for token in range(len(served.tokenizer))]
    for request, answer in zip(pairs, answers[:3], strict=True):
        with torch.no_grad():
            logits = served.model(torch.tensor([here._encoder.encode(request).input_ids])).logits[0, -1]
        for label, value in zip("AB", answer, strict=True):
            tokens = [token for token, word in enumerate(spelled) if word == label]  # with and without a space
            assert value == pytest.approx(float(logits.log_softmax(-1)[tokens].logsumexp(0)), abs=1e-4)
    for there, written in zip(answers[3:], here.answer(texts), strict=True):
        assert len(there) > 3
        assert written.startswith(there) or there.startswith(written)  # the room differs


def test_likelihoods_are_those_of_the_model_itself(folder):
    requests = [ask(POINT_PROMPTS["llm_rankers_qlm"], place) for place in range(5)]
    with StubServer(ServedModel(folder)) as server:
        engine = OpenAICompatibleEngine(server.url, str(folder), chat_template="never")
        answers = engine.answer(requests)
    for (there,), (here,) in zip(answers, HFEngine(str(folder), chat_template="never").answer(requests), strict=True):
        assert there == pytest.approx(here, abs=1e-4)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def transformers_serve(folder, tmp_path):
    for package in ("fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(package) is None:
            pytest.skip('pip install "transformers[serving]" openai to run this test')
    port = free_port()
    command = [os.path.join(os.path.dirname(sys.executable), "transformers"), "serve", str(folder), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with open(tmp_path / "serve.log", "wb") as log:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, (tmp_path / "serve.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_transformers_serve_drops_log_probabilities_and_writes_texts(transformers_serve, folder, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f"{line}\n" for line in write_candidates_lines([CANDIDATES])))
    common = ["--dataset_path", rows, "--engine", "openai_compatible", "--base_url", transformers_serve]
    common += ["--model_name_or_path", folder, "--teacher", "setwise", "--top_k", "1"]
    with pytest.raises(InputError, match="take --api_dialect openai"):
        teach.main([*map(str, common), "--output_path", str(tmp_path / "a.jsonl"), "--answer", "logits"])
    common += ["--api_dialect", "openai"]
    with pytest.raises(InputError, match=r"without the log-probabilities.*--answer generate"):
        teach.main([*map(str, common), "--output_path", str(tmp_path / "c.jsonl"), "--answer", "logits"])
    more = ["--answer", "generate", "--max_unparsed", "1.0"]
    teach.main([*map(str, common), "--output_path", str(tmp_path / "b.jsonl"), *more])
    [group] = read_groups(tmp_path / "b.jsonl")
    report = json.loads((tmp_path / "b.jsonl.run_config.json").read_text())["report"]
    assert group.teacher["answers"] == report["asked"] > 0
    assert report["input_tokens"] > 100

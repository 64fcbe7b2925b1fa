"""More of fuzz.py's targets: what models and servers answer, records, unfinished work, arguments, cards, templates."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from fuzz_targets import CANDIDATES, GROUP, PASSAGES, Target, attempt, given, lines_of, written
from transformers.utils.chat_template_utils import render_jinja_template

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.aliases import ALIASES, canonical_words
from tevatron_distill.arguments.evaluate import EvaluateArguments
from tevatron_distill.driver.rerank import name_of_line
from tevatron_distill.driver.teach import answers_of, group_of
from tevatron_distill.engines import AnswerCache, RecordedEngine, Recorder, Request
from tevatron_distill.engines.wire import MalformedError, NoLogprobsError, Wire, neutral
from tevatron_distill.export.card import own_card
from tevatron_distill.export.results import read_results
from tevatron_distill.export.template import RowText
from tevatron_distill.formats import output
from tevatron_distill.formats.checkpoints import whats_torn
from tevatron_distill.formats.folder import FolderRecord
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.formats.names import choose_split, parse_name
from tevatron_distill.formats.output import ResumableOutput, as_json, describe_run
from tevatron_distill.formats.parts import Parts, PartWriter
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.metrics import parse_measure
from tevatron_distill.prompts import LIST_PROMPTS, PAIR_PROMPTS, POINT_PROMPTS, SET_PROMPTS
from tevatron_distill.prompts.text import cut_words, fill
from tevatron_distill.prompts.wording import plain_brackets
from tevatron_distill.report.curves import read_curves
from tevatron_distill.report.systems import build_system
from tevatron_distill.retrieval.java import _describe
from tevatron_distill.retrieval.lucene import Lucene
from tevatron_distill.sharing import Share

WIRE = Wire("vllm", plain=False, thinking_tokens=0, top_logprobs=20)
PLAIN = Wire("openai", plain=True, thinking_tokens=0, top_logprobs=5)
REQUESTS = [
    Request(prompt, CANDIDATES, positions, tuple(prompt.passage_text(PASSAGES[n]) for n in positions))
    for prompt, positions in (
        (SET_PROMPTS["llm_rankers"], (0, 1)),
        (LIST_PROMPTS["rank_zephyr"], (1, 0)),
        (POINT_PROMPTS["llm_rankers_qlm"], (0,)),
        (POINT_PROMPTS["llm_rankers_yes_no"], (1,)),
    )
]


def text_of(data: bytes) -> str:
    """An input as text, with halves of surrogate pairs where it is not UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def read_list_answer(data: bytes, folder: Path) -> None:
    """What a list prompt's answer says; a proper answer says what it was made from."""
    size, text = 1 + (data[0] if data else 0) % 40, text_of(data[1:])
    for prompt in LIST_PROMPTS.values():
        parsed = prompt.parse(text, size)
        assert sorted(parsed.order) == list(range(size))
        again = prompt.parse(prompt.answer_text(parsed.order), size)
        assert again == (parsed.order, size, ())


def read_choice_answer(data: bytes, folder: Path) -> None:
    """What a choice among two or more says."""
    text = text_of(data)
    for prompt, size in [*((prompt, 2) for prompt in PAIR_PROMPTS.values()), (SET_PROMPTS["llm_rankers"], 9)]:
        parsed = prompt.parse(text, size)
        assert sorted(parsed.order) == list(range(size))
        assert parsed.num_named <= 1


def clean_text(data: bytes, folder: Path) -> None:
    """What prompts do to texts changes nothing when it is done again."""
    text = text_of(data)
    for clean in (plain_brackets, neutral, partial(cut_words, max_words=7)):
        once = clean(text)
        assert clean(once) == once
    assert fill("{a}{b}", {"a": text, "b": "{a}"}) == f"{text}{{a}}"


def read_reply(data: bytes, folder: Path) -> None:
    """What a server sends."""
    text = text_of(data)
    for request in REQUESTS:
        for wire in (WIRE, PLAIN):
            with suppress(MalformedError, NoLogprobsError):
                attempt(lambda wire=wire, request=request: wire.read(request, wire.post(request), "model", text))


def read_log(data: bytes, folder: Path) -> None:
    """Logs of answers, and the answers in them."""
    path = written(folder / "log.jsonl", data)
    engine = attempt(lambda: RecordedEngine(str(path)), folder)
    for request in REQUESTS if engine else ():
        attempt(lambda request=request: engine.answer([request]), folder)
    attempt(lambda: Recorder(path).close(), folder)


def read_cached(data: bytes, folder: Path) -> None:
    """An answer in a cache that something else has written."""
    path = folder / "answers.sqlite"
    engine = SimpleNamespace(
        identity="", model_name="", key_text=lambda request: "", batches=lambda requests: [[0]], answer=lambda _: ["A"]
    )
    with AnswerCache(path) as cache:
        cache.ask(engine, REQUESTS[:1])
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            for answer in (data.decode("utf-8", "replace"), '"A"'):
                database.execute("UPDATE answers SET answer = ?", (answer,))
                attempt(lambda: cache.ask(engine, REQUESTS[:1]), folder)


def read_arguments(ending: str, data: bytes, folder: Path) -> None:
    """A file of arguments."""
    path = written(folder / f"arguments{ending}", data)
    attempt(lambda: parse_arguments([str(path)], EvaluateArguments, prog="evaluate"), folder)


def read_words(data: bytes, folder: Path) -> None:
    """Command lines of other projects."""
    words = text_of(data).split("\n")
    for verb in ("train", "teach", "rerank", "retrieve"):
        attempt(lambda verb=verb: canonical_words(words, KNOWN, verb), folder)


def read_settings(data: bytes, folder: Path) -> None:
    """reranker_config.json; what is saved reads back."""
    written(folder / "reranker_config.json", data)
    settings = attempt(lambda: RerankerSettings.read(folder), folder)
    if settings is not None:
        settings.save(folder)
        again = RerankerSettings.read(folder)
        assert repr(again) == repr(settings)  # NaN is not itself


def read_measured(data: bytes, folder: Path) -> None:
    """Results of evaluate in the first line, the record beside them in the second."""
    results, _, record = data.partition(b"\n")
    written(folder / "results.json", results)
    written(folder / "results.json.run_config.json", record)
    attempt(lambda: read_results(str(folder / "results.json")), folder)
    build_system("name", str(folder / "results.json"), {})


def read_trainings(data: bytes, folder: Path) -> None:
    """The log of a training."""
    attempt(lambda: read_curves([str(written(folder / "trainer_state.json", data))]), folder)


def read_card(data: bytes, folder: Path) -> None:
    """The card of a model."""
    attempt(lambda: own_card(written(folder / "README.md", data)), folder)


def render_row(data: bytes, folder: Path) -> None:
    """A row by the chat template and by the student."""
    query, _, document = data.decode("utf-8", "ignore").partition("\0")
    for row in ROWS:
        messages = [{"role": "query", "content": query}, {"role": "document", "content": document}]
        [[text], _] = render_jinja_template([messages], chat_template=row.jinja())
        assert text == row.fill(query, document)


def read_parts(data: bytes, folder: Path) -> None:
    """A part of an output, and going on behind it."""
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    path = written(parts / "00000-of-00002.part", data)
    found = attempt(lambda: Parts(parts), folder)
    attempt(lambda: Parts(parts, RECORD), folder)
    if found is not None:
        for block in found.blocks:
            attempt(lambda block=block: found.lines(block), folder)
        attempt(lambda: PartWriter(parts, Share(0, 2), RECORD).close(), folder)
        assert data.startswith(path.read_bytes()[: len(data)]) or not found.parts


def go_on(data: bytes, folder: Path) -> None:
    """Unfinished output: its record in the first line, then its lines."""
    record, _, lines = data.partition(b"\n")
    written(folder / "out.jsonl.partial", lines)
    written(folder / "out.jsonl.partial.run_config.json", record)
    with QUICK:
        attempt(lambda: list(ResumableOutput(folder / "out.jsonl", {"depth": 1}, []).done_lines()), folder)
    for read in (lambda line: answers_of(group_of(f"{folder}:1", line)), partial(name_of_line, f"{folder}:1")):
        attempt(lambda read=read: read(text_of(lines)), folder)


def go_on_training(data: bytes, folder: Path) -> None:
    """The record of an unfinished training."""
    target = folder / "training"
    target.mkdir(exist_ok=True)
    written(target / "run_config.json", data)
    with QUICK:
        attempt(lambda: FolderRecord(target, {"depth": 1}, []), folder)


def look_at_checkpoint(data: bytes, folder: Path) -> None:
    """The files of a checkpoint."""
    target = folder / "checkpoint-5"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name in ("trainer_state.json", "optimizer.pt", "scheduler.pt"):
        written(target / name, b"{}" if name.endswith("json") else EMPTY_ZIP)
    name, _, content = data.partition(b"\n")
    written(target / ("model.safetensors.index.json" if name == b"index" else "model.safetensors"), content)
    whats_torn(target)


def read_names(data: bytes, folder: Path) -> None:
    """Names with splits."""
    name, split = parse_name(text_of(data))
    attempt(lambda: choose_split(name, ["train", "validation"], "corpus", split))


def read_stored(data: bytes, folder: Path) -> None:
    """What a Lucene index has stored of a passage."""
    document = {"raw": text_of(data)}
    index = SimpleNamespace(_index=SimpleNamespace(doc=lambda docid: document), _folder=folder)
    attempt(lambda: Lucene._text(index, "d"), folder)


def read_release(data: bytes, folder: Path) -> None:
    """What a Java says of itself."""
    written(folder / "release", data)
    assert _describe("JAVA_HOME", folder).major >= 0


ROWS = [
    RowText("<s>", "Q: ", "\n\nPassage: ", "\n\nYes?", "", max_words=3),
    RowText("<s>", "query:  ", " document:   ", "", "</s>", stripped=True),
    RowText("", "web: ", " ", "", "", query_stripped=True, max_words=200, document_stripped=True),
]
KNOWN = {"model_name_or_path", "dataset_path", "output_path", "depth", "query_max_len", "rerank_max_len", "student"}
QUICK = patch.multiple(output, _commit=lambda: None, _package_versions=dict)  # git takes 50 ms
RECORD: dict[str, Any] = json.loads(as_json(describe_run({"depth": 1}, [])))
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)
_FLAGS = [
    f"--{name}\n{value}".encode() for name, rows in ALIASES.items() for row in rows for value in ("1", *row.values)
]
_LIKELY = [{"token": " A", "logprob": -0.1}, {"token": "B", "logprob": -2.5}]
_REPLIES = [
    {
        "model": "model",
        "choices": [{"message": {"content": "A"}, "logprobs": {"content": [{"top_logprobs": _LIKELY}]}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1},
    },
    {
        "model": "model@1",
        "choices": [
            {
                "text": "<think>so</think> [2] > [1]",
                "logprobs": {
                    "top_logprobs": [{"Yes": -0.1, "No": -2}],
                    "token_logprobs": [None, -1, -2.5],
                    "text_offset": [0, 5, 90],
                },
            }
        ],
    },
]
_MEANS = {"mean": {"RR@10": 0.5}, "interval": {"RR@10": [0.4, 0.6]}, "against_first": {"RR@10": {"p": 0.5}}}


def _log_seeds(folder: Path) -> list[bytes]:
    text = REQUESTS[1].render(is_encoder_decoder=False).text()
    own = {"query_id": "q1", "query": "who?", "docids": ["a", "b"], "positions": [0, 1], "model": "m"}
    ours = [
        {**own, "kind": "choice", "prompt_name": "llm_rankers", "prompt": "p", "response": [0.5, 1]},
        {**own, "docids": ["b", "a"], "kind": "text", "prompt_name": "rank_zephyr", "prompt": "p", "response": "[2]"},
    ]
    history = {"query": {"text": "who?", "qid": "q1"}, "invocations_history": [{"prompt": text, "response": "[1]"}]}
    return [
        lines_of(*ours),
        json.dumps([{"prompt": [{"role": "user", "content": text}], "response": "[2] > [1]"}], indent=1).encode(),
        json.dumps(history, indent=1).encode() + b",\n" + json.dumps({"prompt": text, "response": "[2]"}).encode(),
        lines_of({"query_id": "q1", "response": "[1]"}),
    ]


def _part_seeds(folder: Path) -> list[bytes]:
    parts = folder / "parts"
    writer = PartWriter(parts, Share(0, 2), RECORD)
    writer.append(0, ["one", "größe"])
    writer.append(2, [])
    writer.finish(3, {"queries": 2})
    writer.close()
    data = (parts / "00000-of-00002.part").read_bytes()
    (parts / "00000-of-00002.part").unlink()
    return [data, data[:-9]]


MORE_TARGETS: dict[str, Target] = {
    "list_answer": Target(
        read_list_answer, given([b"\x05[2] > [1]", b"\x09<think>[1]</think>[B] > [A] > [C]", b"\x1dAA, B. C"])
    ),
    "choice_answer": Target(read_choice_answer, given([b"Passage B", b'"A"', b"**B** is", b"A passage"])),
    "prompt_text": Target(clean_text, given(["[12] and [B] 我们。 <|im_end|> </s> {a} [/INST]".encode()])),
    "wire": Target(read_reply, given([json.dumps(reply).encode() for reply in _REPLIES])),
    "log": Target(read_log, _log_seeds),
    "cache": Target(read_cached, given([b'"[2] > [1]"', b"[0.5, -1.0]"]), stretches=False),
    "arguments_json": Target(
        partial(read_arguments, ".json"),
        given([b'{"run_path": ["a", "b"], "qrels_path": "q", "measures": ["AP"], "per_query": true}']),
        stretches=False,
    ),
    "arguments_yaml": Target(
        partial(read_arguments, ".yaml"),
        given(
            [b"run_path: [a, b]\nqrels_path: q\nper-query: true\n", b"run_path: a\nmetrics_path: q\nn_candidates: 3\n"]
        ),
        max_len=512,
        stretches=False,
    ),
    "command_words": Target(read_words, given([b"\n".join(_FLAGS[n : n + 4]) for n in range(len(_FLAGS))])),
    "settings": Target(read_settings, given([json.dumps({"student": "colbert", "skiplist": [","]}).encode()])),
    "measures": Target(
        lambda data, folder: attempt(lambda: parse_measure(text_of(data))),
        given([b"nDCG@10", b"AP(rel=2)", b"RBP(p=0.9)@5", b"Judged@10"]),
        max_len=256,
        stretches=False,
    ),
    "card": Target(
        read_card,
        given([b"---\nlicense: mit\ntags: [a, b]\n---\n# A\n", b"# B\n", b"---\nmodel-index:\n- name: x\n---\n"]),
        max_len=512,
        stretches=False,
    ),
    "results": Target(
        read_measured,
        given(
            [
                json.dumps({"a.tsv": _MEANS, "b.tsv": _MEANS}).encode() + b"\n" + json.dumps(RECORD).encode(),
                json.dumps({"selection": {"a": _MEANS}}).encode()
                + b'\n{"arguments": {"qrels_path": "q", "run_name": ["x"]}, "inputs": {"q": "1"}, '
                + b'"report": {"processes": [{"queries": 1, "seconds_per_query": 2}]}}',
            ]
        ),
    ),
    "curves": Target(
        read_trainings,
        given([b'{"log_history": [{"loss": 0.5, "step": 1, "epoch": 0.1}, {"eval_nDCG@10": 0.5, "step": 2}]}']),
    ),
    "chat_template": Target(
        render_row, given(["who? \0a 我们。 b\n c {{ x }}".encode(), b"a\0b"]), max_len=512, stretches=False
    ),
    "part": Target(read_parts, _part_seeds),
    "unfinished_output": Target(
        go_on,
        given(
            [
                json.dumps(RECORD).encode() + f"\n{group_to_line(GROUP)}\n".encode(),
                json.dumps(RECORD).encode() + b"\nq1\td\t1.5\nq1\td2\t1",
            ]
        ),
    ),
    "unfinished_training": Target(go_on_training, given([json.dumps({**RECORD, "complete": False}).encode()])),
    "checkpoint": Target(
        look_at_checkpoint,
        given(
            [
                b'index\n{"weight_map": {"a": "model.safetensors"}}',
                b"weights\n"
                + len(b'{"a": {"data_offsets": [0, 2]}}').to_bytes(8, "little")
                + b'{"a": {"data_offsets": [0, 2]}}xy',
            ]
        ),
    ),
    "name": Target(read_names, given([b"BeIR/nfcorpus-qrels:test", b"irds:beir/nfcorpus/test", b"folder:dev"])),
    "stored_text": Target(read_stored, given([b'{"contents": "text", "title": "t"}', b"plain"])),
    "java_release": Target(read_release, given([b'JAVA_VERSION="21.0.1"\nMODULES="java.base jdk.vector"\n'])),
}

"""Unfinished work that was torn or spoilt, and answers that another command has been given, through the drivers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import build_causal

from tevatron_distill.driver import rerank, teach
from tevatron_distill.engines import HFEngine
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, InputError, Passage

WORDS = [
    "red",
    "green",
    "blue",
    "yellow",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    candidates = [
        Candidates(
            f"q{number}",
            f"what is {WORDS[number]}",
            tuple(Passage(f"d{number}-{place}", " ".join(WORDS[place : place + 8])) for place in range(4)),
            (4.0, 3.0, 2.0, 1.0),
        )
        for number in range(6)
    ]
    path.write_text("".join(f"{line}\n" for line in write_candidates_lines(candidates)))
    return path


@pytest.fixture
def teaching(rows, llama_folder):
    def build(output, *more, model=llama_folder):
        return [
            *("--dataset_path", str(rows), "--model_name_or_path", str(model), "--output_path", str(output)),
            *("--prompt", "llm_rankers", "--queries_per_round", "2", *map(str, more)),
        ]

    return build


@pytest.fixture
def reranking(rows, bert_classifier_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(rerank, "BLOCK_PAIRS", 8)

    def build(output):
        return [
            *("--dataset_path", str(rows), "--model_name_or_path", str(bert_classifier_folder), "--use_cpu"),
            *("--rerank_output_path", str(output), "--output_dir", str(tmp_path / "none"), "--rerank_max_len", "48"),
        ]

    return build


@pytest.fixture
def asked(monkeypatch):
    """How many questions the engine was asked."""
    answer, counts = HFEngine.answer, []

    def counting(self, requests):
        counts.append(len(requests))
        return answer(self, requests)

    monkeypatch.setattr(HFEngine, "answer", counting)
    return counts


VERBS = {
    "teach": (teach, "teaching", HFEngine, "answer"),
    "rerank": (rerank, "reranking", Reranker, "score_candidates"),
}


@pytest.fixture(params=list(VERBS))
def unfinished(request, tmp_path, monkeypatch):
    """The driver's main, its command, the bytes that it ends with, and a partial file of two blocks."""
    driver, fixture, place, method = VERBS[request.param]
    build = request.getfixturevalue(fixture)
    whole, cut = tmp_path / "whole" / "out", tmp_path / "cut" / "out"
    driver.main(build(whole))
    lines = whole.read_bytes().splitlines(keepends=True)
    plain, partial = getattr(place, method), Path(f"{cut}.partial")

    def dies(*arguments):
        if partial.stat().st_size and partial.read_bytes().count(b"\n") >= len(lines) * 2 // 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(place, method, dies)
        with pytest.raises(KeyboardInterrupt):
            driver.main(build(cut))
    assert partial.read_bytes() == b"".join(lines[: len(lines) * 2 // 3])
    return driver.main, build(cut), whole.read_bytes(), partial


@pytest.mark.parametrize("cut", [1, 3, 10_000])
def test_a_last_line_that_was_torn_is_made_again(unfinished, cut):
    main, words, whole, partial = unfinished
    text = partial.read_bytes()
    last = text[:-1].rfind(b"\n") + 1
    partial.write_bytes(text[: max(last, len(text) - cut)])
    main(words)
    assert Path(str(partial).removesuffix(".partial")).read_bytes() == whole


def spoil(line, how):
    return {
        "a NUL": b"\0" * len(line),
        "bytes that are not UTF-8": b"\xff" + line[1:],
        "a blank line": b"",
        "another query": line.replace(b"q1", b"q9"),
        "half a line": line[:5],
    }[how]


@pytest.mark.parametrize("how", ["a NUL", "bytes that are not UTF-8", "a blank line", "another query", "half a line"])
def test_any_other_corrupt_line_is_refused_with_its_place(unfinished, how):
    main, words, _, partial = unfinished
    lines = partial.read_bytes().splitlines()
    number = next(number for number, line in enumerate(lines) if b"q1" in line)
    lines[number] = spoil(lines[number], how)
    partial.write_bytes(b"".join(line + b"\n" for line in lines))
    before = partial.read_bytes()
    with pytest.raises(InputError) as error:
        main(words)
    places = {f"out.partial:{number + shift}" for shift in (1, 2)}  # a query too few is seen at the next line
    assert any(place in str(error.value) for place in places)
    assert partial.read_bytes() == before


def test_a_failed_attempt_to_replace_a_finished_output_leaves_it_intact(unfinished, monkeypatch):
    main, words, whole, partial = unfinished
    output = Path(str(partial).removesuffix(".partial"))
    main(words)
    monkeypatch.setattr(os, "fsync", lambda *_: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    with pytest.raises(InputError, match="the disk has no room"):
        main([*words, "--overwrite_output_dir"])
    assert output.read_bytes() == whole


def test_output_on_another_device_is_written(unfinished, tmp_path):
    main, words, whole, partial = unfinished
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is one device here")
    folder = other / f"tevatron-distill-{os.getpid()}"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    try:
        main([word.replace(str(partial.parent), str(tmp_path / "link")) for word in words])
        assert (folder / "out").read_bytes() == whole
    finally:
        shutil.rmtree(folder)


def change_weights(folder, model):
    shutil.copytree(model, folder)
    weights = folder / "model.safetensors"
    text = bytearray(weights.read_bytes())
    text[-1] ^= 1
    weights.write_bytes(text)
    return folder


def test_answers_of_another_model_prompt_or_passage_length_are_not_used(teaching, asked, tmp_path, llama_folder):
    cache = ("--cache_path", tmp_path / "answers.sqlite")
    num_questions = 6 * 4 * 3  # both orders of all pairs
    teach.main(teaching(tmp_path / "first.jsonl", *cache))
    assert sum(asked) == num_questions
    teach.main(teaching(tmp_path / "again.jsonl", *cache))
    assert sum(asked) == num_questions
    moved = shutil.copytree(llama_folder, tmp_path / "moved")
    teach.main(teaching(tmp_path / "moved.jsonl", *cache, model=moved))
    assert sum(asked) == num_questions  # it is the weights that count, not where they lie
    other = change_weights(tmp_path / "other", llama_folder)
    changes = [
        {"model": other},
        {"more": ("--prompt", "instructdistill")},
        {"more": ("--max_length", 90)},
        {"model": build_causal(tmp_path / "qwen", "qwen3")},
    ]
    for number, change in enumerate(changes, start=1):
        more = change.pop("more", ())
        teach.main(teaching(tmp_path / f"{number}.jsonl", *cache, *more, **change))
        assert sum(asked) == (1 + number) * num_questions


def test_unfinished_groups_of_another_model_are_refused(teaching, tmp_path, llama_folder, monkeypatch):
    model = shutil.copytree(llama_folder, tmp_path / "model")
    answer, count = HFEngine.answer, []

    def dies(self, requests):
        if len(count) > 1:
            raise KeyboardInterrupt
        count.append(1)
        return answer(self, requests)

    with monkeypatch.context() as patch:
        patch.setattr(HFEngine, "answer", dies)
        with pytest.raises(KeyboardInterrupt):
            teach.main(teaching(tmp_path / "out.jsonl", model=model))
    shutil.rmtree(model)
    change_weights(model, llama_folder)
    with pytest.raises(InputError, match="these differ: weights;"):
        teach.main(teaching(tmp_path / "out.jsonl", model=model))
    assert json.loads((tmp_path / "out.jsonl.partial").read_text().splitlines()[0])["query_id"] == "q0"

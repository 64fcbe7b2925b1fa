from __future__ import annotations

import math

import pytest

from tevatron_distill.engines import AnswerCache, Request
from tevatron_distill.engines.identity import model_identity
from tevatron_distill.prompts import PAIR_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage

PROMPT = PAIR_PROMPTS["instructdistill"]
CANDIDATES = Candidates("q", "?", tuple(Passage(d, d) for d in "abcde"), (5.0, 4.0, 3.0, 2.0, 1.0))


def ask_about(i, j):
    return Request(PROMPT, CANDIDATES, (i, j), (CANDIDATES.passages[i].text, CANDIDATES.passages[j].text))


class CountingEngine:
    """Answers with the positions asked for, and keeps what it was asked, batch by batch."""

    model_name = "counting"
    may_miss = False

    def __init__(self, identity="one", batch_size=2, fail_at=None):
        self.identity = identity
        self.batch_size = batch_size
        self.fail_at = fail_at
        self.asked = []
        self.num_tokens = self.num_shortened = 0

    def prepare(self, candidates, prompt, num_passages):
        pass

    def key_text(self, request):
        return " ".join(request.passages)

    def batches(self, requests):
        return [
            list(range(start, min(start + self.batch_size, len(requests))))
            for start in range(0, len(requests), self.batch_size)
        ]

    def report(self):
        return {}

    def answer(self, requests):
        if len(self.asked) == self.fail_at:
            raise RuntimeError("the lights went out")
        self.asked.append([request.positions for request in requests])
        # The batch shows in the answer, as rounding does in a real engine.
        return [(position + len(requests) / 1000, 0.1) for position, _ in (r.positions for r in requests)]


ROUND = [ask_about(i, j) for i, j in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2)]]


def test_nothing_is_asked_twice_and_the_numbers_come_back_exactly(tmp_path):
    first = CountingEngine()
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        answers = cache.ask(first, ROUND)
        assert (cache.num_asked, cache.num_cached) == (5, 0)
    assert first.asked == [[(0, 1), (1, 0)], [(0, 2), (2, 0)], [(1, 2)]]
    second = CountingEngine()
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        assert cache.ask(second, ROUND) == answers
        assert cache.ask(second, [ROUND[3], ask_about(4, 3)]) == [answers[3], (4 + 1 / 1000, 0.1)]
        assert (cache.num_asked, cache.num_cached) == (1, 6)
    assert second.asked == [[(4, 3)]]


def test_equal_requests_of_a_round_are_asked_once(tmp_path):
    engine = CountingEngine()
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        answers = cache.ask(engine, [ROUND[0], ROUND[1], ROUND[0], ROUND[0]])
    assert engine.asked == [[(0, 1), (1, 0)]]
    assert answers[0] == answers[2] == answers[3]


@pytest.mark.parametrize("fail_at", [0, 1, 2])
def test_a_round_that_was_cut_ends_with_the_answers_of_one_that_was_not(tmp_path, fail_at):
    rounds = [ROUND, [ROUND[1], ask_about(3, 4), ask_about(4, 3)]]
    with AnswerCache(tmp_path / "whole.sqlite") as cache:
        engine = CountingEngine()
        whole = [cache.ask(engine, asked) for asked in rounds]
    with AnswerCache(tmp_path / "cut.sqlite") as cache, pytest.raises(RuntimeError):
        cache.ask(CountingEngine(fail_at=fail_at), ROUND)
    with AnswerCache(tmp_path / "cut.sqlite") as cache:
        resumed = CountingEngine()
        assert [cache.ask(resumed, asked) for asked in rounds] == whole
    assert resumed.asked == engine.asked[fail_at:]


def test_another_engine_has_answers_of_its_own(tmp_path):
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        cache.ask(CountingEngine("one"), ROUND)
        other = CountingEngine("two")
        cache.ask(other, ROUND)
    assert len(other.asked) == 3


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_an_answer_that_is_no_number_is_refused(tmp_path, number):
    engine = CountingEngine()
    engine.answer = lambda requests: [(1.0, number)] * len(requests)
    with AnswerCache(tmp_path / "cache.sqlite") as cache, pytest.raises(InputError, match=r"counting: .* finite"):
        cache.ask(engine, ROUND)


def test_a_file_that_is_no_cache_is_refused(tmp_path):
    (tmp_path / "cache.sqlite").write_text("something else entirely, and rather longer than a header\n" * 9)
    with pytest.raises(InputError, match="must be an SQLite file"):
        AnswerCache(tmp_path / "cache.sqlite")


def test_a_model_folder_is_known_by_what_is_in_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(9 << 20))
    before = model_identity(str(tmp_path), None)
    (tmp_path / "README.md").write_text("words")
    assert model_identity(str(tmp_path), None) == before
    (tmp_path / "model.safetensors").write_bytes(bytes((9 << 20) - 1) + b"1")
    assert model_identity(str(tmp_path), None) != before
    assert model_identity("google/flan-t5-xl", "abc") == "google/flan-t5-xl@abc"

"""Windows over lists of any length: logits or generation, scores of their own, and what RankLLM gets wrong."""

from __future__ import annotations

import pytest
import torch
from conftest import WORDS
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill.reranker import Reranker, windows
from tevatron_distill.reranker.windows import join_scores, score_windows
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.sorting import run_in_lockstep, sliding_window


def candidates_of(size: int, name: str = "q") -> Candidates:
    passages = tuple(Passage(f"{name}{n}", " ".join(WORDS[n % 7 : n % 7 + 1 + n % 3])) for n in range(size))
    return Candidates(name, f"{name} red", passages, tuple(float(-n) for n in range(size)))


@pytest.fixture(scope="module")
def folder(llama_folder):
    return llama_folder


def reranker_of(folder, **settings) -> Reranker:
    return Reranker.from_pretrained(str(folder), "listwise", device="cpu", **settings)


def order_of(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda place: -scores[place])


def test_one_window_is_scored_by_the_log_probabilities_of_its_identifiers(folder):
    reranker = reranker_of(folder)
    candidates = candidates_of(6)
    [scores] = reranker.score_candidates([candidates])
    layout = reranker.layout
    batch = layout.collate([candidates])
    with torch.no_grad():
        logits = reranker.model(**{name: batch[name] for name in layout.model_inputs if name in batch}).logits
    assert scores == pytest.approx(logits[0].log_softmax(-1).tolist(), abs=1e-5)
    assert sum(torch.tensor(scores).exp().tolist()) == pytest.approx(1.0, abs=1e-4)


def test_logits_take_one_forward_pass_a_window_and_generate_nothing(folder, monkeypatch):
    """RankLLM stores ``use_logits``, never reads it, and generates."""
    reranker = reranker_of(folder, window_size=4, step_size=2)
    monkeypatch.setattr(reranker.model, "generate", lambda **_: pytest.fail("nothing is to be generated"))
    rows = []
    reranker.model.register_forward_pre_hook(lambda module, args, kwargs: rows.append(kwargs), with_kwargs=True)
    reranker.score_candidates([candidates_of(8)])
    assert [len(inputs["input_ids"]) for inputs in rows] == [1, 1, 1]  # 4..8, 2..6, 0..4
    assert all("answer_index" in inputs for inputs in rows)


@pytest.mark.parametrize("decode", ["logits", "generation"])
def test_lists_of_any_length_are_ranked_together_as_alone(folder, decode):
    reranker = reranker_of(folder, window_size=4, step_size=2, num_passes=2, decode=decode)
    lists = [candidates_of(size, name) for size, name in ((7, "a"), (1, "b"), (4, "c"), (2, "d"), (11, "e"))]
    together = reranker.score_candidates(lists)
    for one, scores in zip(lists, together, strict=True):
        [alone] = reranker.score_candidates([one])
        assert scores == pytest.approx(alone, abs=1e-4)
        assert order_of(scores) == order_of(alone)
        assert len(set(scores)) == len(scores) == len(one.passages)


def judged_by(quality: list[float], monkeypatch) -> None:
    """A model that sees through: its logits are the passages' quality, shifted anew in every window."""
    calls = []

    def answers(model, layout, batcher, windows):
        calls.append(len(windows))
        return [[quality[place] - len(calls) for place in window] for window in windows]

    monkeypatch.setattr(windows, "logit_answers", answers)


class Positions:
    """Stands for a layout: its windows are the passages' numbers."""

    class settings:  # noqa: N801
        window_size, step_size, num_passes, decode = 4, 2, 1, "logits"

    @staticmethod
    def encode(query, passages):
        return [int(passage.docid) for passage in passages]


def numbered(size: int) -> Candidates:
    return Candidates("q", "?", tuple(Passage(str(n), "x") for n in range(size)), ())


def test_scores_of_several_windows_are_aligned_on_what_they_share(monkeypatch):
    quality = [2.5, 3.0, 1.0, 5.0, 2.0, 4.0]
    judged_by(quality, monkeypatch)
    [scores] = score_windows(None, Positions, None, [numbered(6)])
    assert order_of(scores) == [3, 5, 1, 0, 4, 2]
    differences = [scores[place] - scores[0] for place in range(6)]
    assert differences == pytest.approx([value - quality[0] for value in quality], abs=1e-5)


class Contradicting:
    """A judge that turns its mind with every window."""

    def __init__(self, quality: list[float]) -> None:
        self.quality, self.sign = quality, 1

    def answer(self, window) -> list[float]:
        self.sign = -self.sign
        return [self.quality[place] * self.sign for place in window]


@given(st.lists(st.floats(-9, 9, width=16), min_size=1, max_size=14, unique=True))
def test_scores_fall_strictly_along_the_order_that_the_sort_finds(quality):
    judge, same_judge = Contradicting(quality), Contradicting(quality)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "logit_answers", lambda model, layout, batcher, asked: [*map(judge.answer, asked)])
        [scores] = score_windows(None, Positions, None, [numbered(len(quality))])
    sorts = [sliding_window(len(quality), 1, 4, 2)]
    [(_, found)] = run_in_lockstep(sorts, lambda asked: [same_judge.answer(window) for _, window in asked])
    assert order_of(scores) == list(found.order)
    assert len(set(scores)) == len(scores)


def test_first_stage_scores_are_not_dealt_out_again(folder):
    """RankLLM gives its order the first stage's scores by position; missing, equal or unsorted ones change it."""
    reranker = reranker_of(folder)
    plain = candidates_of(5)
    odd = Candidates(plain.query_id, plain.query, plain.passages, (1.0, 5.0, 5.0, -2.0, 0.0))
    assert reranker.score_candidates([plain]) == reranker.score_candidates([odd])


def test_a_window_that_fails_raises(folder, monkeypatch):
    """RankLLM swallows the error and hands the list back as it came."""
    reranker = reranker_of(folder, window_size=4, step_size=2)

    def fail(*args, **kwargs):
        raise RuntimeError("the backend is gone")

    monkeypatch.setattr(reranker.model, "forward", fail)
    with pytest.raises(RuntimeError, match="the backend is gone"):
        reranker.score_candidates([candidates_of(8)])


def test_a_query_that_cannot_fit_raises(folder):
    reranker = reranker_of(folder, rerank_max_len=300)
    with pytest.raises(InputError, match="raise --rerank_max_len"):
        reranker.score_candidates([candidates_of(3)])


def test_generated_orders_are_parsed_repaired_and_counted(folder, monkeypatch):
    reranker = reranker_of(folder, decode="generation")
    said = ["[C] > [A] > [B]", "[B] > [B] > [Z]", "I cannot say"]
    tokenizer = reranker.layout.tokenizer

    def generate(input_ids, **kwargs):
        made = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in said]
        width = max(map(len, made))
        end = tokenizer.eos_token_id
        return torch.cat([input_ids, torch.tensor([ids + [end] * (width - len(ids)) for ids in made])], dim=1)

    monkeypatch.setattr(reranker.model, "generate", generate)
    lists = [candidates_of(3, "same") for _ in said]
    scores = reranker.score_candidates(lists)
    assert [order_of(row) for row in scores] == [[2, 0, 1], [1, 0, 2], [0, 1, 2]]
    assert scores[0] == pytest.approx([1 / 2, 1 / 3, 1.0])
    count = reranker.batcher.count
    assert (count.answers, count.malformed) == (3, 2)
    assert dict(count.problems) == {"repetition": 1, "missing": 2, "out_of_range": 1, "wrong_format": 1}


def test_generation_ends_with_the_answer_and_never_runs_past_the_longest_one(folder):
    reranker = reranker_of(folder, decode="generation")
    lengths = []
    original = reranker.model.generate

    def generate(**keywords):
        made = original(**keywords)
        lengths.append(made.shape[1] - keywords["input_ids"].shape[1])
        assert not keywords["generation_config"].do_sample
        return made

    reranker.model.generate = generate
    reranker.score_candidates([candidates_of(5)])
    assert 0 < lengths[0] <= reranker.layout.encode.room(5)


def test_generation_needs_padding_on_the_left(folder):
    with pytest.raises(ValueError, match="needs padding_side left"):
        reranker_of(folder, decode="generation", padding_side="right").score_candidates([candidates_of(3)])


def test_join_scores_keeps_the_mean_over_shared_passages():
    known = {2: -1.0, 3: -3.0}
    join_scores(known, (1, 2, 3), (0.0, -5.0, -1.0))
    assert known == {1: 1.0, 2: -4.0, 3: 0.0}
    assert (known[2] + known[3]) / 2 == (-1.0 - 3.0) / 2

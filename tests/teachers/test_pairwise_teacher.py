from __future__ import annotations

import json
from functools import partial
from itertools import permutations

import pytest
import torch
from conftest import build_causal, build_t5
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from tevatron_distill.engines import AnswerCache, HFEngine
from tevatron_distill.prompts import PAIR_PROMPTS
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.sorting import allpair, heapsort, sliding_window
from tevatron_distill.teachers import AskingTeacher, PairwiseOracle

PROMPT = PAIR_PROMPTS["instructdistill"]


class ScriptedEngine:
    """Answers with the logits that a table holds for the passages shown."""

    model_name = "scripted"
    identity = "scripted"
    answers = frozenset({"choice"})
    num_tokens = num_shortened = 0
    may_miss = False

    def __init__(self, logits):
        self.logits = logits
        self.asked = []

    def prepare(self, candidates, prompt, num_passages):
        pass

    def key_text(self, request):
        return f"{request.candidates.query_id} {request.passages}"

    def batches(self, requests):
        return [list(range(len(requests)))] if requests else []

    def report(self):
        return {}

    def answer(self, requests):
        self.asked += [request.positions for request in requests]
        return [self.logits[request.positions] for request in requests]


def candidates_of(num_passages, query_id="q1"):
    words = ["red", "green", "blue", "yellow", "one", "two", "three", "four", "five", "six", "seven", "eight"]
    passages = tuple(
        Passage(f"d{place}", " ".join(words[place:] + words[: place + 2]), "a title" * (place % 2))
        for place in range(num_passages)
    )
    scores = tuple(float(num_passages - place) for place in range(num_passages))
    return Candidates(query_id, "what is red and green?", passages, scores)


@pytest.fixture
def cache(tmp_path):
    with AnswerCache(tmp_path / "cache.sqlite") as cache:
        yield cache


def test_votes_ties_and_preferences_are_added_up_as_published(cache):
    logits = {
        (0, 1): (1.0, 0.0),  # both orders name passage 0
        (1, 0): (0.0, 3.0),
        (0, 2): (2.0, 0.0),  # each order names what it shows first
        (2, 0): (1.0, 0.0),
        (1, 2): (0.5, 0.5),  # a tie, then a vote for 2
        (2, 1): (4.0, 0.0),
    }
    teacher = AskingTeacher(PairwiseOracle(PROMPT), ScriptedEngine(logits), allpair, "allpair", cache)
    [(index, group)] = teacher.teach([candidates_of(3)])
    assert index == 0
    assert group.scores == (2 + 1, 0 + 0.5, 1 + 1.5)
    assert (group.permutation, group.num_ranked) == ((0, 2, 1), 3)

    def p(difference):
        return 1 / (1 + 2.718281828459045**-difference)

    assert [(i, j) for i, j, _ in group.preferences] == [(0, 1), (0, 2), (1, 2)]
    assert [probability for *_, probability in group.preferences] == [
        round((p(1) + p(3)) / 2, 6),
        round((p(2) + 1 - p(1)) / 2, 6),
        round((0.5 + 1 - p(4)) / 2, 6),
    ]
    assert group.teacher == {"name": "pairwise", "sort": "allpair", "model": "scripted", "prompt": "instructdistill"}
    report = teacher.report()
    assert (report["pairs"], report["asked"], report["cached"]) == (3, 6, 0)
    assert report["disagreement"] == 2 / 3
    assert report["position_bias"] == pytest.approx((1 + 0 + 1 + 1 + 0.5 + 1) / 6 - 0.5)


def test_a_large_logit_makes_no_overflow(cache):
    engine = ScriptedEngine({(0, 1): (9e4, -9e4), (1, 0): (-9e4, 9e4)})
    [(_, group)] = AskingTeacher(PairwiseOracle(PROMPT), engine, allpair, "allpair", cache).teach([candidates_of(2)])
    assert group.preferences == ((0, 1, 1.0),)


def test_only_pairs_that_were_asked_have_preferences_and_only_all_pairs_has_scores(cache):
    logits = {(i, j): (float(i > j), float(j > i)) for i, j in permutations(range(5), 2)}
    engine = ScriptedEngine(logits)
    sort = partial(sliding_window, num_passes=2, window_size=2, step_size=1)
    [(_, group)] = AskingTeacher(PairwiseOracle(PROMPT), engine, sort, "sliding_window", cache).teach(
        [candidates_of(5)]
    )
    assert group.scores is None
    assert (group.permutation[:2], group.num_ranked) == ((4, 3), 2)
    pairs = {(i, j) for i, j, _ in group.preferences}
    assert {tuple(sorted(positions)) for positions in engine.asked} == pairs
    assert len(engine.asked) == len(set(engine.asked)) == 2 * len(pairs)
    assert all(probability < 0.5 for *_, probability in group.preferences)


def test_a_single_candidate_needs_no_question(cache):
    engine = ScriptedEngine({})
    [(_, group)] = AskingTeacher(PairwiseOracle(PROMPT), engine, allpair, "allpair", cache).teach([candidates_of(1)])
    assert (group.permutation, group.preferences, engine.asked) == ((0,), (), [])


def test_a_sort_that_asks_about_more_than_two_passages_is_refused(cache):
    sort = partial(heapsort, num_child=3)
    teacher = AskingTeacher(PairwiseOracle(PROMPT), ScriptedEngine({}), sort, "heapsort", cache)
    with pytest.raises(InputError, match="--num_child 1"):
        list(teacher.teach([candidates_of(4)]))


def test_another_sort_asks_only_what_is_not_known(cache):
    logits = {(i, j): (float(i > j), float(j > i)) for i, j in permutations(range(8), 2)}
    engine = ScriptedEngine(logits)
    list(AskingTeacher(PairwiseOracle(PROMPT), engine, heapsort, "heapsort", cache).teach([candidates_of(8)]))
    assert len(engine.asked) < 8 * 7
    list(AskingTeacher(PairwiseOracle(PROMPT), engine, allpair, "allpair", cache).teach([candidates_of(8)]))
    assert sorted(engine.asked) == sorted(logits)


def prp_all_pairs(folder, candidates):
    """InstructDistill's teacher from plain transformers code: permutation and sums of votes."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    is_t5 = json.loads((folder / "config.json").read_text())["model_type"] == "t5"
    auto_class = AutoModelForSeq2SeqLM if is_t5 else AutoModelForCausalLM
    model = auto_class.from_pretrained(folder, dtype=torch.float32).eval()
    texts = []
    for passage in candidates.passages:
        text = f"Title: {passage.title} Content: {passage.text}" if passage.title else passage.text
        texts.append(" ".join(text.split()[:100]))
    sums = [0.0] * len(texts)
    for i, j in permutations(range(len(texts)), 2):
        if is_t5:
            prompt = PROMPT.seq2seq.user
        else:
            prompt = f"### System:\n{PROMPT.causal.system}\n\n### User:\n{PROMPT.causal.user}\n\n### Assistant:\n"
        prompt = prompt.replace("{query}", candidates.query).replace("{a}", texts[i]).replace("{b}", texts[j])
        with torch.no_grad():
            if is_t5:
                decoder = torch.tensor([[0, tokenizer.convert_tokens_to_ids("▁passage")]])
                inputs = tokenizer(prompt, return_tensors="pt").input_ids
                logits = model(input_ids=inputs, decoder_input_ids=decoder).logits[0, -1]
                a, b = (logits[tokenizer.convert_tokens_to_ids(f"▁{label}")] for label in "AB")
            else:
                inputs = tokenizer(prompt + "The more relevant passage is Passage", return_tensors="pt").input_ids
                logits = model(input_ids=inputs).logits[0, -1]
                a, b = (logits[tokenizer.convert_tokens_to_ids(f"Ġ{label}")] for label in "AB")
        winner = i if a > b else j
        if a == b:
            sums[i] += 0.5
            sums[j] += 0.5
        else:
            sums[winner] += 1
    with_first_stage = [votes + 1 / (10 + rank) for rank, votes in enumerate(sums)]
    return tuple(sorted(range(len(sums)), key=lambda i: -with_first_stage[i])), tuple(sums)


@pytest.mark.parametrize("build", [(build_t5,), (build_causal, "llama")], ids=["t5", "llama"])
def test_all_pairs_is_instructdistills_teacher(build, make_folder, cache):
    folder = make_folder(*build)
    block = [candidates_of(6, "q1"), candidates_of(4, "q2")]
    teacher = AskingTeacher(PairwiseOracle(PROMPT), HFEngine(str(folder), batch_tokens=2000), allpair, "allpair", cache)
    groups = dict(teacher.teach(block))
    for index, candidates in enumerate(block):
        permutation, sums = prp_all_pairs(folder, candidates)
        assert groups[index].permutation == permutation
        assert groups[index].scores == sums


@pytest.mark.parametrize(
    ("name", "sort"),
    [
        ("allpair", allpair),
        ("heapsort", partial(heapsort, top_k=3)),
        ("sliding_window", partial(sliding_window, num_passes=3, window_size=2, step_size=1)),
    ],
)
def test_a_block_of_queries_is_taught_as_each_query_alone(name, sort, t5_folder, tmp_path):
    block = [candidates_of(5, "q1"), candidates_of(1, "q2"), candidates_of(7, "q3")]

    def teach(queries, cache_name):
        with AnswerCache(tmp_path / cache_name) as cache:
            teacher = AskingTeacher(PairwiseOracle(PROMPT), HFEngine(str(t5_folder)), sort, name, cache)
            return [group for _, group in sorted(teacher.teach(queries), key=lambda pair: pair[0])]

    together = teach(block, "together.sqlite")
    for index, candidates in enumerate(block):
        [alone] = teach([candidates], f"alone{index}.sqlite")
        assert (alone.permutation, alone.scores) == (together[index].permutation, together[index].scores)
        for (i, j, p), (i2, j2, p2) in zip(alone.preferences, together[index].preferences, strict=True):
            assert (i, j) == (i2, j2)
            assert p == pytest.approx(p2, abs=2e-6)


def test_duot5_adds_the_probabilities_of_both_orders(cache):
    logits = {(0, 1): (2.0, 0.0), (1, 0): (0.0, 1.0), (0, 2): (0.0, 3.0), (2, 0): (1.0, 0.0)}
    logits |= {(1, 2): (0.5, 0.0), (2, 1): (0.0, 0.0)}

    def p(difference):
        return 1 / (1 + 2.718281828459045**-difference)

    teacher = AskingTeacher(PairwiseOracle(PAIR_PROMPTS["duot5"]), ScriptedEngine(logits), allpair, "allpair", cache)
    [(_, group)] = teacher.teach([candidates_of(3)])
    assert group.scores == pytest.approx(
        (
            p(2) + (1 - p(-1)) + p(-3) + (1 - p(1)),
            p(-1) + (1 - p(2)) + p(0.5) + (1 - p(0)),
            p(1) + (1 - p(-3)) + p(0) + (1 - p(0.5)),
        )
    )
    assert group.permutation == (2, 0, 1)
    assert group.preferences[0] == (0, 1, round((p(2) + 1 - p(-1)) / 2, 6))


def test_the_names_of_vicuna_1_5_are_nothing_special(cache):
    # llm-rankers takes any model with "v1.5" in its name for a Vicuna, and frames its prompts so
    engine = ScriptedEngine({(0, 1): (1.0, 0.0), (1, 0): (0.0, 1.0)})
    engine.model_name = "some-model-v1.5"
    [(_, group)] = AskingTeacher(PairwiseOracle(PROMPT), engine, allpair, "allpair", cache).teach([candidates_of(2)])
    assert group.permutation == (0, 1)


def test_prompts_are_counted_one_by_one(cache):
    # llm-rankers counts batches in one sort and one for two prompts in another
    logits = {(i, j): (float(i > j), float(j > i)) for i, j in permutations(range(6), 2)}
    teacher = AskingTeacher(PairwiseOracle(PROMPT), ScriptedEngine(logits), heapsort, "heapsort", cache)
    list(teacher.teach([candidates_of(6)]))
    assert teacher.report()["asked"] == 2 * teacher.report()["pairs"]


@pytest.mark.parametrize(("name", "sort"), [("allpair", allpair), ("heapsort", heapsort)])
def test_a_conflict_is_half_a_vote_for_each_in_every_sort(name, sort, cache):
    # llm-rankers gives half a vote in allpair, and "not greater" in its sorts, where the order of asking decides
    logits = dict.fromkeys(permutations(range(5), 2), (1.0, 0.0))
    [(_, group)] = AskingTeacher(PairwiseOracle(PROMPT), ScriptedEngine(logits), sort, name, cache).teach(
        [candidates_of(5)]
    )
    assert group.permutation == (0, 1, 2, 3, 4)
    assert {p for *_, p in group.preferences} == {0.5}

"""Ranking by comparisons: the matrix, bubble, heap, and a reward model's calls."""

from __future__ import annotations

import itertools

import pytest
import torch
from conftest import WORDS, build_bert, build_causal, build_t5

from tevatron_distill.reranker import Reranker, pair
from tevatron_distill.reranker.compare import CONVERSATION, choose_reference
from tevatron_distill.reranker.pair import INFERENCE_MODES, Plan
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, load_student

LISTS = [
    Candidates("a", "one two", tuple(Passage(f"d{n}", " ".join(WORDS[n : n + 1 + n % 4])) for n in range(7)), ()),
    Candidates("b", "what is a reranker?", (Passage("x", "a reranker"), Passage("y", "the dog", "cat")), ()),
    Candidates("c", "one two", (Passage("z", "alone"),), ()),
]


@pytest.fixture(scope="module")
def trained(make_folder, tmp_path_factory):
    """Folders of students whose heads say something."""

    def build(kind):
        student = load_student(str(make_folder(kind)), "pair_ranker", options=LoadOptions(training=True))
        torch.manual_seed(8)
        with torch.no_grad():
            for weight in student.model.head_layer.parameters():
                weight.copy_(torch.randn_like(weight))
        folder = tmp_path_factory.mktemp("pair")
        student.model.save_pretrained(folder)
        student.tokenizer.save_pretrained(folder)
        student.layout.settings.save(folder)
        return folder

    return {kind: build(kind) for kind in (build_bert, build_causal, build_t5)}


@pytest.fixture
def make(trained):
    return lambda kind=build_bert, **settings: Reranker.from_pretrained(trained[kind], device="cpu", **settings)


class Oracle:
    """Stands for a model: the logit of i before j is what a table says."""

    def __init__(self, ranker: Reranker, monkeypatch, table):
        self.asked: list[tuple[int, int, int]] = []
        self.rounds = 0

        def compare(comparer, views):
            self.rounds += 1
            self.asked += list(views)
            for index, i, j in views:
                comparer.logits[index, i, j] = float(table(index, i, j))

        monkeypatch.setattr(pair.Comparer, "compare", compare)
        self.ranker = ranker


def matrix_by_hand(ranker: Reranker, one: Candidates) -> torch.Tensor:
    """M: how far i is ahead when it is shown first, row by row, one row a forward pass."""
    size = len(one.passages)
    matrix = torch.zeros(size, size)
    for i, j in itertools.permutations(range(size), 2):
        batch = ranker.layout.pad(list(ranker.layout.rows(one, [(i, j)])))
        with torch.no_grad():
            logits = ranker.model(**{name: batch[name] for name in ranker.layout.model_inputs})["logits"][0, :, 0]
        matrix[i, j] = logits[0] - logits[1]
    return matrix


@pytest.mark.parametrize("kind", [build_bert, build_causal, build_t5])
def test_full_scores_are_llm_blenders_mean_of_the_symmetrised_matrix(make, kind):
    ranker = make(kind)
    scores = ranker.score_candidates(LISTS)
    for one, row in zip(LISTS, scores, strict=True):
        matrix = matrix_by_hand(ranker, one)
        assert row == pytest.approx((matrix - matrix.T).mean(dim=1).tolist(), abs=2e-4)
    assert scores[2] == [0.0]


def test_max_wins_counts_both_orders_and_nothing_is_averaged(make):
    ranker = make(pair_aggregation="max_wins")
    matrix = matrix_by_hand(ranker, LISTS[0])
    expected = (matrix > 0).sum(dim=1) + (matrix < 0).sum(dim=0)
    assert ranker.score_candidates(LISTS[:1])[0] == expected.tolist()
    assert sum(expected.tolist()) == 7 * 6


def test_one_order_shows_each_pair_once_in_the_first_stages_order(make):
    ranker = make(orders=1)
    upper = matrix_by_hand(ranker, LISTS[0]).triu(1)
    expected = (upper - upper.T).mean(dim=1) * 2
    assert ranker.score_candidates(LISTS[:1])[0] == pytest.approx(expected.tolist(), abs=2e-4)
    assert ranker.batcher.count.rows == 7 * 6 / 2


def test_scores_of_a_list_do_not_depend_on_other_lists_or_on_batches(make, monkeypatch):
    whole = make().score_candidates(LISTS)
    monkeypatch.setattr(pair, "ROWS_AT_ONCE", 5)
    for one, row, tight in zip(LISTS, whole, make(batch_tokens=1).score_candidates(LISTS), strict=True):
        assert tight == pytest.approx(row, abs=1e-4)
        assert make().score_candidates([one])[0] == pytest.approx(row, abs=1e-4)


def test_the_model_gives_scores_that_its_evaluation_in_training_orders_alike(make):
    ranker = make()
    batch = ranker.layout.collate(LISTS)
    batch["mask"] = torch.arange(7) < torch.tensor([[7], [2], [1]])
    with torch.no_grad():
        outputs = ranker.model(**{name: batch[name] for name in ranker.layout.model_inputs})
    verdict = ranker.layout.verdict(outputs, batch)
    for one, scores, row in zip(LISTS, ranker.score_candidates(LISTS), verdict.scores, strict=True):
        size = len(one.passages)
        scale = 2 * (size - 1) / size
        assert scores == pytest.approx((row[:size] * scale).tolist(), abs=2e-4)


def test_equal_texts_are_never_shown_and_share_their_score(make):
    passages = (*LISTS[0].passages[:3], Passage("again", LISTS[0].passages[1].text))
    ranker = make()
    scores = ranker.score_candidates([Candidates("q", "one two", passages, ())])[0]
    assert scores[3] == pytest.approx(scores[1], abs=1e-5)
    assert ranker.batcher.count.rows == 4 * 3 - 2


@pytest.mark.parametrize("mode", INFERENCE_MODES)
def test_every_way_finds_the_top_places_of_a_perfect_judge(make, monkeypatch, mode):
    strength = [3, 9, 1, 7, 5, 8, 2]
    Oracle(make(), monkeypatch, lambda index, i, j: strength[i] - strength[j])
    scores = make(inference_mode=mode, num_passes=3).score_candidates(LISTS[:1])[0]
    order = sorted(range(7), key=lambda position: -scores[position])
    assert order[:3] == [1, 5, 3]
    assert len(set(scores)) == 7


def test_bubble_compares_neighbours_only_and_all_lists_advance_together(make, monkeypatch):
    oracle = Oracle(make(), monkeypatch, lambda index, i, j: i - j)
    lists = [LISTS[0], LISTS[0], LISTS[1]]
    make(inference_mode="bubble", num_passes=1).score_candidates(lists)
    assert len(oracle.asked) == 2 * (6 + 6 + 1)
    assert oracle.rounds == 6


def test_bubble_starts_from_the_first_stage_and_is_the_same_each_time(make, monkeypatch):
    Oracle(make(), monkeypatch, lambda index, i, j: 1 if (i - j) % 3 == 1 else -1)  # a beats b beats c beats a
    ranker = make(inference_mode="bubble", num_passes=2)
    first = ranker.score_candidates(LISTS[:1])
    torch.manual_seed(99)
    assert ranker.score_candidates(LISTS[:1]) == first


def test_a_position_bias_alone_moves_nothing(make, monkeypatch):
    Oracle(make(), monkeypatch, lambda index, i, j: 5.0)  # whoever stands first is better
    for mode in ("bubble", "heapsort"):
        assert make(inference_mode=mode).rank("q", ["a", "b", "c"]) == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert {score for _, score in make().rank("q", ["a", "b", "c"])} == {0.0}


def test_sorted_output_is_sorted(make, monkeypatch):
    strength = [4, 1, 3, 2, 0]
    Oracle(make(), monkeypatch, lambda index, i, j: strength[j] - strength[i])
    texts = ["A", "B", "C", "D", "E"]
    best = make().best_of_n(["q", "r"], [texts, texts[:2]], n=5)
    assert best == [["E", "B", "D", "C", "A"], ["B", "A"]]
    assert make().worst_of_n(["q"], [texts], n=2) == [["A", "C"]]
    assert make().worst_of_n(["q"], [texts], n=2, inference_mode="full") == [["A", "C"]]
    assert make().best_of_n(["q"], [["only"]]) == [["only"]]


def test_compare_averages_both_orders(make):
    ranker = make()
    texts = [passage.text for passage in LISTS[0].passages[:2]]
    matrix = matrix_by_hand(ranker, LISTS[0])
    ahead = {mode: ranker.compare(["one two"], texts[:1], texts[1:], mode=mode, return_logits=True)[0] for mode in
             ("both", "ab", "ba", "[A,B]+[B,A]", "[A,B]", "[B,A]")}  # fmt: skip
    assert ahead["ab"] == ahead["[A,B]"] == pytest.approx(matrix[0, 1].item(), abs=1e-4)
    assert ahead["ba"] == ahead["[B,A]"] == pytest.approx(-matrix[1, 0].item(), abs=1e-4)
    assert ahead["both"] == ahead["[A,B]+[B,A]"] == pytest.approx((ahead["ab"] + ahead["ba"]) / 2, abs=1e-5)
    assert ranker.compare(["one two"], texts[:1], texts[1:]) == [ahead["both"] > 0]
    [swapped] = ranker.compare(["one two"], texts[1:], texts[:1], return_logits=True)
    assert swapped == pytest.approx(-ahead["both"], abs=1e-5)
    with_instruction = ranker.compare(["two"], texts[:1], texts[1:], return_logits=True, instructions=["one "])
    assert with_instruction == pytest.approx([ahead["both"]], abs=1e-5)


def test_equal_candidates_are_equal(make):
    assert make().compare(["q"], ["same"], ["same"], return_logits=True) == [pytest.approx(0.0, abs=1e-5)]


def test_rewards_are_margins_over_one_reference(make):
    ranker = make()
    texts = [passage.text for passage in LISTS[0].passages]
    matrix = matrix_by_hand(ranker, LISTS[0])
    margins = (matrix - matrix.T) / 2
    longest = max(range(7), key=lambda n: len(texts[n]))
    for spelling in ({}, {"mode": "longest"}, {"ref_mode": "longest"}, {"ref_candidates": [texts[longest]]}):
        [rewards] = ranker.rank_with_ref(["one two"], [texts], **spelling)
        assert rewards == pytest.approx(margins[:, longest].tolist(), abs=1e-4)
        assert rewards[longest] == 0.0
    [shortest] = ranker.rank_with_ref(["one two"], [texts], mode="shortest")
    assert shortest != pytest.approx(rewards, abs=1e-4)
    [ranks] = ranker.rank_with_ref(["one two"], [texts], return_scores=False)
    assert sorted(range(7), key=lambda n: ranks[n]) == sorted(range(7), key=lambda n: -rewards[n])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("longest", "ccc"), ("shortest", "a"), ("median_length", "bb"), ("first", "bb"), ("last", "ccc")],
)
def test_references_are_chosen_by_length_or_place(mode, expected):
    assert choose_reference(["bb", "a", "ccc"], mode) == expected


def test_conversations_are_compared_turn_by_turn(make, monkeypatch):
    seen = []
    ranker = make()
    compare = ranker.compare
    monkeypatch.setattr(
        ranker, "compare", lambda *given, **more: seen.append((*given[:3], more)) or compare(*given, **more)
    )

    def conversation(*answers):
        return [
            {"role": role, "content": text}
            for turn, answer in zip(("hello", "and?"), answers, strict=True)
            for role, text in (("USER", turn), ("ASSISTANT", answer))
        ]

    [better] = ranker.compare_conversations([conversation("hi", "bye")], [conversation("no", "go")])
    assert better in (True, False)
    assert seen[0] == (
        ["USER: hello\nAssistant: <Response 1>\nUSER: and?\nAssistant: <Response 2>"],
        ["<Response 1>: hi\n<Response 2>: bye"],
        ["<Response 1>: no\n<Response 2>: go"],
        {"instructions": [CONVERSATION]},
    )
    with pytest.raises(InputError, match="turns must be USER, ASSISTANT"):
        ranker.compare_conversations([conversation("hi", "bye")[1:]], [conversation("no", "go")])
    other = [{"role": "USER", "content": "other"}, *conversation("no", "go")[1:]]
    with pytest.raises(InputError, match="must say the same in both"):
        ranker.compare_conversations([conversation("hi", "bye")], [other])


def test_calls_that_mean_nothing_are_refused(make, bert_classifier_folder):
    ranker = make()
    for call, message in (
        (lambda: ranker.compare(["q"], ["a"], ["b", "c"]), "must come in pairs"),
        (lambda: ranker.compare(["q", "r"], ["a"], ["b"]), "each source needs its candidates"),
        (lambda: ranker.compare(["q"], ["a"], ["b"], mode="left"), "mode must be one of both"),
        (lambda: ranker.rank_with_ref(["q"], [["a"]], ref_mode="best"), "ref_mode must be one of longest"),
        (lambda: ranker.rank_with_ref(["q"], [["a"]], ref_mode="first", mode="last"), "are one setting"),
        (lambda: ranker.rank_with_ref(["q"], [["a"]], ["r", "s"]), "each list needs one reference"),
        (lambda: ranker.best_of_n(["q"], [["a"]], n=0), "n must be at least 1"),
        (lambda: ranker.best_of_n(["q"], [["a"]], inference_mode="tree"), "inference_mode must be one of full"),
        (lambda: ranker.compute_score(["q", "a"]), "compares passages"),
        (lambda: make(orders=3).rank("q", ["a", "b"]), "orders must be 1 or 2"),
        (lambda: make(pair_aggregation="sum").rank("q", ["a", "b"]), "pair_aggregation must be one of"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(TypeError, match="only a pair_ranker compares candidates; this one is cross_encoder"):
        Reranker.from_pretrained(bert_classifier_folder, device="cpu").compare(["q"], ["a"], ["b"])


def test_a_plan_that_is_not_asked_for_is_llm_blenders_with_as_many_places_as_a_page(make):
    assert Plan.of(make().layout.settings) == Plan("full", "max_logits", 2, 10)


def test_memory_that_runs_out_halves_the_batch_and_changes_no_score(make):
    expected = make().score_candidates(LISTS)
    ranker = make()
    forward = ranker.model.forward

    def small(**inputs):
        if len(inputs["input_ids"]) > 2:
            raise torch.cuda.OutOfMemoryError
        return forward(**inputs)

    ranker.model.forward = small
    for row, wanted in zip(ranker.score_candidates(LISTS), expected, strict=True):
        assert row == pytest.approx(wanted, abs=1e-4)

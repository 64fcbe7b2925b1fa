from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedEngine, candidates_of, taught, worth_of

from tevatron_distill.engines import AnswerCache
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.permutation import FUSIONS
from tevatron_distill.prompts import LIST_PROMPTS, PAIR_PROMPTS
from tevatron_distill.schema import Group, InputError
from tevatron_distill.sorting import allpair, sliding_window
from tevatron_distill.teachers import AskingTeacher, ListwiseOracle, PairwiseOracle, SelfConsistency
from tevatron_distill.teachers.merging import load_merged, merge_groups

PROMPT = LIST_PROMPTS["rank_zephyr"]
PASSAGES = candidates_of(4).passages


def group_of(permutation, num_ranked=None, **verdict):
    num_ranked = len(permutation) if num_ranked is None else num_ranked
    return Group("q1", "?", PASSAGES[: len(permutation)], tuple(permutation), num_ranked, **verdict)


@pytest.mark.parametrize("merge", FUSIONS)
@given(data=st.data(), times=st.integers(1, 4))
def test_merging_equal_verdicts_gives_that_verdict(merge, data, times):
    order = data.draw(st.permutations(range(4)))
    num_ranked = data.draw(st.integers(0, 4))
    front, tail = order[:num_ranked], sorted(order[num_ranked:])
    merged = merge_groups([group_of([*front, *tail], num_ranked)] * times, merge)
    assert (merged.permutation, merged.num_ranked) == ((*front, *tail), num_ranked)


def test_scores_are_averaged_and_preferences_over_those_who_have_them():
    first = group_of([0, 1], scores=(1.0, 0.0), preferences=((0, 1, 0.75),))
    second = group_of([1, 0], scores=(0.0, 3.0), preferences=((1, 0, 0.125),))
    merged = merge_groups([first, second], "rrf")
    assert merged.scores == ((1.0 + 0.0) / 2, (0.0 + 3.0) / 2)
    assert merged.preferences == ((0, 1, (0.75 + (1 - 0.125)) / 2),)
    assert merge_groups([first, group_of([1, 0])], "rrf").scores is None
    assert merge_groups([group_of([1, 0])], "rrf").preferences is None


@pytest.mark.parametrize("merge", FUSIONS)
def test_a_passage_that_one_verdict_ranks_stands_before_those_that_none_ranks(merge):
    merged = merge_groups([group_of([3, 0, 1, 2], 1), group_of([3, 2, 0, 1], 2)], merge)
    assert (merged.permutation, merged.num_ranked) == ((3, 2, 0, 1), 2)


def test_groups_and_runs_on_the_same_candidates_are_merged(tmp_path):
    groups, run = tmp_path / "a.jsonl", tmp_path / "b.trec"
    groups.write_text(group_to_line(group_of([2, 1, 0, 3], 3)) + "\n")
    run.write_text("".join(f"q1 Q0 d{docid} {rank} {-rank} x\n" for rank, docid in enumerate([2, 3, 1], start=1)))
    teacher = load_merged([str(groups), str(run)], "rrf")
    [group] = taught(teacher, candidates_of(4))
    # d1 1/62 + 1/63, d0 1/63, d3 1/62
    assert (group.permutation, group.num_ranked) == ((2, 1, 3, 0), 4)
    assert group.teacher == {"name": "merged", "merge": "rrf", "of": ["a.jsonl", "b.trec"]}
    assert teacher.report() == {"merged": 2}


def test_verdicts_on_other_queries_or_candidates_are_refused_before_anything_is_taught(tmp_path):
    run = tmp_path / "b.trec"
    run.write_text("q1\td0\t2.0\nq1\td9\t1.0\n")
    with pytest.raises(InputError, match=r'b\.trec: docid "d9" of query_id "q1" is not among its 4 candidates'):
        load_merged([str(run)], "rrf").prepare([candidates_of(4)])
    with pytest.raises(InputError, match=r'b\.trec: query_id "q2" must have a verdict in every file'):
        load_merged([str(run)], "rrf").prepare([candidates_of(10, "q2")])
    with pytest.raises(InputError, match="--merge_paths must name"):
        load_merged([str(tmp_path / "nothing")], "rrf")


def biased(request):
    """Knows the order, but puts the passage that it is shown last in front."""
    worths = worth_of(request)
    order = sorted(range(len(worths)), key=lambda place: -worths[place])
    last = len(worths) - 1
    return PROMPT.answer_text([last, *(place for place in order if place != last)])


def consistent(num_shuffles, merge, block, answer=biased, **keywords):
    with AnswerCache(":memory:") as cache:
        engine = ScriptedEngine(answer)
        sort = partial(sliding_window, num_passes=1, window_size=20, step_size=10)
        asking = AskingTeacher(
            ListwiseOracle(PROMPT), engine, sort, "sliding_window", cache, question_size=20, **keywords
        )
        teacher = SelfConsistency(asking, num_shuffles, merge, **keywords) if num_shuffles else asking
        return taught(teacher, *block), teacher.report()


def agreement(order):
    """Kendall's tau with the true order, the largest number first."""
    pairs = [(i, j) for i in range(len(order)) for j in range(i)]
    return sum(1 if order[j] > order[i] else -1 for i, j in pairs) / len(pairs)


@pytest.mark.parametrize("merge", FUSIONS)
def test_shuffled_orders_correct_a_judge_with_a_position_bias(merge):
    numbers = list(range(12))
    random.Random(1).shuffle(numbers)
    entry = candidates_of(12)
    entry = type(entry)(entry.query_id, entry.query, tuple(entry.passages[number] for number in numbers), entry.scores)

    def tau(num_shuffles):
        [[group], _] = consistent(num_shuffles, merge, [entry])
        return agreement([int(group.passages[position].text) for position in group.permutation])

    assert tau(0) < 1.0
    assert tau(40) > tau(0)
    assert tau(40) == 1.0


def perfect(request):
    worths = worth_of(request)
    return PROMPT.answer_text(sorted(range(len(worths)), key=lambda place: -worths[place]))


@settings(max_examples=20)
@given(num_passages=st.integers(1, 20), num_shuffles=st.integers(1, 4), merge=st.sampled_from(FUSIONS))
def test_a_judge_without_bias_is_not_changed(num_passages, num_shuffles, merge):
    [[group], report] = consistent(num_shuffles, merge, [candidates_of(num_passages)], perfect)
    assert group.permutation == tuple(reversed(range(num_passages)))
    if num_passages > 1:
        assert group.teacher["answers"] == report["ok"] == num_shuffles
        assert (group.teacher["num_shuffles"], group.teacher["merge"]) == (num_shuffles, merge)


def test_the_orders_of_a_query_do_not_depend_on_its_block():
    block = [candidates_of(n, f"q{n}") for n in (5, 9, 3)]
    together, _ = consistent(3, "borda", block)
    for entry, group in zip(block, together, strict=True):
        assert consistent(3, "borda", [entry])[0] == [group]


def test_only_the_front_is_shuffled_where_a_depth_says_so():
    [[group], _] = consistent(3, "rrf", [candidates_of(9)], perfect, sort_depth=4)
    assert (group.permutation, group.num_ranked) == ((3, 2, 1, 0, 4, 5, 6, 7, 8), 4)


def test_preferences_of_shuffled_pairs_are_those_of_the_pairs():
    def answer(request):
        return tuple(worth_of(request))

    with AnswerCache(":memory:") as cache:
        engine = ScriptedEngine(answer)
        asking = AskingTeacher(PairwiseOracle(PAIR_PROMPTS["llm_rankers"]), engine, allpair, "allpair", cache)
        [alone] = taught(asking, candidates_of(5))
        [merged] = taught(SelfConsistency(asking, 3), candidates_of(5))
    assert merged.preferences == alone.preferences
    assert (merged.permutation, merged.scores) == (alone.permutation, alone.scores)

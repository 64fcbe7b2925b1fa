from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedEngine, candidates_of, taught, worth_of

from tevatron_distill.engines import AnswerCache
from tevatron_distill.prompts import LIST_PROMPTS
from tevatron_distill.schema import InputError
from tevatron_distill.sorting import sliding_window
from tevatron_distill.teachers import AskingTeacher, ListwiseOracle

NUMBERS, LETTERS = LIST_PROMPTS["rank_gpt"], LIST_PROMPTS["rank_zephyr_alpha"]


def written(prompt):
    """A perfect judge that writes its order as the prompt asks for it."""

    def answer(request):
        worths = worth_of(request)
        return prompt.answer_text(sorted(range(len(worths)), key=lambda place: -worths[place]))

    return answer


def teach(prompt, answer, block, *, num_passes=1, window_size=20, step_size=10, sort_depth=None):
    with AnswerCache(":memory:") as cache:
        engine = ScriptedEngine(answer)
        sort = partial(sliding_window, num_passes=num_passes, window_size=window_size, step_size=step_size)
        teacher = AskingTeacher(
            ListwiseOracle(prompt),
            engine,
            sort,
            "sliding_window",
            cache,
            question_size=window_size,
            sort_depth=sort_depth,
        )
        return taught(teacher, *block), teacher.report(), engine


@pytest.mark.parametrize("prompt", [NUMBERS, LETTERS], ids=["numbers", "letters"])
@pytest.mark.parametrize("kind", ["text", "choice"])
def test_nine_windows_put_the_best_ten_of_a_hundred_in_front(prompt, kind):
    answer = written(prompt) if kind == "text" else worth_of
    [group], report, engine = teach(replace(prompt, answer=kind), answer, [candidates_of(100)])
    assert group.permutation[:10] == tuple(range(99, 89, -1))
    assert engine.asked[0] == tuple(range(80, 100))
    assert (report["asked"], group.num_ranked) == (9, 100)
    assert group.teacher.get("answers") == (9 if kind == "text" else None)


def test_each_pass_sorts_further_and_one_that_changes_nothing_is_the_last():
    for num_passes in (1, 2, 3):
        [group], _, _ = teach(NUMBERS, written(NUMBERS), [candidates_of(40)], num_passes=num_passes)
        assert group.permutation[: 10 * num_passes] == tuple(range(39, 39 - 10 * num_passes, -1))
        assert (group.permutation == tuple(reversed(range(40)))) == (num_passes == 3)
    _, report, _ = teach(NUMBERS, written(NUMBERS), [candidates_of(20)], num_passes=5)
    assert report["asked"] == 2  # the second finds the window in order


def test_several_queries_share_their_rounds_and_are_taught_as_alone():
    block = [candidates_of(n, f"q{n}") for n in (35, 1, 20, 7)]
    together, _, _ = teach(LETTERS, written(LETTERS), block)
    for entry, group in zip(block, together, strict=True):
        assert teach(LETTERS, written(LETTERS), [entry])[0] == [group]


def test_only_the_front_is_sorted_where_a_depth_says_so():
    [group], report, engine = teach(NUMBERS, written(NUMBERS), [candidates_of(50)], sort_depth=20)
    assert group.permutation == (*range(19, -1, -1), *range(20, 50))
    assert (group.num_ranked, report["asked"], engine.asked) == (20, 1, [tuple(range(20))])


def test_what_a_repair_appended_at_the_end_is_tied():
    answers = {(0, 1, 2, 3, 4): "[4] > [2]"}
    [group], report, _ = teach(NUMBERS, lambda request: answers[request.positions], [candidates_of(5)])
    assert (group.permutation, group.num_ranked) == ((3, 1, 0, 2, 4), 2)
    assert group.teacher["malformed"] == report["missing"] == 1
    assert report["ok"] == report["repetition"] == 0


def test_every_kind_of_repair_is_counted():
    texts = ["[2] > [1]", "[2] > [2]", "[2] > [1] > [3]", "sorry", "2, 1"]
    block = [candidates_of(2, f"q{number}") for number in range(len(texts))]
    groups, report, _ = teach(NUMBERS, lambda request: texts[int(request.candidates.query_id[1])], block)
    # the last names all passages, only in another format
    assert [group.teacher["malformed"] for group in groups] == [0, 1, 1, 1, 0]
    counted = {kind: report[kind] for kind in ("ok", "wrong_format", "repetition", "missing", "out_of_range")}
    assert counted == {"ok": 1, "wrong_format": 2, "repetition": 1, "missing": 2, "out_of_range": 1}
    assert [group.permutation for group in groups] == [(1, 0), (1, 0), (1, 0), (0, 1), (1, 0)]


@settings(max_examples=30)
@given(data=st.data(), num_passages=st.integers(0, 30))
def test_whatever_the_model_writes_every_passage_keeps_a_place(data, num_passages):
    texts = st.text(alphabet="[]123450> ,\n", max_size=40)
    [group], _, _ = teach(
        NUMBERS, lambda request: data.draw(texts), [candidates_of(num_passages)], window_size=7, step_size=3
    )
    assert sorted(group.permutation) == list(range(num_passages))
    assert 0 <= group.num_ranked <= num_passages


def test_a_failure_of_the_backend_is_no_answer():
    # RankLLM hands the error's text to the parser, or leaves the query in its first-stage order
    def failing(request):
        raise ConnectionError("Error 429: 2 requests a minute")

    with pytest.raises(ConnectionError, match="429"):
        teach(NUMBERS, failing, [candidates_of(5)])


def test_numbers_where_a_text_was_asked_are_refused():
    with pytest.raises(InputError, match="asks for a text; the engine answered"):
        teach(NUMBERS, worth_of, [candidates_of(5)])


def test_the_engine_is_told_how_long_the_longest_window_will_be():
    for sizes, expected in (((35, 4), 20), ((7, 4), 7), ((1,), 2)):
        _, _, engine = teach(LETTERS, written(LETTERS), [candidates_of(n, f"q{n}") for n in sizes])
        assert engine.prepared == expected

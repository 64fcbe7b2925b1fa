"""Token-budget batches and the retreat when memory runs out."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tevatron_distill import batching
from tevatron_distill.batching import Budget, run_batches, token_budget_batches
from tevatron_distill.layouts.rows import padded_length

LENGTHS = st.lists(st.integers(1, 300), max_size=60)


@given(LENGTHS, st.integers(1, 2000), st.sampled_from([1, 8, 16]), st.one_of(st.none(), st.integers(1, 9)))
def test_every_row_is_in_one_batch_and_every_batch_within_the_budget(lengths, budget, multiple, max_rows):
    batches = token_budget_batches(lengths, budget, multiple=multiple, max_rows=max_rows)
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        tokens = len(batch) * padded_length(max(lengths[position] for position in batch), multiple)
        assert tokens <= budget or len(batch) == 1
        assert max_rows is None or len(batch) <= max_rows


@given(LENGTHS)
def test_batches_go_from_long_to_short_rows(lengths):
    flat = [lengths[position] for batch in token_budget_batches(lengths, 100) for position in batch]
    assert flat == sorted(lengths, reverse=True)


def test_equal_rows_keep_their_order():
    assert token_budget_batches([5, 5, 5], 10) == [[0, 1], [2]]


@pytest.mark.parametrize("keywords", [{"max_tokens": 0}, {"max_tokens": 9, "max_rows": 0}])
def test_a_budget_of_nothing_is_refused(keywords):
    with pytest.raises(ValueError, match="at least 1"):
        token_budget_batches([1], **keywords)


@given(st.integers(1, 9), st.integers(1, 40))
def test_batches_that_do_not_fit_are_halved_until_they_do(room, rows):
    tried = []

    def run(batch):
        tried.append(len(batch))
        if len(batch) > room:
            raise torch.cuda.OutOfMemoryError
        return [position * 10 for position in batch]

    budget = Budget(5 * rows)
    batches = [list(range(rows)), list(range(rows, 2 * rows))]
    done = list(run_batches(run, batches, [5] * 2 * rows, budget))
    assert [position for batch, _ in done for position in batch] == list(range(2 * rows))
    assert all(values == [position * 10 for position in batch] for batch, values in done)
    failures = [size for size in tried if size > room]
    assert len(failures) == len(set(failures)), "a size that failed once is not tried again"
    assert budget.num_halved == len(failures)
    assert budget.report().get("out_of_memory", 0) == len(failures)
    before = len(tried)
    again = [position for batch, _ in run_batches(run, batches[:1], [5] * rows, budget) for position in batch]
    assert again == list(range(rows))
    assert all(size <= room for size in tried[before:]), "what was learned is remembered by the next call"


def test_one_row_that_does_not_fit_is_an_error():
    def run(batch):
        raise torch.cuda.OutOfMemoryError("no room")

    with pytest.raises(torch.cuda.OutOfMemoryError, match="no room"):
        list(run_batches(run, [[0, 1]], [3, 3], Budget(100)))


def test_a_budget_that_was_halved_counts_tokens_and_not_rows():
    budget = Budget(80)
    budget.halve(8, 10)
    assert (budget.max_tokens, budget.rows(10), budget.rows(5), budget.rows(400)) == (40, 4, 8, 1)
    sizes = [len(batch) for batch, _ in run_batches(len, [[0, 1, 2, 3, 4, 5, 6, 7]], [10] * 4 + [5] * 4, budget)]
    assert sizes == [4, 4]


@pytest.fixture
def four_threads(monkeypatch):
    """Torch as on a machine of four cores, each of which may take a single batch."""
    monkeypatch.setattr(batching, "BATCHES_A_CORE", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


def test_cores_take_a_batch_each_and_the_others_keep_their_threads(four_threads):
    meeting = threading.Barrier(3, timeout=60)

    def run(batch):
        meeting.wait()  # three batches at the same time, or never
        return sum(batch), torch.get_num_threads(), torch.is_inference_mode_enabled()

    done = list(run_batches(run, [[4, 0], [2], [1, 3]], [1] * 5, Budget(9), cores=3))
    assert done == [([4, 0], (4, 1, True)), ([2], (2, 1, True)), ([1, 3], (4, 1, True))]
    assert torch.get_num_threads() == 4
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [4]


def test_few_batches_are_shared_by_all_cores(four_threads):
    threads = {
        thread for _, thread in run_batches(lambda _: threading.get_ident(), [[0], [1]], [1, 1], Budget(9), cores=3)
    }
    assert threads == {threading.get_ident()}


def test_a_batch_that_fails_on_its_core_ends_the_others(four_threads):
    done = []

    def run(batch):
        if batch == [0]:
            raise ValueError("row 0 is broken")
        done.append(batch)
        time.sleep(0.01)

    with pytest.raises(ValueError, match="row 0 is broken"):
        list(run_batches(run, [[row] for row in range(1000)], [1] * 1000, Budget(9), cores=2))
    assert len(done) < 500

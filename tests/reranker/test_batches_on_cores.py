"""Where a CPU's cores take a batch each, every student's scores are those of batches that the cores share."""

from __future__ import annotations

import pytest
import torch
from conftest import WORDS, build_bert, build_causal, build_t5

from tevatron_distill import batching
from tevatron_distill.reranker import Reranker, TokenCount
from tevatron_distill.schema import Candidates, Passage
from tevatron_distill.students import LoadOptions, load_student

LISTS = [
    Candidates(
        f"q{number}",
        f"one {WORDS[number]}",
        tuple(Passage(f"d{n}", " ".join(WORDS[n : n + 1 + (n + number) % 5])) for n in range(6)),
        (),
    )
    for number in range(6)
]
KINDS = {
    "cross_encoder": (build_bert, {}),
    "yes_token, T5": (build_t5, {}),
    "colbert": (build_bert, {}),
    "simcls": (build_bert, {}),
    "pair_ranker": (build_bert, {}),
    "listwise": (build_causal, {"window_size": 3, "step_size": 2}),
    "listwise, generated": (build_causal, {"window_size": 3, "step_size": 2, "decode": "generation"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_counts_are_those_of_shared_batches(kind, make_folder, monkeypatch):
    build, settings = KINDS[kind]
    torch.manual_seed(0)
    options = LoadOptions(training=True)
    student = load_student(str(make_folder(build)), kind.partition(",")[0], options=options, settings=settings)
    reranker = Reranker(student.model, student.layout, "cpu", batch_tokens=40)
    expected = reranker.score_candidates(LISTS)
    count, reranker.batcher.count = reranker.batcher.count, TokenCount()
    monkeypatch.setattr(batching, "BATCHES_A_CORE", 1)
    run_on_cores, ran = batching._run_on_cores, []
    monkeypatch.setattr(batching, "_run_on_cores", lambda *given: (ran.append(given[2]), run_on_cores(*given))[1])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = reranker.score_candidates(LISTS)
    finally:
        torch.set_num_threads(threads)
    assert set(ran) == {2}
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert reranker.batcher.count == count

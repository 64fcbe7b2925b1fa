"""Teaching from recorded answers: RankLLM's logs of RankVicuna, and our own."""

from __future__ import annotations

import json

import pytest

from tevatron_distill.driver import teach
from tevatron_distill.formats.groups import read_groups
from tevatron_distill.formats.runs import read_run
from tevatron_distill.schema import InputError

FIRST_STAGES = ["BM25", "BM25_RM3", "D_BERT_KD_TASB", "OPEN_AI_ADA2", "SPLADE_P_P_ENSEMBLE_DISTIL"]


def replay(data_dir, first_stage, folder, *more):
    """Teach RankVicuna's windows of the top 20; returns groups, our run, and theirs."""
    [log] = (data_dir / "rank_llm" / "prompts_and_responses" / first_stage).glob("*_4096_20_*dl20*.json")
    [theirs] = (data_dir / "rank_llm" / "rerank_results" / first_stage).glob("*vicuna*_4096_20_*dl20*.txt")
    retrieved = data_dir / "rank_llm" / "retrieve_results" / first_stage / "retrieve_results_dl20.json"
    out, run = folder / "groups.jsonl", folder / "run.trec"
    teach.main(
        [
            *("--dataset_path", str(retrieved), "--output_path", str(out), "--run_path", str(run)),
            *("--teacher", "listwise", "--prompt", "rank_vicuna", "--engine", "recorded", "--recorded_path", str(log)),
            *("--depth", "100", "--sort_depth", "20", *more),
        ]
    )
    return read_groups(out), read_run(run), read_run(theirs)


@pytest.mark.data
@pytest.mark.parametrize("first_stage", FIRST_STAGES)
def test_replaying_rank_vicuna_gives_its_runs_exactly(data_dir, tmp_path, first_stage):
    groups, ours, theirs = replay(data_dir, first_stage, tmp_path)
    assert len(groups) == len(theirs) == 54
    assert {query_id: list(docids) for query_id, docids in ours.items()} == {
        query_id: list(docids) for query_id, docids in theirs.items()
    }
    assert {group.num_ranked for group in groups} == {20}
    assert {group.scores for group in groups} == {None}
    assert all(group.permutation[20:] == tuple(range(20, 100)) for group in groups)
    report = json.loads((tmp_path / "groups.jsonl.run_config.json").read_text())["report"]
    assert (report["ok"], report["wrong_format"], report["repetition"], report["missing"]) == (54, 0, 0, 0)


@pytest.mark.data
def test_windows_that_were_not_recorded_are_an_error(data_dir, tmp_path):
    with pytest.raises(InputError, match="only 1 answers"):
        replay(data_dir, "BM25", tmp_path, "--sort_depth", "30")

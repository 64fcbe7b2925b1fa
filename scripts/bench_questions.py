"""Compares the top 10 of 100 in 60 questions with all pairs, under judges that err: how many questions, what nDCG@10.

    TEVATRON_DISTILL_DATA=data python scripts/bench_questions.py

The passages are BM25's for the judged queries of TREC DL 2019 and 2020. A judge has an opinion of every passage: its
grade, a grade with a slip that it makes whenever it sees the passage, or RankVicuna's order. To what it says it adds
noise of its own at every question, or it answers a share of them at random; asked the same again, it says the same.
A pair is asked in both orders. The prior is BM25's order or that of a student, MiniLM's token vectors untrained.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate
from tevatron_distill.sorting import allpair, heapsort, rechecked_heapsort

FOLDER = Path(os.environ.get("TEVATRON_DISTILL_DATA", "data"))
TOPICS = {"dl19": "qrels.dl19-passage.txt", "dl20": "qrels.dl20-passage.txt"}


class Judge(NamedTuple):
    """How answers come about: an opinion, noise that each answer adds (Gumbel), and the share of answers at random."""

    opinion: str
    slip: float
    noise: float
    guesses: float


JUDGES = {
    "grades, never errs": Judge("grades", 0.0, 0.0, 0.0),
    "grades, noise .25": Judge("grades", 0.0, 0.25, 0.0),
    "grades, noise .5": Judge("grades", 0.0, 0.5, 0.0),
    "grades, noise 1": Judge("grades", 0.0, 1.0, 0.0),
    "grades, 10 % at random": Judge("grades", 0.0, 0.0, 0.1),
    "grades, 20 % at random": Judge("grades", 0.0, 0.0, 0.2),
    "slips of .5, noise .25": Judge("grades", 0.5, 0.25, 0.0),
    # all pairs find nDCG@10 .71, heapsort about the same and setwise .01 to .02 less, as published for FLAN-T5-XL
    "slips of 1, noise .25": Judge("grades", 1.0, 0.25, 0.0),
    "slips of 1, noise .5": Judge("grades", 1.0, 0.5, 0.0),
    "RankVicuna, noise .25": Judge("vicuna", 0.0, 0.25, 0.0),
    "RankVicuna, noise .5": Judge("vicuna", 0.0, 0.5, 0.0),
}

SORTS = {
    "heapsort": partial(heapsort, top_k=10, num_child=1),
    "setwise": partial(heapsort, top_k=10, num_child=3),
    "setwise of 10": partial(heapsort, top_k=10, num_child=9),
    "rechecked_heapsort": rechecked_heapsort,
}


class Query(NamedTuple):
    """One query: its passages in the prior's order, with grades and RankVicuna's places."""

    query_id: str
    docids: list[str]
    grades: list[float]
    vicuna: list[float]


class Measured(NamedTuple):
    """One sort under one judge: nDCG@10 of all pairs and of the sort, and its questions a query (mean, most)."""

    allpair: float
    ndcg: float
    questions: float
    most: int


def load(student: Mapping[str, Mapping[str, float]] | None) -> tuple[list[Query], dict[str, dict[str, int]]]:
    """The judged queries, in BM25's order or the student's, and the judgements."""
    queries, judged = [], {}
    for year, name in TOPICS.items():
        qrels = read_qrels(FOLDER / "msmarco_dl" / "qrels" / name)
        [order] = (FOLDER / "rank_llm" / "rerank_results" / "BM25").glob(f"output_v2_*_100_*{year}*")
        vicuna = read_run(order)
        for entry in lists_of(year):
            query_id, docids = str(entry["hits"][0]["qid"]), [hit["docid"] for hit in entry["hits"]]
            if query_id not in qrels:
                continue
            if student is not None:
                docids.sort(key=lambda docid, scores=student[query_id]: -scores[docid])
            grades = [float(qrels[query_id].get(docid, 0)) for docid in docids]
            best = sorted(vicuna[query_id], key=lambda docid, scores=vicuna[query_id]: -scores[docid])
            queries.append(Query(query_id, docids, grades, [-math.log(1 + best.index(docid)) for docid in docids]))
            judged[query_id] = dict(qrels[query_id])
    return queries, judged


def lists_of(year: str) -> list[Any]:
    """BM25's lists, with texts."""
    return json.loads((FOLDER / "rank_llm" / "retrieve_results" / "BM25" / f"retrieve_results_{year}.json").read_text())


def minilm_run() -> dict[str, dict[str, float]]:
    """Scores of all passages by MiniLM's token vectors."""
    from quickstart_weights import weights_folder

    from tevatron_distill.reranker import Reranker
    from tevatron_distill.schema import Candidates, Passage

    reranker = Reranker.from_pretrained(str(weights_folder()), student="colbert")
    entries = [
        Candidates(
            str(entry["hits"][0]["qid"]),
            entry["query"],
            tuple(Passage(hit["docid"], hit["content"]) for hit in entry["hits"]),
            tuple(-float(rank) for rank in range(len(entry["hits"]))),
        )
        for year in TOPICS
        for entry in lists_of(year)
    ]
    scores = reranker.score_candidates(entries)
    return {
        entry.query_id: {passage.docid: score for passage, score in zip(entry.passages, given, strict=True)}
        for entry, given in zip(entries, scores, strict=True)
    }


def worths_of(judge: Judge, query: Query, seed: int) -> list[float]:
    """The judge's opinion of each passage, which does not depend on the order in which they stand."""
    opinion = query.vicuna if judge.opinion == "vicuna" else query.grades
    slips = [random.Random(f"{seed} {query.query_id} {docid}").gauss(0.0, 1.0) for docid in query.docids]
    return [value + judge.slip * slip for value, slip in zip(opinion, slips, strict=True)]


def answer(judge: Judge, worths: Sequence[float], key: str, shown: tuple[int, ...]) -> tuple[float, ...]:
    """What one prompt is answered: 1 for the passage chosen, shared where the judge sees no difference."""
    digest = hashlib.blake2b(f"{key} {shown}".encode(), digest_size=8).digest()
    source = np.random.default_rng(int.from_bytes(digest, "little"))
    guessed = source.random() < judge.guesses
    values = source.random(len(shown)) if guessed else np.array([worths[position] for position in shown])
    values = values + judge.noise * source.gumbel(size=len(shown))
    chosen = values == values.max()
    return tuple(chosen / chosen.sum())


def both_orders(judge: Judge, worths: Sequence[float], key: str, i: int, j: int) -> tuple[float, float]:
    """A pair's votes."""
    there, back = answer(judge, worths, key, (i, j)), answer(judge, worths, key, (j, i))
    return there[0] + back[1], there[1] + back[0]


def run(sort: Any, judge: Judge, worths: Sequence[float], key: str) -> tuple[list[int], int]:
    """The order that a sort finds, and how many different questions it asks."""
    known: dict[tuple[int, ...], dict[int, float]] = {}
    answers: Any = None
    while True:
        try:
            questions = sort.send(answers)
        except StopIteration as finished:
            return list(finished.value.order), len(known)
        answers = []
        for question in questions:
            name = tuple(sorted(question)) if len(question) == 2 else question
            if name not in known:
                given = both_orders(judge, worths, key, *name) if len(name) == 2 else answer(judge, worths, key, name)
                known[name] = dict(zip(name, given, strict=True))
            answers.append(tuple(known[name][position] for position in question))


def all_pairs(judge: Judge, worths: Sequence[float], key: str) -> list[int]:
    """What `allpair` finds; its 9,900 answers are drawn at once."""
    count = len(worths)
    digest = hashlib.blake2b(f"{key} all pairs".encode(), digest_size=8).digest()
    source = np.random.default_rng(int.from_bytes(digest, "little"))
    first, second = np.triu_indices(count, 1)
    votes = np.zeros(len(first))
    for _ in range(2):
        difference = np.array(worths)[first] - np.array(worths)[second]
        difference = np.where(source.random(len(first)) < judge.guesses, source.random(len(first)) - 0.5, difference)
        difference = difference + judge.noise * source.logistic(size=len(first))
        votes += (np.sign(difference) + 1) / 2
    sort = allpair(count)
    next(sort)
    try:
        sort.send([(vote, 2 - vote) for vote in votes])
    except StopIteration as finished:
        return list(finished.value.order)
    raise RuntimeError("allpair asks one round")


def measure(
    sorts: Sequence[str], judges: Sequence[str], student: Mapping[str, Mapping[str, float]] | None, seeds: int
) -> dict[str, dict[str, Measured]]:
    """All sorts under all judges: ``{judge: {sort: measured}}``."""
    queries, qrels = load(student)
    table: dict[str, dict[str, Measured]] = {}
    for name in judges:
        judge = JUDGES[name]
        quality: dict[str, list[float]] = {}
        asked: dict[str, list[int]] = {}
        for seed in range(seeds):
            runs: dict[str, dict[str, dict[str, float]]] = {}
            for query in queries:
                worths, key = worths_of(judge, query, seed), f"{seed} {query.query_id}"
                orders = {"allpair": all_pairs(judge, worths, key)}
                for sort in sorts:
                    orders[sort], count = run(SORTS[sort](len(worths)), judge, worths, key)
                    asked.setdefault(sort, []).append(count)
                for sort, order in orders.items():
                    ranked = {query.docids[position]: -float(place) for place, position in enumerate(order)}
                    runs.setdefault(sort, {})[query.query_id] = ranked
            for sort, found in runs.items():
                quality.setdefault(sort, []).append(evaluate(found, qrels, ["nDCG@10"]).mean["nDCG@10"])
        table[name] = {
            sort: Measured(mean(quality["allpair"]), mean(quality[sort]), mean(asked[sort]), max(asked[sort]))
            for sort in sorts
        }
    return table


def report(title: str, table: Mapping[str, Mapping[str, Measured]]) -> None:
    """Print the table: the difference to all pairs, and questions."""
    sorts = list(next(iter(table.values())))
    print(f"\nprior: {title}\n\n| judge | allpair | {' | '.join(sorts)} |\n| --- | --- |{' --- |' * len(sorts)}")
    for judge, row in table.items():
        cells = [f"{found.ndcg - found.allpair:+.3f} ({found.questions:.0f}, ≤ {found.most})" for found in row.values()]
        print(f"| {judge} | {next(iter(row.values())).allpair:.3f} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="nDCG@10 against all pairs, with questions a query (mean, most)")
    parser.add_argument("--seeds", type=int, default=2, help="how often each judge is drawn")
    parser.add_argument("--judges", nargs="+", choices=list(JUDGES), default=list(JUDGES))
    parser.add_argument("--sorts", nargs="+", choices=list(SORTS), default=list(SORTS))
    parser.add_argument("--priors", nargs="+", choices=["bm25", "minilm"], default=["bm25", "minilm"])
    args = parser.parse_args()
    for prior in args.priors:
        report(prior, measure(args.sorts, args.judges, minilm_run() if prior == "minilm" else None, args.seeds))


if __name__ == "__main__":
    main()

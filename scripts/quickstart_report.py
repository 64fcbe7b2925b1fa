"""The quickstart's closing table and picture: first stage, teacher and student on held-out queries."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from tevatron_distill.formats.collections import read_passages, read_queries
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import Evaluation, evaluate, paired_test
from tevatron_distill.retrieval.bm25 import BM25

MEASURES = ("nDCG@10", "RR@10")


def seconds_to_search(collection: Path, depth: int) -> float:
    """Seconds a query of BM25, the index at hand."""
    queries = read_queries(str(collection / "test_queries.jsonl"))
    retriever = BM25(read_passages(str(collection / "corpus.jsonl")))
    began = time.perf_counter()
    for query in queries.values():
        retriever.best(query, depth)
    return (time.perf_counter() - began) / len(queries)


def seconds_reported(path: Path) -> float:
    """Seconds a query, from the record that a driver leaves beside its output."""
    record = json.loads(path.with_name(path.name + ".run_config.json").read_text(encoding="utf-8"))
    return float(record["report"]["seconds_per_query"])


def table(results: dict[str, Evaluation], seconds: dict[str, float]) -> list[str]:
    """One line a system; differences in nDCG@10 are against the first."""
    lines = [f"{'':8} {'nDCG@10':>8} {'RR@10':>8} {'ms/query':>9}   against BM25 [95% interval], p"]
    baseline, *_ = results.values()
    for name, result in results.items():
        values = " ".join(f"{result.mean[measure]:8.4f}" for measure in MEASURES)
        line = f"{name:8} {values} {1000 * seconds[name]:9.1f}"
        if result is not baseline:
            test = paired_test(baseline.per_query["nDCG@10"], result.per_query["nDCG@10"])
            line += f"   {test.difference:+.4f} [{test.low:+.4f}, {test.high:+.4f}], p = {test.p:.2g}"
        lines.append(line)
    return lines


def draw(results: dict[str, Evaluation], path: Path) -> None:
    """Bars of nDCG@10; the whiskers are the interval of the difference against the first bar."""
    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    baseline, *_ = results.values()
    for name, result in results.items():
        height = result.mean["nDCG@10"]
        test = paired_test(baseline.per_query["nDCG@10"], result.per_query["nDCG@10"])
        whiskers = None if result is baseline else [[test.difference - test.low], [test.high - test.difference]]
        axes.bar(name, height, yerr=whiskers, capsize=6, width=0.6)
        axes.annotate(f"{height:.3f}", (name, height / 2), ha="center", color="white")
    axes.set_ylabel("nDCG@10, held-out modules")
    axes.set_title("Known-item search in Python's documentation strings", fontsize="medium")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--collection", type=Path, required=True, help="folder of scripts/quickstart_collection.py")
    parser.add_argument("--bm25", type=Path, required=True, help="BM25's run")
    parser.add_argument("--teacher", type=Path, required=True, help="the teacher's groups; its run is run.trec beside")
    parser.add_argument("--student", type=Path, required=True, help="the student's run")
    parser.add_argument("--depth", type=int, required=True, help="candidates a query")
    parser.add_argument("--picture", type=Path, required=True, help="PNG that is written")
    args = parser.parse_args()
    logging.getLogger("tevatron_distill").setLevel(logging.ERROR)  # retrieve has counted queries that match nothing
    qrels = read_qrels(args.collection / "qrels" / "test.txt")
    runs = {"BM25": args.bm25, "teacher": args.teacher.with_suffix(".trec"), "student": args.student}
    results = {name: evaluate(read_run(path), qrels, MEASURES) for name, path in runs.items()}
    seconds = {
        "BM25": seconds_to_search(args.collection, args.depth),
        "teacher": seconds_reported(args.teacher),
        "student": seconds_reported(args.student),
    }
    print("\n".join(table(results, seconds)))
    draw(results, args.picture)


if __name__ == "__main__":
    main()

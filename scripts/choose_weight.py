"""Choose --first_stage_weight on development queries, from a student's run and the first stage's, without reranking.

    python scripts/choose_weight.py dev.qrels first_stage.trec student.tsv

Prints the measure for each weight; the best one, on queries that are not tested on, is the one to rerank with.
"""

from __future__ import annotations

import argparse

from tevatron_distill.driver.rerank import mix
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate
from tevatron_distill.schema import InputError, Run


def mix_runs(student: Run, first_stage: Run, weight: float) -> Run:
    """Both runs mixed query by query, as driver.rerank does it."""
    mixed: Run = {}
    for query_id, scores in student.items():
        docids = list(scores)
        absent = [docid for docid in docids if docid not in first_stage.get(query_id, {})]
        if absent:
            raise InputError(f'docid "{absent[0]}" of query_id "{query_id}" is not in the first stage\'s run')
        firsts = [first_stage[query_id][docid] for docid in docids]
        mixed[query_id] = dict(zip(docids, mix(list(scores.values()), firsts, weight, "zscore"), strict=True))
    return mixed


def main() -> None:
    parser = argparse.ArgumentParser(description="the measure for each weight of the first stage, 0 to 1 by tenths")
    parser.add_argument("qrels")
    parser.add_argument("first_stage")
    parser.add_argument("student")
    parser.add_argument("--measure", default="nDCG@10")
    args = parser.parse_args()
    qrels, first_stage, student = read_qrels(args.qrels), read_run(args.first_stage), read_run(args.student)
    for tenths in range(11):
        value = evaluate(mix_runs(student, first_stage, tenths / 10), qrels, [args.measure]).mean[args.measure]
        print(f"--first_stage_weight {tenths / 10:.1f}  {args.measure} {value:.4f}")


if __name__ == "__main__":
    main()

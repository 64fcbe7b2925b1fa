"""Measure runs against judgements, or measured candidates: ``python -m tevatron_distill.driver.evaluate --help``.

A judged query that a run lacks counts as 0. Tied scores are ordered as trec_eval does it, by docid descending, not by
the order of the lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.evaluate import EvaluateArguments
from tevatron_distill.candidate_metrics import evaluate_selection
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.formats import load_groups
from tevatron_distill.formats.llm_blender import metric_names, score_by_metrics
from tevatron_distill.formats.names import on_disk
from tevatron_distill.formats.output import refuse_existing, write_run_config, write_whole
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import Evaluation, PairedTest, evaluate, mean_interval, paired_test
from tevatron_distill.schema import InputError, Qrels, Run


def main(argv: Sequence[str] | None = None) -> None:
    """Print a table of means, with tests against the first run where there are several."""
    (args,) = parse_arguments(argv, EvaluateArguments, prog="evaluate")
    if len(set(args.run_path)) < len(args.run_path):
        raise InputError(f"--run_path must name each run once; got {' '.join(args.run_path)}")
    if args.output_path is not None:
        refuse_existing(args.output_path, args.overwrite_output_dir)
    runs = {path: read_run(path) for path in args.run_path}
    report: dict[str, Any] = {}
    if args.qrels_path is not None:
        report |= measure_relevance(args, runs, read_qrels(args.qrels_path))
    if args.metrics_path is not None:
        report |= measure_selection(args, runs, separate=args.qrels_path is not None)
    if args.output_path is not None:
        write_whole(args.output_path, json.dumps(report, indent=2) + "\n", args.overwrite_output_dir)
        inputs = on_disk((args.qrels_path, args.metrics_path))
        write_run_config(args.output_path, as_mapping(args), [*inputs, *args.run_path])


def measure_relevance(args: EvaluateArguments, runs: Mapping[str, Run], qrels: Qrels) -> dict[str, Any]:
    """Print the runs' measures against judgements, and return them."""
    evaluations = {path: evaluate(run, qrels, args.measures) for path, run in runs.items()}
    tests = compare_with_first(evaluations)
    print("\n".join(format_table(evaluations)))
    if tests:
        print("\n" + "\n".join(format_tests(tests, args.run_path[0])))
    if args.per_query:
        print("\n" + "\n".join(format_per_query(evaluations)))
    return as_report(evaluations, tests, args.per_query)


def measure_selection(args: EvaluateArguments, runs: Mapping[str, Run], *, separate: bool) -> dict[str, Any]:
    """Print the quality of the runs' first candidates and the agreement with the metrics' order, and return them."""
    path = args.metrics_path or ""
    groups = [score_by_metrics(path, group, args.using_metrics) for group in load_groups(path, options=args.reading())]
    names = metric_names(path, groups[0].metrics or {}, args.using_metrics)
    selection = evaluate_selection(runs, groups, [*names, *(["score"] if len(names) > 1 else [])])
    tests = compare_with_first(selection.chosen)
    blocks = [format_table({**selection.chosen, **selection.baselines}), format_table(selection.agreement)]
    if tests:
        blocks.append(format_tests(tests, args.run_path[0]))
    if args.per_query:
        blocks += [format_per_query(selection.chosen), format_per_query(selection.agreement)]
    print(("\n" if separate else "") + "\n\n".join("\n".join(block) for block in blocks))
    report = {"selection": as_report({**selection.chosen, **selection.baselines}, tests, args.per_query)}
    report["agreement"] = as_report(selection.agreement, {}, args.per_query)
    return report


def compare_with_first(evaluations: Mapping[str, Evaluation]) -> dict[str, dict[str, PairedTest]]:
    """``{run: {measure: test}}`` of every run but the first against the first."""
    first, *others = evaluations
    baseline = evaluations[first].per_query
    return {
        run: {measure: paired_test(baseline[measure], values) for measure, values in evaluations[run].per_query.items()}
        for run in others
    }


def format_table(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """One line a run, one column a measure."""
    measures = list(next(iter(evaluations.values())).mean)
    rows = [["run", *measures]]
    rows += [[run, *(f"{result.mean[measure]:.4f}" for measure in measures)] for run, result in evaluations.items()]
    return aligned(rows)


def format_tests(tests: Mapping[str, Mapping[str, PairedTest]], first: str) -> list[str]:
    """One line for each run and measure: difference, interval, p."""
    rows = [[f"against {first}", "measure", "difference", "95% interval", "p"]]
    for run, by_measure in tests.items():
        for measure, test in by_measure.items():
            interval = f"{test.low:+.4f} {test.high:+.4f}"
            rows.append([run, measure, f"{test.difference:+.4f}", interval, f"{test.p:.2g}"])
    return aligned(rows)


def format_per_query(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """One line for each query and measure, one column a run."""
    rows = [["query", "measure", *evaluations]]
    for measure, values in next(iter(evaluations.values())).per_query.items():
        for query_id in values:
            rows.append(
                [
                    query_id,
                    measure,
                    *(f"{result.per_query[measure][query_id]:.4f}" for result in evaluations.values()),
                ]
            )
    return aligned(rows)


def as_report(
    evaluations: Mapping[str, Evaluation], tests: Mapping[str, Mapping[str, PairedTest]], per_query: bool
) -> dict[str, Any]:
    """``{run: {"mean": …, "interval": {measure: [low, high]}, "against_first"?: …, "per_query"?: …}}``."""
    report: dict[str, Any] = {}
    for run, result in evaluations.items():
        intervals = {measure: mean_interval(result, measure) for measure in result.mean}
        ends = {measure: [found.low, found.high] for measure, found in intervals.items() if found is not None}
        report[run] = {"mean": _as_json(result.mean), "interval": ends}
        if run in tests:
            report[run]["against_first"] = {measure: test._asdict() for measure, test in tests[run].items()}
        if per_query:
            report[run]["per_query"] = {measure: _as_json(values) for measure, values in result.per_query.items()}
    return report


def _as_json(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


if __name__ == "__main__":
    run_main(main)

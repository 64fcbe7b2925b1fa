"""Show what was reached, as one page: ``python -m tevatron_distill.driver.report --help``.

The page needs nothing from outside: measures with intervals and tests, quality against time, training curves, and every
query with its passages before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.report import ReportArguments
from tevatron_distill.driver.common import as_mapping, run_main
from tevatron_distill.driver.evaluate import aligned, as_report
from tevatron_distill.formats import load_candidates, load_groups
from tevatron_distill.formats.names import on_disk
from tevatron_distill.formats.output import hash_path, refuse_existing, write_run_config, write_whole
from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.report import (
    Pictures,
    Results,
    Selection,
    System,
    Texts,
    build_results,
    build_system,
    build_view,
    curve_charts,
    gain_charts,
    measure_charts,
    names_of,
    read_curves,
    render_page,
    run_of_groups,
    time_chart,
    write_figures,
)
from tevatron_distill.report.page import changed, milliseconds, p_value
from tevatron_distill.report.systems import check_seconds


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, the pictures where they are wanted, and print a summary."""
    (args,) = parse_arguments(argv, ReportArguments, prog="report")
    refuse_existing(args.output_path, args.overwrite_output_dir)
    qrels, texts = read_qrels(args.qrels_path), Texts()
    systems = read_systems(args, texts)
    curves = read_curves(args.train_path)
    results = build_results(systems, qrels, args.measures)
    pictures = Pictures(measure_charts(results), time_chart(results), curve_charts(curves), gain_charts(results))
    texts.complete(args.corpus_path, args.queries_path, [system.run for system in systems])
    notes = notes_on(results, texts)
    inputs = inputs_of(args)
    page, cut_at = render_page(
        results,
        pictures,
        build_view(results, qrels, texts, Selection(args.max_queries, args.depth)),
        title=args.title,
        notes=notes,
        inputs={path: hash_path(path) for path in inputs},
        max_bytes=int(args.max_megabytes * 1_000_000),
    )
    if args.figures_dir is not None:
        write_figures(args.figures_dir, pictures.all(), args.overwrite_output_dir)
    write_whole(args.output_path, page, args.overwrite_output_dir)
    size = len(page.encode())
    figures = {"bytes": size, "passages_cut_at": cut_at, "results": as_record(results)}
    write_run_config(args.output_path, as_mapping(args), inputs, figures)
    print("\n".join(summary(results, notes)))
    print(f"\n{args.output_path}: {size / 1e6:.1f} MB" + (f", passages cut to {cut_at} characters" if cut_at else ""))


def read_systems(args: ReportArguments, texts: Texts) -> list[System]:
    """The orders to compare; texts that stand in their files, or in ``--dataset_path``, are kept on the way.

    Raises:
        InputError: if a file breaks a rule of its format, or a time has no order.
    """
    names = names_of([*args.run_path, *args.groups_path], args.run_name)
    seconds = args.seconds()
    check_seconds(seconds, names)
    if args.dataset_path is not None:
        texts.add(load_candidates(args.dataset_path))
    systems = []
    for place, (name, path) in enumerate(zip(names, [*args.run_path, *args.groups_path], strict=True)):
        groups = load_groups(path) if place >= len(args.run_path) else None
        texts.add(groups or ())
        run = read_run(path) if groups is None else run_of_groups(groups)
        systems.append(build_system(name, path, run, groups=groups, seconds=seconds.get(name)))
    return systems


def inputs_of(args: ReportArguments) -> list[str]:
    """Files that the page depends on, without datasets' names and without the weights in a training's folder."""
    named = (args.qrels_path, args.dataset_path, args.corpus_path, args.queries_path)
    return [*args.run_path, *args.groups_path, *on_disk(named)]


def notes_on(results: Results, texts: Texts) -> list[str]:
    """What is missing, and what to think of it."""
    notes = []
    unknown = [system.name for system in results.systems if system.seconds is None]
    if unknown:
        notes.append(
            f"The time of {', '.join(unknown)} is not known: no run_config.json beside the file says it; "
            "--seconds_per_query NAME=SECONDS does."
        )
    for system in results.systems:
        if system.cached:
            notes.append(
                f"{system.cached:.0%} of the answers behind {system.name} came from its cache, so that its time is too "
                "short."
            )
    missing = len(texts.missing(system.run for system in results.systems))
    if missing:
        notes.append(f"{missing} passages have no text; --dataset_path, --groups_path or --corpus_path gives it.")
    return notes


def as_record(results: Results) -> dict[str, Any]:
    """What ``driver.evaluate`` would write of the same orders, with their seconds a query."""
    record = as_report({system.path: results.evaluations[system.name] for system in results.systems}, {}, False)
    for system in results.systems:
        record[system.path]["seconds_per_query"] = system.seconds
    return record


def summary(results: Results, notes: Sequence[str]) -> list[str]:
    """The terminal's lines: measures with times, tests, gains and losses."""
    blocks = [measure_table(results)]
    if results.comparisons:
        blocks.append(test_table(results))
    first, measure = results.first.name, results.measures[0]
    counts = [
        f"{one['name']} against {first} in {measure}: of the queries {one['better']} gain, {one['worse']} lose, "
        f"{one['equal']} stay"
        for one in changed(results)
    ]
    blocks += [lines for lines in (counts + results.kept(measure), list(notes)) if lines]
    return "\n\n".join("\n".join(block) for block in blocks).split("\n")


def measure_table(results: Results) -> list[str]:
    """One line an order: its means, and how long a query takes."""
    rows = [["order", *results.measures, "ms/query"]]
    for system in results.systems:
        means: Mapping[str, float] = results.evaluations[system.name].mean
        time = "-" if system.seconds is None else milliseconds(system.seconds)
        rows.append([system.name, *(f"{means[measure]:.4f}" for measure in results.measures), time])
    return aligned(rows)


def test_table(results: Results) -> list[str]:
    """One line for each pair of orders by the first measure: difference, interval, p."""
    rows = [[f"{results.measures[0]}, second against first", "difference", "95% interval", "p"]]
    for measure, first, second, test in results.comparisons:
        if measure == results.measures[0]:
            interval = f"{test.low:+.4f} {test.high:+.4f}"
            rows.append([f"{second} against {first}", f"{test.difference:+.4f}", interval, p_value(test.p)])
    return aligned(rows)


if __name__ == "__main__":
    run_main(main)

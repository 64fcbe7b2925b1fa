"""The published figures beside ours: ``python scripts/reproduce_table.py rankllama --work out/rankllama``.

Ours are measured from WORK/run.SET.tsv with the judgements in FOLDER/SET/qrels.txt; a set that has not been run is left
blank. Without a run of anything, this is what there is to reach.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from tevatron_distill.formats.qrels import read_qrels
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate

PUBLISHED = Path(__file__).with_name("published.json")


class Recipe(NamedTuple):
    """What has been published of a model.

    Attributes:
        checkpoint: its released weights; empty where none are named.
        measure: of all figures, as ir-measures spells it.
        source: who says so.
        figures: by the name of a set, or of a mean of sets.
    """

    checkpoint: str
    measure: str
    source: str
    figures: Mapping[str, float]


def load() -> tuple[dict[str, Recipe], dict[str, list[str]]]:
    """The recipes by name, and the sets of each mean."""
    values = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return {name: Recipe(**row) for name, row in values["recipes"].items()}, values["means"]


def sets_of(recipe: Recipe, means: Mapping[str, Sequence[str]]) -> list[str]:
    """Every set that a recipe's figures need, once."""
    return list(dict.fromkeys(name for figure in recipe.figures for name in means.get(figure, [figure])))


def measured(names: Sequence[str], work: Path, sets: Path, measure: str) -> dict[str, float]:
    """Our value on each set that has been run."""
    values = {}
    for name in names:
        run = work / f"run.{name}.tsv"
        if run.is_file():
            values[name] = evaluate(read_run(run), read_qrels(sets / name / "qrels.txt"), [measure]).mean[measure]
    return values


def with_means(values: Mapping[str, float], means: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """The values, and the mean of all sets of a name where each has one."""
    whole = {name: sets for name, sets in means.items() if all(one in values for one in sets)}
    return {**values, **{name: fmean(values[one] for one in sets) for name, sets in whole.items()}}


def table(recipe: Recipe, values: Mapping[str, float]) -> str:
    """Published beside ours, as Markdown; blank where there is no figure."""
    lines = [f"| set | published {recipe.measure} | ours | difference |", "| --- | --- | --- | --- |"]
    for name in dict.fromkeys([*recipe.figures, *values]):
        there, here = recipe.figures.get(name), values.get(name)
        difference = "" if there is None or here is None else f"{here - there:+.4f}"
        lines.append(f"| {name} | {_printed(there)} | {_printed(here)} | {difference} |")
    return "\n".join([*lines, "", f"Published: {recipe.source}."])


def _printed(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of one recipe."""
    recipes, means = load()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=list(recipes))
    parser.add_argument("--work", type=Path, required=True, help="folder with the runs")
    parser.add_argument("--folder", type=Path, default=Path("out/sets"), help="where the sets are kept")
    arguments = parser.parse_args(argv)
    recipe = recipes[arguments.recipe]
    runs = [path.name.removeprefix("run.").removesuffix(".tsv") for path in sorted(arguments.work.glob("run.*.tsv"))]
    names = dict.fromkeys([*sets_of(recipe, means), *runs])
    print(table(recipe, with_means(measured(list(names), arguments.work, arguments.folder, recipe.measure), means)))


if __name__ == "__main__":
    main()

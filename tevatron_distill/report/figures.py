"""The same pictures as PNG files, by matplotlib."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tevatron_distill.extras import load_package
from tevatron_distill.formats.disk import writing
from tevatron_distill.report.charts import Chart, Mark
from tevatron_distill.report.scales import fit_scale, number, place_labels
from tevatron_distill.schema import InputError

# the page's colours in its light mode
COLOURS = ("#0072b2", "#d55e00", "#00805d", "#a8528a", "#8a6d00", "#3f88c5", "#6b4fa0", "#5f6b76")
GAIN, LOSS = "#00805d", "#b3401f"


def figure_paths(folder: str | Path, charts: Sequence[Chart]) -> list[Path]:
    """Where the pictures go."""
    return [Path(folder) / f"{chart.name}.png" for chart in charts]


def write_figures(folder: str | Path, charts: Sequence[Chart], overwrite: bool = False) -> list[Path]:
    """Draw all pictures, each of which appears whole or not at all.

    Args:
        folder: where they go; it is made where it is missing.
        charts: what is drawn.
        overwrite: replace pictures that exist.

    Returns:
        The files.

    Raises:
        InputError: if a picture exists and ``overwrite`` is False, or matplotlib is missing.
    """
    paths = figure_paths(folder, charts)
    for path in paths:
        if path.exists() and not overwrite:
            raise InputError(f"{path}: the output exists already; choose another path or give --overwrite_output_dir")
    drawn = [draw_png(chart) for chart in charts]
    with writing(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    for path, content in zip(paths, drawn, strict=True):
        fresh = path.with_name(path.name + ".tmp")
        with writing(path):
            fresh.write_bytes(content)
            os.replace(fresh, path)
    return paths


def draw_png(chart: Chart) -> bytes:
    """A picture's PNG file.

    Raises:
        InputError: if matplotlib is missing.
    """
    figure_class = load_package("matplotlib.figure", "--figures_dir").Figure
    width, height = SIZES[chart.kind]
    if chart.kind == "intervals":
        height = 1.2 + 0.4 * len(chart.series)
    figure = figure_class(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    DRAWN[chart.kind](axes, chart)
    axes.set_title(plain(chart.title), fontsize="medium", loc="left")
    for label, name in ((axes.set_xlabel, chart.x_label), (axes.set_ylabel, chart.y_label)):
        if name != chart.title:
            label(plain(name))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def _intervals(axes: Any, chart: Chart) -> None:
    for place, series in enumerate(chart.series):
        [mark] = series.marks
        axes.errorbar(mark.x, place, xerr=_error(mark.x, mark), color=_colour(series.colour), fmt="o", capsize=4)
        axes.annotate(f"{mark.x:.3f}", (mark.x, place), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(chart.series)), [plain(series.name) for series in chart.series])
    axes.set_ylim(len(chart.series) - 0.4, -0.7)
    axes.grid(axis="x", alpha=0.3)


def _scatter(axes: Any, chart: Chart) -> None:
    marks = [series.marks[0] for series in chart.series]
    x = fit_scale([mark.x for mark in marks], 0, WIDE, log=chart.log_x, margin=0.18)
    y = fit_scale([end for mark in marks for end in (mark.low, mark.high)], HIGH, 0)
    labels = place_labels([(x(mark.x), y(mark.y)) for mark in marks], WIDE)
    axes.set_xscale("log" if chart.log_x else "linear")
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)
    axes.set_xticks(x.ticks(), [number(tick) for tick in x.ticks()])
    axes.minorticks_off()
    for series, mark, label in zip(chart.series, marks, labels, strict=True):
        axes.errorbar(mark.x, mark.y, yerr=_error(mark.y, mark), color=_colour(series.colour), fmt="o", capsize=4)
        axes.annotate(
            plain(series.name),
            (mark.x, mark.y),
            (0.75 * (label.x - x(mark.x)), 0.75 * (y(mark.y) - label.y)),
            textcoords="offset points",
            ha="right" if label.ends else "left",
            fontsize=9,
        )
    axes.grid(alpha=0.3)


def _lines(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        axes.plot(
            [mark.x for mark in series.marks],
            [mark.y for mark in series.marks],
            color=_colour(series.colour),
            label=plain(series.name),
            marker="." if len(series.marks) <= 60 else None,
        )
    axes.grid(alpha=0.3)
    if len(chart.series) > 1:
        axes.legend(fontsize=8)


def _bars(axes: Any, chart: Chart) -> None:
    [series] = chart.series
    heights = [mark.y for mark in series.marks]
    axes.set_xlim(-0.5, len(heights) - 0.5)
    axes.bar(
        range(len(heights)), heights, width=0.9, linewidth=0, color=[GAIN if height > 0 else LOSS for height in heights]
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks([])
    axes.grid(axis="y", alpha=0.3)


DRAWN: dict[str, Callable[[Any, Chart], None]] = {
    "intervals": _intervals,
    "scatter": _scatter,
    "lines": _lines,
    "bars": _bars,
}
WIDE, HIGH = 560, 300  # pixels of the scatter's axes, about, in which its names are placed
SIZES = {"intervals": (5.0, 2.4), "scatter": (6.4, 4.0), "lines": (4.4, 3.0), "bars": (6.4, 2.8)}


def _error(value: float, mark: Mark) -> list[list[float]] | None:
    return None if mark.low == mark.high else [[value - mark.low], [mark.high - value]]


def _colour(colour: int) -> str:
    return COLOURS[colour % len(COLOURS)]

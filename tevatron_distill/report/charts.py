"""The pictures of a report, as data: what is drawn once as SVG for the page and once as PNG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tevatron_distill.report.curves import Curve
from tevatron_distill.report.results import Results

Kind = Literal["intervals", "scatter", "lines", "bars"]


class Mark(NamedTuple):
    """One point, or one bar.

    Attributes:
        x: its place.
        y: its value.
        low: lower end of its interval; equal to ``y`` where there is none.
        high: upper end.
        label: what it is.
    """

    x: float
    y: float
    low: float
    high: float
    label: str


class Series(NamedTuple):
    """What has one colour.

    Attributes:
        name: as in the legend.
        colour: number of the colour; a system has the same one in every picture.
        marks: its points.
    """

    name: str
    colour: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Chart:
    """A picture.

    Attributes:
        name: of its file, without the ending.
        kind: ``intervals`` (a line a series, values along x), ``scatter`` (a labelled point a series), ``lines``
            (a curve a series) or ``bars`` (one series of bars around 0).
        title: what is seen.
        x_label: the horizontal axis.
        y_label: the vertical axis.
        series: what is drawn.
        log_x: the horizontal axis is logarithmic.
    """

    name: str
    kind: Kind
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False


def measure_charts(results: Results) -> list[Chart]:
    """A picture for each measure: the systems' means with their intervals."""
    charts = []
    for number, measure in enumerate(results.measures):
        series = []
        for colour, system in enumerate(results.systems):
            mean, interval = results.evaluations[system.name].mean[measure], results.intervals[system.name][measure]
            if math.isfinite(mean):
                low, high = (interval.low, interval.high) if interval else (mean, mean)
                series.append(Series(system.name, colour, (Mark(mean, float(colour), low, high, system.name),)))
        charts.append(Chart(f"measure-{number + 1}", "intervals", measure, measure, "", tuple(series)))
    return [chart for chart in charts if chart.series]


def time_chart(results: Results) -> Chart | None:
    """Quality against time a query; None where no system's time is known."""
    measure = results.measures[0]
    series = []
    for colour, system in enumerate(results.systems):
        mean, interval = results.evaluations[system.name].mean[measure], results.intervals[system.name][measure]
        if system.seconds is None or not math.isfinite(mean):
            continue
        low, high = (interval.low, interval.high) if interval else (mean, mean)
        series.append(Series(system.name, colour, (Mark(1000 * system.seconds, mean, low, high, system.name),)))
    if not series:
        return None
    title = f"{measure} against time"
    return Chart("quality-and-time", "scatter", title, "milliseconds a query", measure, tuple(series), log_x=True)


def curve_charts(curves: Sequence[Curve]) -> list[Chart]:
    """A picture for each value that trainings have logged; ``loss`` and ``eval_loss`` first."""
    keys = sorted({curve.key for curve in curves}, key=lambda key: (key != "loss", not key.startswith("eval"), key))
    trainings = list(dict.fromkeys(curve.training for curve in curves))
    return [
        Chart(
            f"training-{number}",
            "lines",
            key,
            "step",
            key,
            tuple(
                Series(
                    curve.training,
                    trainings.index(curve.training),
                    tuple(Mark(step, value, value, value, curve.training) for step, value in curve.points),
                )
                for curve in curves
                if curve.key == key
            ),
        )
        for number, key in enumerate(keys, start=1)
    ]


def gain_charts(results: Results) -> list[Chart]:
    """For each system but the first a picture of every query's gain or loss against it, largest gain first."""
    measure = results.measures[0]
    charts = []
    for colour, system in enumerate(results.systems[1:], start=1):
        gains = results.gains(system.name, measure)
        marks = tuple(
            Mark(float(place), gain.change, gain.change, gain.change, gain.query_id)
            for place, gain in enumerate(gains, start=1)
        )
        title = f"{system.name} against {results.first.name}"
        series = (Series(system.name, colour, marks),)
        charts.append(Chart(f"gains-{colour}", "bars", title, "queries, largest gain first", f"Δ {measure}", series))
    return [chart for chart in charts if chart.series[0].marks]


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, about ``count`` of them.

    >>> ticks(0.0, 1.0), ticks(3.0, 3.0)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [3.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``, and their double and fivefold where there is room.

    >>> log_ticks(1.5, 60.0), log_ticks(0.5, 20000.0)
    ([2.0, 5.0, 10.0, 20.0, 50.0], [1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    factors = (1, 2, 5) if math.log10(high / low) < 3.6 else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(f"{factor * 10.0**power:.6g}") for power in powers for factor in factors]
    return [tick for tick in found if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]

"""Pictures as SVG: no styles of their own but classes, so that the page gives them the colours of its mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from markupsafe import Markup

from tevatron_distill.report.charts import Chart, Mark
from tevatron_distill.report.scales import Scale, fit_scale, number, place_labels

COLOURS = 8
SMALL, LARGE = 330, 760


def draw_svg(chart: Chart) -> Markup:
    """A picture for a page that has the classes ``c0`` to ``c7``, ``wide``, ``axis``, ``grid``, ``tick`` and ``mark``.

    Names in it are escaped.
    """
    width, height, parts = DRAWN[chart.kind](chart)
    return Markup(
        '<svg class="chart{wide}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        'aria-label="{label}">{parts}</svg>'
    ).format(
        wide=" wide" * (width == LARGE), width=width, height=height, label=_label(chart), parts=Markup("").join(parts)
    )


def _label(chart: Chart) -> str:
    """What a screen reader says of the picture; its numbers stand in the page's tables."""
    axes = f"{chart.y_label} by {chart.x_label}" if chart.y_label else chart.x_label
    return f"{chart.title}: {axes}"


def _intervals(chart: Chart) -> tuple[int, int, list[Markup]]:
    """A row for each series: its name, its value with the interval, and the value in words."""
    top, row, width = 12, 34, SMALL
    bottom = top + row * len(chart.series)
    marks = [series.marks[0] for series in chart.series]
    x = fit_scale(_ends(marks), 16, width - 16)
    parts = list(_x_axis(x, top, bottom, count=4))
    for place, (series, mark) in enumerate(zip(chart.series, marks, strict=True)):
        y = top + row * place + 24
        parts.append(_text(16, y - 11, f"{shortened(series.name)}  {mark.x:.4f}", "name"))
        parts.append(_whisker(x(mark.low), y, x(mark.high), y, series.colour))
        parts.append(_dot(x(mark.x), y, series.colour, f"{series.name}: {_words(mark.x, mark)}"))
    return width, bottom + 26, parts


def _scatter(chart: Chart) -> tuple[int, int, list[Markup]]:
    """A labelled point for each series."""
    width, height = LARGE, 360
    left, right, top, bottom = 64, width - 24, 16, height - 46
    marks = [series.marks[0] for series in chart.series]
    x = fit_scale([mark.x for mark in marks], left, right, log=chart.log_x, margin=0.18)
    y = fit_scale(_ends(marks), bottom, top)
    parts = [*_x_axis(x, top, bottom), *_y_axis(y, left, right)]
    parts += [_x_name(chart, left, right, height), _y_name(chart, top, bottom)]
    for series, mark in zip(chart.series, marks, strict=True):
        parts.append(_whisker(x(mark.x), y(mark.low), x(mark.x), y(mark.high), series.colour))
        said = f"{series.name}: {_words(mark.y, mark)}, {number(round(mark.x, 3))} {chart.x_label}"
        parts.append(_dot(x(mark.x), y(mark.y), series.colour, said, radius=6))
    for series, label in zip(
        chart.series, place_labels([(x(mark.x), y(mark.y)) for mark in marks], right), strict=True
    ):
        parts.append(_text(label.x, label.y, shortened(series.name), "name end" if label.ends else "name"))
    return width, height, parts


def _lines(chart: Chart) -> tuple[int, int, list[Markup]]:
    """A curve for each series; what it is of stands in the title."""
    width, height = SMALL, 220
    left, right, top, bottom = 58, width - 12, 12, height - 44
    marks = [mark for series in chart.series for mark in series.marks]
    x, y = fit_scale([mark.x for mark in marks], left, right, margin=0.03), fit_scale(_ends(marks), bottom, top)
    parts = [*_x_axis(x, top, bottom, 4), *_y_axis(y, left, right), _x_name(chart, left, right, height)]
    for series in chart.series:
        path = " ".join(f"{x(mark.x):.1f},{y(mark.y):.1f}" for mark in series.marks)
        parts.append(
            Markup('<polyline class="c{}" points="{}"><title>{}</title></polyline>').format(
                series.colour % COLOURS, path, series.name
            )
        )
        if len(series.marks) <= 60:
            parts += [
                _dot(x(m.x), y(m.y), series.colour, f"{m.label}: {m.y:.4g}, step {number(m.x)}", 2.5)
                for m in series.marks
            ]
    return width, height, parts


def _bars(chart: Chart) -> tuple[int, int, list[Markup]]:
    """A bar for each query that changed."""
    width, height = LARGE, 230
    left, right, top, bottom = 64, width - 12, 12, height - 26
    [series] = chart.series
    x = Scale(0.5, len(series.marks) + 0.5, left, right)
    y = fit_scale([mark.y for mark in series.marks], bottom, top, zero=True)
    parts = [*_y_axis(y, left, right), _x_name(chart, left, right, height), _y_name(chart, top, bottom)]
    for mark in series.marks:
        if mark.y:
            start, end = sorted((y(mark.y), y(0.0)))
            wide = max(0.4, (right - left) / len(series.marks) * 0.86)
            parts.append(
                Markup(
                    '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"><title>{}</title></rect>'
                ).format(
                    "gain" if mark.y > 0 else "loss",
                    x(mark.x) - wide / 2,
                    start,
                    wide,
                    end - start,
                    f"{mark.label}: {mark.y:+.4f}",
                )
            )
    parts.append(_line(left, y(0.0), right, y(0.0), "axis"))
    return width, height, parts


DRAWN: dict[str, Callable[[Chart], tuple[int, int, list[Markup]]]] = {
    "intervals": _intervals,
    "scatter": _scatter,
    "lines": _lines,
    "bars": _bars,
}


def shortened(name: str, length: int = 34) -> str:
    """A name that fits beside a point: its end, as paths differ there."""
    return name if len(name) <= length else "…" + name[1 - length :]


def _x_axis(x: Scale, top: float, bottom: float, count: int = 6) -> Iterable[Markup]:
    for tick in x.ticks(count):
        yield _line(x(tick), top, x(tick), bottom, "grid")
        yield _text(x(tick), bottom + 16, number(tick), "tick middle")
    yield _line(x.start, bottom, x.end, bottom, "axis")


def _y_axis(y: Scale, left: float, right: float) -> Iterable[Markup]:
    for tick in y.ticks():
        yield _line(left, y(tick), right, y(tick), "grid")
        yield _text(left - 8, y(tick) + 4, number(tick), "tick end")


def _x_name(chart: Chart, left: float, right: float, height: float) -> Markup:
    return _text((left + right) / 2, height - 8, chart.x_label, "tick middle")


def _y_name(chart: Chart, top: float, bottom: float) -> Markup:
    return Markup('<text class="tick middle" transform="translate(13 {:.1f}) rotate(-90)">{}</text>').format(
        (top + bottom) / 2, shortened(chart.y_label)
    )


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(name, x1, y1, x2, y2)


def _whisker(x1: float, y1: float, x2: float, y2: float, colour: int) -> Markup:
    return _line(x1, y1, x2, y2, f"whisker c{colour % COLOURS}")


def _dot(x: float, y: float, colour: int, said: str, radius: float = 5) -> Markup:
    return Markup('<circle class="mark c{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
        colour % COLOURS, x, y, radius, said
    )


def _text(x: float, y: float, text: str, name: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(name, x, y, text)


def _words(value: float, mark: Mark) -> str:
    return f"{value:.4f}" if mark.low == mark.high else f"{value:.4f} [{mark.low:.4f}, {mark.high:.4f}]"


def _ends(marks: Iterable[Mark]) -> list[float]:
    return [end for mark in marks for end in (mark.low, mark.high)]

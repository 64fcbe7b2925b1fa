"""From values to places in a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tevatron_distill.report.charts import log_ticks, ticks

NEAR = 150  # pixels: points whose names may meet


@dataclass(frozen=True)
class Scale:
    """A straight or logarithmic axis.

    Attributes:
        low: value at ``start``.
        high: value at ``end``.
        start: pixels.
        end: pixels; smaller than ``start`` for an axis that points up.
        log: whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value.

        >>> Scale(0.0, 2.0, 100.0, 200.0)(0.5), Scale(1.0, 100.0, 0.0, 10.0, log=True)(10.0)
        (125.0, 5.0)
        """
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        place = (math.log(value) if self.log else value) - low
        return self.start + (self.end - self.start) * place / (high - low)

    def ticks(self, count: int = 5) -> list[float]:
        """Where the axis has numbers."""
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, count)


def fit_scale(
    values: Iterable[float], start: float, end: float, *, log: bool = False, margin: float = 0.08, zero: bool = False
) -> Scale:
    """The axis that holds all values with a margin.

    Args:
        values: what has to be seen.
        start: pixels.
        end: pixels.
        log: logarithmic; the values are above 0.
        margin: share of the extent that stays free at both ends.
        zero: 0 has to be seen, too.
    """
    values = [*values, *([0.0] if zero else [])]
    low, high = min(values), max(values)
    if log:
        factor = max((high / low) ** margin, 1.6)
        return Scale(low / factor, high * factor, start, end, log=True)
    room = margin * (high - low) or abs(high) * margin or 1.0
    return Scale(low - room, high + room, start, end)


class Label(NamedTuple):
    """Where a point's name stands.

    Attributes:
        x: pixels.
        y: pixels, downwards, of the text's foot.
        ends: the text ends at ``x``, to the left of its point.
    """

    x: float
    y: float
    ends: bool


def place_labels(points: Sequence[tuple[float, float]], right: float) -> list[Label]:
    """Names beside their points: on the side away from a neighbour, moved down where they would cover each other.

    Args:
        points: their places in pixels.
        right: where the picture ends.

    >>> place_labels([(100.0, 50.0), (130.0, 50.0)], 700.0)
    [Label(x=88.0, y=42.0, ends=True), Label(x=142.0, y=42.0, ends=False)]
    """
    labels: dict[int, Label] = {}
    for place in sorted(range(len(points)), key=lambda place: points[place][1]):
        x, y = points[place]
        neighbours = [other - x for other, _ in points if 0 < abs(other - x) < NEAR]
        ends = max(neighbours) > 0 if neighbours else x > right - NEAR
        label = Label(x - 12 if ends else x + 12, y - 8, ends)
        while any(
            abs(label.y - other.y) < 16 and abs(label.x - other.x) < NEAR and ends == other.ends
            for other in labels.values()
        ):
            label = label._replace(y=label.y + 16)
        labels[place] = label
    return [labels[place] for place in range(len(points))]


def number(value: float) -> str:
    """A tick's text.

    >>> [number(value) for value in (0.30000000000000004, 20000.0, 0.0, 5e-06, -1.5)]
    ['0.3', '20 000', '0', '5e-06', '−1.5']
    """
    if value == 0:
        return "0"
    if abs(value) >= 10000 and value == int(value):
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.6g}".replace("-", "−") if value < 0 else f"{value:.6g}"

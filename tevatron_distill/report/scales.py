"""From values to places in a picture."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tevatron_distill.report.charts import log_ticks, ticks


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


def number(value: float) -> str:
    """A tick's text.

    >>> [number(value) for value in (0.30000000000000004, 20000.0, 0.0, 5e-06, 1.5)]
    ['0.3', '20 000', '0', '5e-06', '1.5']
    """
    if value == 0:
        return "0"
    if abs(value) >= 10000 and value == int(value):
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.6g}"

"""The page: one file that needs nothing from outside, and in which no text of the data is code."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from tevatron_distill.report.charts import Chart
from tevatron_distill.report.queries import embedded_json, fit_texts, without_texts
from tevatron_distill.report.results import Results
from tevatron_distill.report.scales import number
from tevatron_distill.report.svg import COLOURS, draw_svg

MOST_CHANGED = 8  # queries in the tables of gains and of losses


@dataclass(frozen=True)
class Pictures:
    """The pictures by the page's sections."""

    measures: Sequence[Chart] = ()
    time: Chart | None = None
    curves: Sequence[Chart] = ()
    gains: Sequence[Chart] = ()

    def all(self) -> list[Chart]:
        """Every picture."""
        return [*self.measures, *([self.time] if self.time else []), *self.curves, *self.gains]


def render_page(
    results: Results,
    pictures: Pictures,
    view: dict[str, Any],
    *,
    title: str,
    notes: Sequence[str] = (),
    inputs: Mapping[str, str] | None = None,
    max_bytes: int = 10_000_000,
) -> tuple[str, int | None]:
    """The whole page.

    Args:
        results: what was measured.
        pictures: what is drawn.
        view: the query view's data.
        title: heading.
        notes: what is missing, and why.
        inputs: ``{path: SHA-256}`` of the files behind it.
        max_bytes: its size in UTF-8, at most.

    Returns:
        The page, and the characters to which passages were cut; None where none was.

    Raises:
        InputError: if it cannot be made so small.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tevatron_distill.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"decimals": decimals, "signed": signed, "milliseconds": milliseconds, "p_value": p_value}
    script, style = (Markup(_source(environment, name)) for name in ("page.js", "page.css"))
    template = environment.get_template("page.html")

    def render(shown: dict[str, Any], cut_at: int | None) -> str:
        page = template.render(
            title=title,
            script=script,
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            style=style,
            data=Markup(embedded_json(shown)),
            results=results,
            pictures=pictures,
            svg=draw_svg,
            colours=COLOURS,
            changed=changed(results),
            shown_queries={query["id"]: query["text"] for query in view["queries"]},
            num_queries=len(next(iter(results.evaluations.values())).per_query[results.measures[0]]),
            notes=notes,
            inputs=inputs or {},
            cut_at=cut_at,
        )
        return page.encode("utf-8", "replace").decode()

    room = max_bytes - len(render(without_texts(view), 100_000).encode())
    fitted, cut_at = fit_texts(view, room)
    return render(fitted, cut_at), cut_at


def changed(results: Results) -> list[dict[str, Any]]:
    """For each system but the first: how many queries gain, lose and stay, and those that change most."""
    found = []
    for system in results.systems[1:]:
        gains = results.gains(system.name, results.measures[0])
        better = [gain for gain in gains if gain.change > 0]
        worse = [gain for gain in gains if gain.change < 0]
        found.append(
            {
                "name": system.name,
                "better": len(better),
                "worse": len(worse),
                "equal": len(gains) - len(better) - len(worse),
                "most": [("Largest gains", better[:MOST_CHANGED]), ("Largest losses", worse[::-1][:MOST_CHANGED])],
            }
        )
    return found


def decimals(value: float | None, digits: int = 4) -> str:
    """A value in a table; a dash where it is not defined.

    >>> decimals(0.25), decimals(float("nan"))
    ('0.2500', '–')
    """
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """A difference, with a true minus.

    >>> signed(-0.5), signed(0.25)
    ('−0.5000', '+0.2500')
    """
    return "–" if math.isnan(value) else f"{value:+.4f}".replace("-", "−")


def milliseconds(seconds: float) -> str:
    """A time with three digits.

    >>> milliseconds(0.24856), milliseconds(12.3456), milliseconds(0.000012)
    ('249', '12 346', '0.012')
    """
    value = seconds * 1000
    return number(round(value)) if value >= 100 else f"{value:.3g}"


def p_value(value: float) -> str:
    """A p-value with two digits.

    >>> p_value(0.0312), p_value(1e-9)
    ('0.031', '< 0.0001')
    """
    if math.isnan(value):
        return "–"
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def _source(environment: jinja2.Environment, name: str) -> str:
    if environment.loader is None:
        raise RuntimeError("the environment has a loader")
    return environment.loader.get_source(environment, name)[0]

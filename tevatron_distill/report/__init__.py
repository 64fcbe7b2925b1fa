"""Tables and pictures of what was reached: one page that needs nothing from outside, and PNG files."""

from __future__ import annotations

from tevatron_distill.report.charts import curve_charts, gain_charts, measure_charts, time_chart
from tevatron_distill.report.curves import read_curves
from tevatron_distill.report.figures import write_figures
from tevatron_distill.report.page import Pictures, render_page
from tevatron_distill.report.queries import Selection, build_view
from tevatron_distill.report.results import Results, build_results
from tevatron_distill.report.systems import System, build_system, names_of, run_of_groups
from tevatron_distill.report.texts import Texts

__all__ = [
    "Pictures",
    "Results",
    "Selection",
    "System",
    "Texts",
    "build_results",
    "build_system",
    "build_view",
    "curve_charts",
    "gain_charts",
    "measure_charts",
    "names_of",
    "read_curves",
    "render_page",
    "run_of_groups",
    "time_chart",
    "write_figures",
]

"""bench.py's table, picture and figures."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import bench_scale
from bench_measure import Outcome, Setting, exponent

PACKAGES = (
    *("torch", "transformers", "tokenizers", "sentence-transformers", "FlagEmbedding", "onnxruntime"),
    *("tevatron-distill",),
)


def about(setting: Setting) -> dict[str, Any]:
    """Machine, versions, commit and command."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{processor()}, {setting.threads} of {cores()} cores, {platform.system()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit(),
        "command": shlex.join(["python", *sys.argv]),
        "clock": setting.clock,
        "repeats": setting.repeats,
    }


def processor() -> str:
    """The processor's name and the vector instructions that matter."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"model name\s*:\s*(.+)", text)
    flags = {flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8") if flag in text.split()}
    return f"{name[1] if name else platform.machine()} ({' '.join(sorted(flags))})"


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))


def commit() -> str:
    """The commit of the scripts, with a plus where files differ from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def table(rows: Mapping[str, tuple[Any, Outcome]]) -> list[str]:
    """The rows in Markdown."""
    lines = ["| work | against | measured | reach | met | limit |", "| --- | --- | --- | --- | --- | --- |"]
    for row, outcome in rows.values():
        met = {True: "yes", False: "no", None: "-"}[outcome.met]
        cells = [row.work, row.against, outcome.measured, row.reach, met, outcome.limit or "-"]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return lines


def described(facts: Mapping[str, Any]) -> list[str]:
    """What the table was measured on, as lines of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return [
        f"`{facts['command']}`, {facts['date']}, commit {facts['commit']}; {facts['machine']}; "
        f"Python {facts['python']}, {versions}; {facts['clock']} seconds, best of {facts['repeats']} in turn.",
        "",
    ]


def write(folder: Path, rows: Mapping[str, tuple[Any, Outcome]], setting: Setting) -> None:
    """Write ``bench.md``, ``bench.json`` and ``bench.png`` into a folder."""
    facts = about(setting)
    content = {**facts, "rows": {name: {**asdict(one), "reach": row.reach} for name, (row, one) in rows.items()}}
    (folder / "bench.json").write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text("\n".join([*described(facts), *table(rows)]) + "\n", encoding="utf-8")
    ratios = {name: (row, one) for name, (row, one) in rows.items() if one.ratio and "×" in one.measured}
    if ratios:
        draw(folder / "bench.png", ratios)


def draw(path: Path, rows: Mapping[str, tuple[Any, Outcome]]) -> None:
    """A bar for each ratio, with a mark at its reach."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.2), layout="constrained")
    for place, (row, outcome) in enumerate(rows.values()):
        ratio = outcome.ratio or math.nan
        axes.barh(place, ratio, color="tab:blue" if outcome.met else "tab:gray", height=0.6)
        axes.text(ratio, place, f" {ratio:.2f}×", va="center", fontsize=9)
        asked = re.search(r"≥ ([\d.]+)×", row.reach)
        if asked:
            axes.plot([float(asked[1])] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2)
    axes.axvline(1.0, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    axes.invert_yaxis()
    axes.set_xlim(right=1.4 * max(outcome.ratio or 1.0 for _, outcome in rows.values()))
    axes.set_xlabel("times faster than the other program (black mark: what was asked for)")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def write_scaling(folder: Path, threads: int) -> None:
    """Measure how time and memory grow, and write ``scaling.md`` and ``scaling.json``."""
    setting = Setting(folder, threads, 1)
    facts = about(setting)
    found: dict[str, list[bench_scale.Measured]] = {}
    for name, axis in bench_scale.AXES.items():
        found[name] = bench_scale.growth(axis)
        print(scaling_table({name: found[name]})[-1], flush=True)
        content = {name: [one._asdict() for one in runs] for name, runs in found.items()}
        (folder / "scaling.json").write_text(json.dumps({**facts, **content}, indent=2) + "\n", encoding="utf-8")
        lines = [*described(facts), *scaling_table(found)]
        (folder / "scaling.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def scaling_table(found: Mapping[str, Sequence[bench_scale.Measured]]) -> list[str]:
    """The runs of each axis in Markdown, with the exponents of ``cost = c * size ** p`` that fit best."""
    lines = [
        "| what grows | sizes | seconds | p of time | peak MiB | p of memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, runs in found.items():
        sizes = [one.rows for one in runs]
        times, memories = [one.seconds for one in runs], [one.memory for one in runs]
        cells = [
            bench_scale.AXES[name].what,
            ", ".join(f"{size:,}" for size in sizes),
            ", ".join(f"{seconds:.1f}" for seconds in times),
            f"{exponent(sizes, times):.2f}",
            ", ".join(f"{memory:.0f}" for memory in memories),
            f"{exponent(sizes, memories):.2f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines

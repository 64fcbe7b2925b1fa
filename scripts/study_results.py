"""From the study's runs to its rows, table and figure: nDCG@10 with intervals over queries and seeds, paired tests."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from choose_weight import mix_runs
from study_data import COLLECTIONS
from study_trainings import DEV, EVERY_STUDENT, STUDENTS, Study, Training

from tevatron_distill import Reranker
from tevatron_distill.formats.output import write_whole
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import bootstrap_interval, evaluate, paired_test
from tevatron_distill.schema import Qrels, Run

MEASURE = "nDCG@10"
RESAMPLES = 10_000
WEIGHTS = [tenths / 10 for tenths in range(11)]
NUM_TIMED = 10
BEGIN, END = "<!-- study: begin -->\n", "<!-- study: end -->\n"

Row = dict[str, Any]
PerQuery = Mapping[str, float]


def measured(run: Run, qrels: Qrels) -> PerQuery:
    """The measure of each judged query of the run's set."""
    return evaluate(run, qrels, [MEASURE]).per_query[MEASURE]


def interval(values: Sequence[PerQuery]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % bootstrap interval over queries and seeds.

    Args:
        values: for each seed, of the same queries.
    """
    if len(values) == 1:
        return tuple(bootstrap_interval(values[0]))
    table = np.array([[row[query_id] for query_id in values[0]] for row in values])
    seeds, queries = table.shape
    rng = np.random.default_rng(0)
    means = [
        table[np.ix_(rng.integers(seeds, size=seeds), rng.integers(queries, size=queries))].mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(table.mean()), float(low), float(high)


def tolerance(values: Sequence[PerQuery]) -> float | None:
    """How far the mean of another seed may lie from these seeds' mean, to be no surprise; None for fewer than three.

    Four standard deviations of a seed, and .005 for the arithmetic of another machine.
    """
    if len(values) < 3:
        return None
    return round(4 * float(np.std([np.mean(list(row.values())) for row in values], ddof=1)) + 0.005, 4)


def mean_over_seeds(values: Sequence[PerQuery]) -> PerQuery:
    """Each query's mean over the seeds."""
    return {query_id: float(np.mean([row[query_id] for row in values])) for query_id in values[0]}


class Results:
    """The rows of a study whose runs are there."""

    def __init__(self, study: Study) -> None:
        self.study = study
        tests = (*DEV, *study.dev_sets)
        self.qrels = {test: self._tested(test) for test in tests}
        self.first = {test: self._first_stage(test) for test in tests}
        self.others = {test: {"bm25": measured(self.first[test], self.qrels[test])} for test in DEV}
        teacher = read_run(study.data.teacher_run("BM25", "dl19"))
        self.others["dl19"]["rank_vicuna"] = measured(teacher, self.qrels["dl19"])
        self.commit = commit()

    def rows(self) -> Iterator[Row]:
        """First stage, teacher, untrained backbone, then every training, alone and mixed with the first stage."""
        for name in ("bm25", "rank_vicuna"):
            for test, others in self.others.items():
                if name in others:
                    yield self._row("none", test, name, "", [others[name]])
        yield from self._training(Training("colbert", "none", "rank_net", (1,)))
        for training in (*self.study.cut.warm_starts, *self.study.cut.trainings):
            yield from self._training(training)

    def _training(self, training: Training) -> Iterator[Row]:
        name = training.name
        for test in training.tests:
            seeds = [seed for seed in training.seeds if self.study.run(name, test, seed).exists()]
            if not seeds:
                continue
            runs = [read_run(self.study.run(name, test, seed)) for seed in seeds]
            about = (training.train, test, training.student, "" if training.train == "none" else training.loss)
            yield self._row(*about, [measured(run, self.qrels[test]) for run in runs])
            weight = self._weight(name, test, seeds[0])
            if weight:
                mixed = [measured(mix_runs(run, self.first[test], weight), self.qrels[test]) for run in runs]
                yield self._row(*about, mixed) | {"first_stage_weight": weight}

    def _row(self, train: str, test: str, student: str, loss: str, values: Sequence[PerQuery]) -> Row:
        mean, low, high = interval(values)
        row = {
            "train": train, "test": test, "student": student, "loss": loss, "ndcg10": round(mean, 4),
            "low": round(low, 4), "high": round(high, 4), "ms_per_query": None, "params": None, "seeds": len(values),
            "commit": self.commit, "first_stage_weight": 0.0,
            "tolerance": tolerance(values),
            "ndcg10_of_seeds": [round(float(np.mean(list(one.values()))), 4) for one in values],
        }  # fmt: skip
        for name, other in self.others[test].items():
            if name != student:
                found = paired_test(other, mean_over_seeds(values))
                row[f"minus_{name}"] = round(found.difference, 4)
                row[f"p_{name}"] = float(f"{found.p:.2g}")
        return row

    def _weight(self, name: str, test: str, seed: int) -> float | None:
        """The weight of the first stage that is best on the development queries; the smallest of equal ones."""
        dev = DEV[test]
        if not self.study.run(name, dev, seed).exists():
            return None
        run = read_run(self.study.run(name, dev, seed))
        found = {
            weight: evaluate(mix_runs(run, self.first[dev], weight), self.qrels[dev], [MEASURE]).mean[MEASURE]
            for weight in WEIGHTS
        }
        return max(found, key=lambda weight: (round(found[weight], 6), -weight))

    def _tested(self, test: str) -> Qrels:
        """The judgements of the queries that were ranked, all of them but in the quick cut and for choices."""
        qrels = self.study.data.qrels(f"{test}.test" if test in COLLECTIONS else test)
        if not test.endswith(".dev") and self.study.cut.num_tests is None:
            return qrels
        ranked = {entry.query_id for entry in self.study.lists(test)}
        return {query_id: judged for query_id, judged in qrels.items() if query_id in ranked}

    def _first_stage(self, test: str) -> Run:
        return {
            entry.query_id: {passage.docid: score for passage, score in zip(entry.passages, entry.scores, strict=True)}
            for entry in self.study.lists(test)
        }


def commit() -> str:
    """The commit that the study was run at."""
    return subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def measure_speed(study: Study) -> None:
    """Milliseconds (median) of a query of 100 candidates, texts not seen before, and parameters, of each student.

    Nothing else may run meanwhile; the number of threads is that of OMP_NUM_THREADS.
    """
    path = study.data.out / "speed.json"
    if path.exists():
        return
    found = {}
    for training in EVERY_STUDENT:
        reranker = Reranker.from_pretrained(str(study.folder(training, training.seeds[0])), device="cpu")
        lists = [entry.top(10) if training.student == "pair_ranker" else entry for entry in study.lists("dl19")]
        for entry in lists[:1]:
            reranker.score_candidates([entry])
        seconds = []
        for entry in lists[1 : NUM_TIMED + 1]:
            begin = time.perf_counter()
            reranker.score_candidates([entry])
            seconds.append(time.perf_counter() - begin)
        params = sum(parameter.numel() for parameter in reranker.model.parameters())
        found[training.student] = {"ms_per_query": round(1000 * median(seconds), 1), "params": params}
    write_whole(path, json.dumps(found))


def write_results(study: Study, path: Path) -> Path:
    """The rows of all runs that are there, as JSON; `tolerance` is what other seeds may bring, from these seeds."""
    speed_path = study.data.out / "speed.json"
    speed = json.loads(speed_path.read_text(encoding="utf-8")) if speed_path.exists() else {}
    rows = [row | speed.get(row["student"], {}) for row in Results(study).rows()]
    write_whole(path, "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n", overwrite=True)
    return path


def read_rows(path: Path) -> list[Row]:
    """The rows of a results file."""
    return json.loads(path.read_text(encoding="utf-8"))


TITLES = {
    "bm25": "BM25", "rank_vicuna": "RankVicuna 7B (teacher)", "colbert": "ColBERT", "simcls": "SimCLS",
    "cross_encoder": "cross-encoder", "pair_ranker": "PairRanker (top 10)",
}  # fmt: skip


def tables(rows: Sequence[Row]) -> str:
    """Two Markdown tables: every student on every set; labels and losses on one student and dl19."""
    return "\n".join([*students_table(rows), "", *choices_table(rows), ""])


def with_tables(text: str, rows: Sequence[Row]) -> str:
    """The README's text with the study's tables made anew."""
    head, rest = text.split(BEGIN)
    return head + BEGIN + tables(rows) + END + rest.split(END)[1]


def students_table(rows: Sequence[Row]) -> list[str]:
    """First stage, teacher, untrained backbone and the students of the mix, alone and mixed with the first stage."""
    lines = ["| ranked by | BM25 mixed in | dl19 | nfcorpus | scifact | parameters | a query |", "| --- " * 7 + "|"]
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["train"] in ("none", "mix"):
            untrained = ", untrained" if row["student"] == "colbert" and row["train"] == "none" else ""
            key = (TITLES[row["student"]] + untrained, "yes" if row["first_stage_weight"] else "")
            found.setdefault(key, []).append(row)
    for (title, mixed), of_title in found.items():
        cells = {row["test"]: _cell(row) for row in of_title}
        params, speed = of_title[0]["params"], of_title[0]["ms_per_query"]
        about = [f"{params / 1e6:.1f}M" if params else "", f"{speed:.0f} ms" if speed else ""]
        lines.append(f"| {' | '.join([title, mixed, *(cells.get(test, '') for test in DEV), *about])} |")
    return lines


def choices_table(rows: Sequence[Row]) -> list[str]:
    """What the students of one kind make of other verdicts, and of other losses, on dl19, alone."""
    lines = ["| ColBERT learns from | loss | dl19 |", "| --- | --- | --- |"]
    for row in rows:
        if row["train"] not in ("none", "mix") and row["student"] == "colbert" and not row["first_stage_weight"]:
            lines.append(f"| {row['train']} | {row['loss']} | {_cell(row)} |")
    return lines


def _cell(row: Row) -> str:
    """nDCG@10 with its interval; a star where it is above BM25 with p < .05, two where above the teacher, too."""
    above = [name for name in ("bm25", "rank_vicuna") if row.get(f"minus_{name}", 0) > 0 and row[f"p_{name}"] < 0.05]
    stars = "*" * len(above)
    return f"{row['ndcg10']:.3f}{stars} ({row['low']:.3f}-{row['high']:.3f})"


def draw(rows: Sequence[Row], path: Path) -> None:
    """The students that learn from the mix, alone and mixed with the first stage, beside it and the teacher."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [row for row in rows if row["train"] in ("none", "mix") and row["loss"] in ("", "rank_net")]
    names = [name for name in TITLES if any(row["student"] == name for row in shown)]
    figure, axes = pyplot.subplots(1, len(DEV), figsize=(11, 3.2), sharey=True, layout="constrained")
    for axis, test in zip(axes, DEV, strict=True):
        for row in (row for row in shown if row["test"] == test):
            mixed, untrained = row["first_stage_weight"] > 0, row["student"] == "colbert" and row["train"] == "none"
            shift = (-0.36 if untrained else 0.0) + (0.0 if mixed else 0.16) if row["student"] in STUDENTS else 0.0
            reach = [[row["ndcg10"] - row["low"]], [row["high"] - row["ndcg10"]]]
            colour = "C1" if mixed else "C0" if row["student"] in STUDENTS else "0.2"
            look = {"alpha": 0.4 if untrained else 1.0, "capsize": 2, "markersize": 4}
            axis.errorbar(row["ndcg10"], names.index(row["student"]) + shift, xerr=reach, fmt="o", color=colour, **look)
        axis.set_title(test)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), [TITLES[name] for name in names])
    axes[0].invert_yaxis()
    handles = [pyplot.Line2D([], [], marker="o", linestyle="", color=colour) for colour in ("C0", "C1")]
    figure.legend(handles, ["alone (pale: untrained)", "mixed with BM25"], loc="outside lower center", ncols=2)
    axes[1].set_xlabel("nDCG@10, 95 % interval over queries and seeds")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)

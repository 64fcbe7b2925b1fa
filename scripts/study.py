"""One teacher, every student: the same verdicts teach four students from one backbone, and losses and labels are
compared on one of them.

    python scripts/study.py --data_dir DATA [--output_dir study] [--processes 2]
    python scripts/study.py --data_dir DATA --quick

DATA is a folder with `rank_llm/`, `msmarco_dl/`, `nfcorpus/` and `scifact/`; the backbone is the MiniLM of
`quickstart_weights.py`. A second call goes on where the first was stopped. Writes scripts/results/study.json and
study.png, and the README's tables.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from quickstart_weights import weights_folder
from study_data import StudyData
from study_results import draw, measure_speed, read_rows, tables, with_tables, write_results
from study_trainings import FULL, QUICK, STUDENTS, Study, Training

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"


def make_study(args: argparse.Namespace) -> Study:
    """The study that the flags ask for."""
    out = args.output_dir / ("quick" if args.quick else "full")
    cut = QUICK if args.quick else FULL
    if args.seeds:
        trainings = tuple(replace(training, seeds=tuple(args.seeds)) for training in cut.trainings)
        cut = replace(cut, trainings=trainings)
    return Study(StudyData(args.data_dir, out.resolve(), weights_folder(), cut.num_queries), cut)


def logged(path: Path, do: Callable[..., None], *args: object) -> None:
    """Do something in a process of its own, its words in a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        do(*args)


def side_by_side(
    study: Study, jobs: Sequence[tuple[str, Callable[..., None], tuple[object, ...]]], processes: int
) -> None:
    """Do the jobs in as many processes; the first failure ends the study, what is finished stays."""
    begin = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        logs = {name: study.data.out / "logs" / f"{name}.log" for name, _, _ in jobs}
        futures = {pool.submit(logged, logs[name], do, *args): name for name, do, args in jobs}
        for number, future in enumerate(as_completed(futures), start=1):
            name = futures[future]
            if error := future.exception():
                pool.shutdown(cancel_futures=True)
                sys.exit(f"error: {name} failed: {error}; see {logs[name]}")
            print(f"{number}/{len(jobs)} {name}, {(time.monotonic() - begin) / 60:.0f} min", flush=True)


def jobs_of(study: Study, trainings: Sequence[Training]) -> list[tuple[str, Callable[..., None], tuple[object, ...]]]:
    """A job for each training and seed."""
    return [(f"{one.name}.{seed}", study.do, (one, seed)) for one in trainings for seed in one.seeds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, default=os.environ.get("TEVATRON_DISTILL_DATA"))
    parser.add_argument("--output_dir", type=Path, default=Path("study"))
    parser.add_argument("--results_dir", type=Path, default=RESULTS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="trainings that go side by side")
    parser.add_argument("--quick", action="store_true", help="small cut of about five minutes, for the gates")
    parser.add_argument("--seeds", type=int, nargs="+", help="seeds of every training, instead of the study's own")
    args = parser.parse_args()
    if not args.data_dir or not (args.data_dir / "rank_llm").is_dir():
        parser.error(f"--data_dir must hold rank_llm/, msmarco_dl/, nfcorpus/ and scifact/; got {args.data_dir}")
    study = make_study(args)
    side_by_side(study, [("inputs", study.make_inputs, ())], 1)
    # Students that start from a warm start wait for it; the others go beside it
    late = [one for one in study.cut.trainings if STUDENTS[one.student].start]
    free = [one for one in study.cut.trainings if one not in late]
    untrained = [] if args.quick else [("untrained", study.do_untrained, ())]
    side_by_side(study, [*jobs_of(study, study.cut.warm_starts), *untrained, *jobs_of(study, free)], args.processes)
    side_by_side(study, jobs_of(study, late), args.processes)
    if not args.quick:
        measure_speed(study)
    rows = read_rows(write_results(study, args.results_dir / f"study{'_quick' if args.quick else ''}.json"))
    print(tables(rows))
    if not args.quick:
        draw(rows, args.results_dir / "study.png")
    if args.results_dir == RESULTS and not args.quick:
        README.write_text(with_tables(README.read_text(encoding="utf-8"), rows), encoding="utf-8")


if __name__ == "__main__":
    main()

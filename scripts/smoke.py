"""What must work wherever the package is installed: run by that environment's Python, in an empty folder."""

from __future__ import annotations

import importlib
import importlib.resources
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

from tiny_models import build_encoder, group_lines, rerank_lines

TEMPLATES = {"tevatron_distill.report": ("page.html",), "tevatron_distill.export": ("card.md",)}
NUM_GROUPS, NUM_QUERIES, DEPTH = 8, 4, 5


def main() -> None:
    """Import every module, find the files that are no code, and go from groups to a page about a run."""
    package = importlib.import_module("tevatron_distill")
    if Path(__file__).parent.parent in Path(package.__file__ or "").parents:
        raise SystemExit(f"{package.__file__}: this is the repository's; nothing was installed")
    modules = [module.name for module in pkgutil.walk_packages(package.__path__, "tevatron_distill.")]
    for module in modules:
        if not module.endswith("__main__"):
            importlib.import_module(module)
    files = importlib.resources.files
    wanted = [files(name) / "templates" / file for name, names in TEMPLATES.items() for file in names]
    for path in (files("tevatron_distill") / "py.typed", *wanted):
        if not path.is_file():
            raise SystemExit(f"{path}: left out of the wheel")
    print(f"{len(modules)} modules of {Path(package.__file__ or '').parent}")
    road()


def road() -> None:
    """The installed program's help and doctor, then from tiny groups to a trained student, its run, page and export."""
    Path("model").mkdir()
    build_encoder(Path("model"))
    Path("groups.jsonl").write_text("".join(f"{line}\n" for line in group_lines(NUM_GROUPS, DEPTH)))
    lines = list(rerank_lines(NUM_QUERIES, DEPTH))
    Path("rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    first = [row for row in map(json.loads, lines) if row["docid"].endswith("-0")]
    Path("qrels.txt").write_text("".join(f"{row['query_id']} 0 {row['docid']} 1\n" for row in first))
    program = str(Path(sys.executable).with_name("tevatron-distill"))
    subprocess.run([program, "--help"], check=True, capture_output=True)
    subprocess.run([program, "doctor"], check=True)
    verb("train", "--model_name_or_path model --dataset_path groups.jsonl --loss rank_net --output_dir student")
    verb("rerank", "--model_name_or_path student --dataset_path rows.jsonl --rerank_output_path run.tsv")
    verb("evaluate", "--qrels_path qrels.txt --run_path run.tsv --measures nDCG@10")
    verb("report", "--qrels_path qrels.txt --run_path run.tsv --output_path report.html")
    verb("export", "--model_name_or_path student --output_dir exported")
    if len(Path("run.tsv").read_text().splitlines()) != NUM_QUERIES * DEPTH:
        raise SystemExit("run.tsv: rows are missing")


def verb(name: str, words: str) -> None:
    """One driver, in this process."""
    further = {"train": "--max_steps 2 --use_cpu --report_to none", "rerank": "--use_cpu --output_dir temp"}
    importlib.import_module(f"tevatron_distill.driver.{name}").main([*words.split(), *further.get(name, "").split()])
    print(f"{name}: well", flush=True)


if __name__ == "__main__":
    main()

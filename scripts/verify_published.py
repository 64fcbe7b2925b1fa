"""Do released models give their published figures? ``python scripts/verify_published.py [--only NAME …]``.

Each check loads weights from the hub by name and compares what they give here with what is published. The exit status
is 0 only if every check that was asked for was run and passed; it is 1 after a figure that differs, and 2 where a check
could not be run, for want of the hub, a GPU or an extra. The table says which, and `--list` what each one lacks here.

    python scripts/verify_published.py --only bge-reranker-base bge-m3-shape bge-m3-colbert    # a CPU will do
    python scripts/verify_published.py    # a GPU of 24 GB should do; extras pyserini,jdk,ir,lora,t5
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import huggingface_hub
import published_sets
import reproduce_table
import torch

from tevatron_distill import Reranker
from tevatron_distill.driver import rerank
from tevatron_distill.formats.output import write_whole
from tevatron_distill.layouts.similarity import MaxSim
from tevatron_distill.schema import InputError

Values = list[float]
KICKBOXING = "In 1974, I won the championship in Southeast Asia in my first kickboxing match"
LONG = "In 1982, I defeated the heavy hitter Ryu Long."
PAIRS = [[KICKBOXING, LONG], ["A dog is chasing car.", "A man is playing a guitar."]]
Verdict = Literal["passed", "differs", "not run"]


@dataclass(frozen=True)
class Check:
    """A published figure, and how it is had here.

    Attributes:
        name: for ``--only``.
        model: name on the hub, or a folder.
        what: what is computed.
        source: who publishes it.
        expected: the figures.
        tolerance: the largest difference, absolute.
        compute: gives our figures of a model.
        gpu: it wants one.
        packages: that must be installed.
    """

    name: str
    model: str
    what: str
    source: str
    expected: Values
    tolerance: float
    compute: Callable[[str, Path, Path], Values]
    gpu: bool = False
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came out.

    Attributes:
        check: what was asked.
        got: our figures; None where it was not run.
        reason: why it was not.
    """

    check: Check
    got: Values | None
    reason: str = ""

    @property
    def verdict(self) -> Verdict:
        """``passed`` only where every figure was had and is near enough."""
        if self.got is None:
            return "not run"
        check = self.check
        near = len(self.got) == len(check.expected) and all(
            abs(ours - theirs) <= check.tolerance for ours, theirs in zip(self.got, check.expected, strict=True)
        )
        return "passed" if near else "differs"


def pair_scores(model: str, work: Path, sets: Path) -> Values:
    """Scores of open-retrievals' two pairs."""
    scores = Reranker.from_pretrained(model, "cross_encoder", dtype="float32").compute_score(PAIRS)
    return list(scores) if isinstance(scores, list) else [scores]


def token_vectors(model: str, work: Path, sets: Path) -> Values:
    """The shape of open-retrievals' ``encode`` of two sentences: texts, tokens of the longest, width."""
    vectors = Reranker.from_pretrained(model, "colbert", dtype="float32").encode([KICKBOXING, LONG])
    return [float(len(vectors)), float(max(len(one) for one in vectors)), float(vectors[0].shape[1])]


def token_scores(model: str, work: Path, sets: Path) -> Values:
    """MaxSim of a query with two passages, summed over the query's tokens.

    The figures are above 1, so they cannot be the mean over the tokens that open-retrievals' present program gives.
    """
    reranker = Reranker.from_pretrained(model, "colbert", dtype="float32")
    [query] = reranker.encode([KICKBOXING], is_query=True)
    scores = []
    for passage in reranker.encode([LONG, "A man is playing a guitar."]):
        counted = [torch.ones(1, len(vectors), dtype=torch.bool) for vectors in (query, passage)]
        scores.append(MaxSim(mean=False)(query[None], counted[0], passage[None], counted[1]).item())
    return scores


def on_sets(recipe: str, *flags: str) -> Callable[[str, Path, Path], Values]:
    """The figures of a recipe's released weights on its test sets, in the order of `published.json`.

    Args:
        recipe: a name in `published.json`.
        flags: of `driver.rerank`.
    """

    def compute(model: str, work: Path, sets: Path) -> Values:
        recipes, means = reproduce_table.load()
        row = recipes[recipe]
        names = reproduce_table.sets_of(row, means)
        runs = work / f"{recipe}-{Path(model).name}"
        for name in names:
            target = published_sets.make(name, sets)
            run = runs / f"run.{name}.tsv"
            if not run.is_file():
                words = ["--model_name_or_path", model, "--dataset_path", str(target / "candidates.jsonl")]
                words += ["--rerank_output_path", str(run), "--output_dir", str(work / "temp"), *flags]
                rerank.main(words)
        values = reproduce_table.with_means(reproduce_table.measured(names, runs, sets, row.measure), means)
        return [values[figure] for figure in row.figures]

    return compute


def recipe_check(recipe: str, tolerance: float, packages: tuple[str, ...], *flags: str) -> Check:
    """The check of a recipe's released weights on all its sets; flags are those of `driver.rerank`."""
    row = reproduce_table.load()[0][recipe]
    figures = list(row.figures.values())
    what = f"{row.measure} on {', '.join(row.figures)}"
    return Check(recipe, row.checkpoint, what, row.source, figures, tolerance, on_sets(recipe, *flags), True, packages)


CARD = "open-retrievals, docs/source/rerank.rst"
TWO_PAIRS = "scores of two pairs"
# Tevatron's README: half precision, 32 + 164 tokens; its present program joins query and passage to one string
RANKLLAMA = ("--tokenizer_name", "meta-llama/Llama-2-7b-hf", "--fp16", "--rerank_max_len", "196")
ONE_STRING = ("--pair_encoding", "false", "--query_prefix", "query: ", "--passage_prefix", "document: ")
CHECKS: list[Check] = [
    Check("bge-reranker-base", "BAAI/bge-reranker-base", TWO_PAIRS, CARD, [-5.0753, -10.1941], 1e-3, pair_scores),
    Check("bge-m3-shape", "BAAI/bge-m3", "shape of token vectors", CARD, [2, 21, 1024], 0, token_vectors),
    Check("bge-m3-colbert", "BAAI/bge-m3", "MaxSim of two pairs", CARD, [5.4459, 3.0763], 1e-2, token_scores),
    recipe_check("rankllama", 0.005, ("ir_datasets", "peft"), *RANKLLAMA, *ONE_STRING),
    recipe_check("rankllama-v1", 0.005, ("ir_datasets", "peft"), *RANKLLAMA),
    recipe_check("instruct_distill-xl", 0.01, ("pyserini", "ir_datasets"), "--depth", "100", "--bf16"),
    recipe_check("rankzephyr", 0.01, ("pyserini", "ir_datasets"), "--depth", "100", "--bf16"),
    recipe_check("first_mistral", 0.01, ("pyserini", "ir_datasets"), "--depth", "100", "--bf16"),
]
"""All checks; tolerances are absolute: half precision and the order of ties move nDCG@10 in the third place."""


def missing(check: Check) -> str:
    """What this machine lacks for a check; empty for nothing."""
    lacks = ["a GPU"] if check.gpu and not torch.cuda.is_available() else []
    lacks += [f"the package {package}" for package in check.packages if importlib.util.find_spec(package) is None]
    if not Path(check.model).is_dir() and not is_cached(check.model) and not hub_answers():
        lacks.append("the hub (huggingface.co), or the model in its cache")
    return ", ".join(lacks)


def is_cached(model: str) -> bool:
    """Whether a model was downloaded before."""
    files = ("config.json", "adapter_config.json")
    return any(isinstance(huggingface_hub.try_to_load_from_cache(model, file), str) for file in files)


def hub_answers() -> bool:
    """Whether the hub can be reached."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    try:
        socket.create_connection(("huggingface.co", 443), timeout=5).close()
    except OSError:
        return False
    return True


def run(check: Check, work: Path, sets: Path) -> Result:
    """Run one check; what cannot be loaded or had is a reason, not a pass."""
    lacks = missing(check)
    if lacks:
        return Result(check, None, f"needs {lacks}")
    try:
        return Result(check, check.compute(check.model, work, sets))
    except (InputError, OSError) as error:
        return Result(check, None, f"{type(error).__name__}: {error}".splitlines()[0])


def table(results: Sequence[Result]) -> str:
    """All results as Markdown."""
    lines = ["| check | loaded | what | published | tolerance | got | verdict |", f"|{' --- |' * 7}"]
    for result in results:
        check = result.check
        got = result.reason if result.got is None else _printed(result.got)
        cells = (check.name, check.model, check.what, _printed(check.expected), f"{check.tolerance:g}", got)
        lines.append(f"| {' | '.join((*cells, result.verdict))} |")
    return "\n".join(lines)


def _printed(values: Values) -> str:
    return ", ".join(f"{value:.4f}".rstrip("0").rstrip(".") for value in values)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks that are asked for; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [check.name for check in CHECKS]
    parser.add_argument("--only", nargs="+", choices=names, help="these checks (default: all)")
    parser.add_argument("--model", help="a folder in the place of the name on the hub, with --only one check")
    parser.add_argument("--folder", type=Path, default=Path("out/sets"), help="where the test sets are kept")
    parser.add_argument("--work", type=Path, default=Path("out/verify"), help="where runs are kept")
    parser.add_argument("--list", action="store_true", help="say what each check needs on this machine, and run none")
    parser.add_argument("--output", type=Path, help="also write the table into this file")
    arguments = parser.parse_args(argv)
    checks = [check for check in CHECKS if arguments.only is None or check.name in arguments.only]
    if arguments.model is not None:
        if len(checks) != 1:
            parser.error("--model takes the place of one name: choose the check by --only")
        checks = [replace(checks[0], model=arguments.model)]
    if arguments.list:
        for check in checks:
            lacks = missing(check) or "nothing"
            print(f"{check.name}: {check.what} of {check.model} ({check.source}); lacking here: {lacks}")
        return 0
    results = [run(check, arguments.work, arguments.folder) for check in checks]
    text = table(results)
    print(text)
    if arguments.output is not None:
        write_whole(arguments.output, text.splitlines(), overwrite=True)
    verdicts = [result.verdict for result in results]
    print(f"\n{', '.join(f'{verdicts.count(verdict)} {verdict}' for verdict in dict.fromkeys(verdicts))}")
    return 1 if "differs" in verdicts else 2 if "not run" in verdicts else 0


if __name__ == "__main__":
    sys.exit(main())

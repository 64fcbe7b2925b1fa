"""Do the tests notice? Each deliberate fault of mutations.yaml is put into a copy of the package, and its tests run.

    python scripts/mutate.py                     all faults: a table, and an error where one survives
    python scripts/mutate.py --list              their names
    python scripts/mutate.py --only "RankNet's sign is turned" …
    python scripts/mutate.py --faults mine.yaml  another list

A fault counts as caught when one of the default tests that it names fails by an assertion or by an error that says what
is wrong; code that cannot be imported or read, or a test that never ends, catches nothing. Without any fault the same
tests must pass. The work tree is never touched. Needs fork (Linux, macOS).
"""

from __future__ import annotations

import argparse
import compileall
import gc
import importlib
import json
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("mutations.yaml")
LIBRARIES = ("torch", "transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama")
LIBRARIES += ("transformers.models.t5.modeling_t5", "transformers.trainer", "ir_measures", "scipy.stats", "bm25s")
LIBRARIES += ("hypothesis.strategies", "_hypothesis_pytestplugin", "xdist.plugin", "pytest_timeout", "peft")
"""Imported once; the tests of each fault run in a fork of the process that has them."""

NOT_CAUGHT_BY = ("SyntaxError", "IndentationError", "ImportError", "ModuleNotFoundError", "NameError", "AttributeError")
SECONDS = 600
PYTEST = ("-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--timeout", "300", "--hypothesis-seed", "0")
PYTEST += ("-W", "ignore::pytest.PytestAssertRewriteWarning")  # of the libraries that are there already


class Fault(NamedTuple):
    """A row of mutations.yaml.

    Attributes:
        name: what goes wrong, in the reader's words.
        file: of the package, from the root.
        old: text that stands in it once.
        new: what is put in its place.
        tests: files of tests, or single ones as pytest names them, one of which should fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


class Outcome(NamedTuple):
    """What the tests said.

    Attributes:
        test: the first one that failed; empty for none.
        error: the class of the exception, and its first line; empty for none.
        problem: why this is no answer; empty where it is one.
        seconds: of processor time.
    """

    test: str
    error: str
    problem: str
    seconds: float


def read_faults(path: Path = LIST) -> list[Fault]:
    """The list, each fault checked against the file that it changes."""
    faults = []
    for row in yaml.safe_load(path.read_text(encoding="utf-8")):
        tests = [row["tests"]] if isinstance(row["tests"], str) else row["tests"]
        faults.append(Fault(row["name"], row["file"], row["old"], row["new"], tuple(tests)))
    return faults


def problems_of(fault: Fault, root: Path = ROOT) -> list[str]:
    """Why a fault cannot be tried."""
    path = root / fault.file
    times = path.read_text(encoding="utf-8").count(fault.old) if path.is_file() else 0
    found = [] if times == 1 else [f"its old text must stand once in {fault.file}; it stands there {times} times"]
    found += [] if fault.new != fault.old else ["it changes nothing"]
    return found + [f"there is no {test}" for test in fault.tests if not _is_there(root, test)]


def _is_there(root: Path, test: str) -> bool:
    """Whether a file of tests, or a single test in it, can be run."""
    name, _, function = test.partition("::")
    function = function.rpartition("::")[2]
    path = root / name
    return path.is_file() and (not function or f"def {function.partition('[')[0]}(" in path.read_text(encoding="utf-8"))


@contextmanager
def copied_tree() -> Iterator[Path]:
    """A temporary copy of what git knows or would add, compiled so that a file of equal size and time is read anew."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        copy = Path(folder, "copy").resolve()
        for name in filter(None, listed.stdout.split("\0")):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        compileall.compile_dir(
            copy / "tevatron_distill", quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )
        yield copy


@contextmanager
def applied(fault: Fault, copy: Path) -> Iterator[None]:
    """Within it the copy has the fault."""
    path = copy / fault.file
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")


class Watch:
    """A plugin that remembers the first failure."""

    def __init__(self) -> None:
        self.said = {"test": "", "error": "", "problem": ""}

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        if self.said["error"]:
            return
        kind = call.excinfo.type.__name__
        lines = str(call.excinfo.value).splitlines() or [""]
        self.said = {"test": node.nodeid, "error": f"{kind}: {lines[0]}"[:120], "problem": ""}
        if getattr(report, "when", "collect") == "collect":
            self.said["problem"] = "could not be collected"
        elif kind in NOT_CAUGHT_BY or lines[0].startswith("Timeout"):
            self.said["problem"] = f"ended by {kind}, not by what the test says"


def run_tests(copy: Path, tests: Sequence[str]) -> Outcome:
    """Run tests against the copy, in a fork of this process."""
    began = time.perf_counter()
    said, log = copy.parent / "said.json", copy.parent / "log"
    said.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _be_pytest(copy, tests, said, log)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(1)
    ended, _, usage = os.wait4(child, os.WNOHANG)
    while not ended and time.perf_counter() - began < SECONDS:
        time.sleep(0.05)
        ended, _, usage = os.wait4(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return Outcome("", "", f"did not end in {SECONDS} s", SECONDS)
    seconds = usage.ru_utime + usage.ru_stime
    if not said.exists():
        return Outcome("", "", f"pytest died:\n{log.read_text(encoding='utf-8')[-2000:]}", seconds)
    return Outcome(**json.loads(said.read_text(encoding="utf-8")), seconds=seconds)


def _be_pytest(copy: Path, tests: Sequence[str], said: Path, log: Path) -> None:
    """The child's life: pytest on the copy, whose verdict it leaves in a file."""
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(copy)
    os.environ["PYTHONPATH"] = str(copy)
    os.environ.pop("TEVATRON_DISTILL_DATA", None)  # what is caught must not depend on the data at hand
    sys.path.insert(0, str(copy))
    importlib.invalidate_caches()
    package = importlib.import_module("tevatron_distill")
    watch = Watch()
    code = pytest.main([*PYTEST, *tests], plugins=[watch])
    if not Path(package.__file__ or "").resolve().is_relative_to(copy):
        watch.said["problem"] = f"the tests saw {package.__file__}, not the copy"
    elif code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not watch.said["problem"]:
        watch.said["problem"] = f"pytest ended with {code!r}"
    said.write_text(json.dumps(watch.said), encoding="utf-8")
    os._exit(0)


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows in columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def try_faults(faults: Sequence[Fault], copy: Path) -> int:
    """Try each fault and say what became of it; how many were not caught."""
    tests = sorted({test for fault in faults for test in fault.tests})
    whole = {test for test in tests if "::" not in test}
    without = run_tests(copy, [test for test in tests if test in whole or test.partition("::")[0] not in whole])
    if without.error or without.problem:
        print(f"without any fault: {without.test} {without.error} {without.problem}")
        return len(faults)
    print(f"without any fault all tests of the list pass ({without.seconds:.1f} s)", flush=True)
    rows, num_left = [("fault", "caught by", "by", "seconds")], 0
    for fault in faults:
        with applied(fault, copy):
            outcome = run_tests(copy, fault.tests)
        is_caught = bool(outcome.test) and not outcome.problem
        num_left += not is_caught
        test = outcome.test.rpartition("::")[2] or outcome.test
        left = f"NOT CAUGHT {outcome.problem}".strip()
        kind = outcome.error.partition(":")[0]
        rows.append((fault.name, test if is_caught else left, kind, f"{outcome.seconds:.1f}"))
        if not is_caught:
            print(f"{fault.name}: {left} {outcome.test} {outcome.error}", flush=True)
    print(table(rows))
    print(f"{len(faults) - num_left} of {len(faults)} faults caught")
    return num_left


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="faults by their names")
    parser.add_argument("--faults", type=Path, default=LIST, help="the list; default: mutations.yaml")
    parser.add_argument("--list", action="store_true", help="print the names, and try nothing")
    args = parser.parse_args(argv)
    faults = read_faults(args.faults)
    unknown = sorted(set(args.only or ()) - {fault.name for fault in faults})
    if unknown:
        parser.error(f"no fault has the name {', '.join(unknown)}; see --list")
    faults = [fault for fault in faults if not args.only or fault.name in args.only]
    if args.list:
        print(table([(fault.name, fault.file) for fault in faults]))
        return 0
    wrong = [f"{fault.name}: {problem}" for fault in faults for problem in problems_of(fault)]
    if wrong:
        parser.error("\n".join(wrong))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if len(faults) > 3:
        for name in LIBRARIES:
            importlib.import_module(name)
        gc.freeze()  # or each fork would copy what it only looks through
    with copied_tree() as copy:
        return int(bool(try_faults(faults, copy)))


if __name__ == "__main__":
    sys.exit(main())

"""Output that appears whole or not at all, and the record of how it was made."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

PACKAGES = (
    "tevatron-distill",
    "accelerate",
    "bm25s",
    "datasets",
    "ir-measures",
    "numpy",
    "peft",
    "PyStemmer",
    "torch",
    "transformers",
)
# Flags that say what to do with old output, not what the new output is.
NOT_COMPARED = frozenset({"overwrite_output_dir", "resume_from_checkpoint", "max_unparsed"})


class ResumableOutput:
    """A text file that grows as ``path.partial`` and is renamed to ``path`` when the with-block ends well.

    The same command, started again after an interruption, finds the complete lines of the partial file in
    ``done_lines`` and goes on behind them. ``<path>.run_config.json`` (while unfinished
    ``<path>.partial.run_config.json``) records arguments, versions, commit and the hashes of the inputs; a
    partial file that other arguments or inputs began is refused.

    Args:
        path: the finished file; its folder is made where it is missing.
        arguments: what the output depends on, name to JSON value.
        inputs: files and folders whose content the output depends on.
        overwrite: begin anew: a partial file is thrown away, a complete one is replaced (at the end, so that it is
            never lost to a run that fails).

    Attributes:
        done_lines: complete lines of an interrupted run, without newlines; a torn last line is cut off.
        num_done_lines: how many they are.

    Raises:
        InputError: if a complete file exists, or a partial one of another run, or an input is missing.
    """

    def __init__(
        self,
        path: str | Path,
        arguments: Mapping[str, object],
        inputs: Sequence[str | Path],
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        refuse_existing(self.path, overwrite)
        self._partial = self.path.with_name(self.path.name + ".partial")
        self._config = describe_run(arguments, inputs)
        self._file: TextIO | None = None
        self.done_lines: list[str] = []
        if self._partial.exists() and not overwrite:
            self._check_same_run()
            self.done_lines = _complete_lines(self._partial)

    @property
    def num_done_lines(self) -> int:
        """How many lines an interrupted run has left."""
        return len(self.done_lines)

    def __enter__(self) -> ResumableOutput:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_text(_config_path(self._partial), as_json(self._config))
        kept = sum(len(line.encode()) + 1 for line in self.done_lines)
        self._file = open(self._partial, "a", encoding="utf-8", newline="\n")
        self._file.truncate(kept)
        if self.done_lines:
            logger.info("%s: going on behind %d finished lines", self._partial, self.num_done_lines)
        return self

    def append(self, lines: Iterable[str]) -> None:
        """Write complete lines (given without newlines) and see them on the disk before returning."""
        if self._file is None:
            raise RuntimeError("append is for the inside of the with-block")
        self._file.write("".join(f"{line}\n" for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())

    def add_report(self, report: Mapping[str, object]) -> None:
        """Put figures of the run (counts, times) under ``report`` into the run's record."""
        self._config["report"] = dict(report)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if error is not None:
            return
        replace_text(_config_path(self._partial), as_json(self._config))
        os.replace(_config_path(self._partial), _config_path(self.path))
        os.replace(self._partial, self.path)

    def _check_same_run(self) -> None:
        config_path = _config_path(self._partial)
        if not config_path.exists():  # a run that died between its last two renames
            config_path = _config_path(self.path)
        try:
            old = json.loads(config_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            old = {}
        differing = differing_keys(old, json.loads(as_json(self._config)))
        if differing:
            raise InputError(
                f"{self._partial}: unfinished output must go on with the arguments and inputs that began it; "
                f"these differ: {', '.join(differing)}; use the first command, another output path, "
                "or --overwrite_output_dir to begin anew"
            )


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Stop before any work where the finished output is there already.

    Raises:
        InputError: if ``path`` exists and ``overwrite`` is False, or ``path`` is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: the output must be a file; got a folder")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: the output exists already; choose another path or give --overwrite_output_dir")


def write_whole(path: str | Path, content: str | Iterable[str], overwrite: bool = False) -> None:
    """Write a file by a rename, so that nobody ever sees half of it.

    Args:
        path: the file; its folder is made where it is missing.
        content: the text, or its lines without newlines, which are written as they come.
        overwrite: replace an existing file.

    Raises:
        InputError: if the file exists and ``overwrite`` is False.
    """
    refuse_existing(path, overwrite)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    replace_text(Path(path), content if isinstance(content, str) else (f"{line}\n" for line in content))


def write_run_config(
    path: str | Path,
    arguments: Mapping[str, object],
    inputs: Sequence[str | Path],
    report: Mapping[str, object] | None = None,
) -> None:
    """Record how an output was made: ``<folder>/run_config.json``, or ``<file>.run_config.json``.

    Raises:
        InputError: if an input is missing.
    """
    config = describe_run(arguments, inputs)
    if report is not None:
        config["report"] = dict(report)
    path = Path(path)
    target = path / "run_config.json" if path.is_dir() else _config_path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_text(target, as_json(config))


def describe_run(arguments: Mapping[str, object], inputs: Sequence[str | Path]) -> dict[str, Any]:
    """Arguments, package versions, commit, hashes of the inputs, and the time.

    Raises:
        InputError: if an input is missing.
    """
    return {
        "arguments": dict(arguments),
        "inputs": {str(path): hash_path(path) for path in inputs},
        "versions": {"python": platform.python_version(), **_package_versions()},
        "commit": _commit(),
        "time": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def hash_path(path: str | Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names, in hexadecimal.

    Raises:
        InputError: if there is nothing at ``path``.
    """
    path = Path(path)
    if path.is_dir():
        listing = [f"{file.relative_to(path)} {hash_path(file)}" for file in sorted(path.rglob("*")) if file.is_file()]
        return hashlib.sha256("\n".join(listing).encode()).hexdigest()
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: the input must be readable; got {error.strerror or error}") from error
    return digest.hexdigest()


def _config_path(path: Path) -> Path:
    return path.with_name(path.name + ".run_config.json")


def _complete_lines(path: Path) -> list[str]:
    whole, newline, _ = path.read_bytes().rpartition(b"\n")
    return whole.decode("utf-8").split("\n") if newline else []


def replace_text(path: Path, text: str | Iterable[str]) -> None:
    """Put a text, or its parts as they come, in a file's place by a rename."""
    fresh = path.with_name(path.name + ".tmp")
    with open(fresh, "w", encoding="utf-8", newline="\n") as file:
        file.writelines([text] if isinstance(text, str) else text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)


def as_json(config: Mapping[str, object]) -> str:
    """A run's record as it stands in its file."""
    return json.dumps(config, ensure_ascii=False, indent=2, default=str) + "\n"


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the arguments and inputs in which two runs' records differ; ``old`` may be empty."""
    differing = []
    for part in ("arguments", "inputs"):
        before, after = old.get(part, {}), new[part]
        keys = sorted({*before, *after} - NOT_COMPARED)
        missing = object()
        differing += [key for key in keys if before.get(key, missing) != after.get(key, missing)]
    return differing if old else ["arguments (no record of them)"]


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tevatron_distill.formats.disk import AppendedFile, complete_lines, end_of_lines, replace_text, writing
from tevatron_distill.formats.jsonl import mapping, parse_json
from tevatron_distill.memory import peak_memory
from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

PACKAGES = (
    "tevatron-distill",
    "accelerate",
    "bm25s",
    "datasets",
    "faiss-cpu",
    "ir-datasets",
    "ir-measures",
    "numpy",
    "peft",
    "pyserini",
    "PyStemmer",
    "torch",
    "transformers",
)
# Flags that say what to do with old output, or who works, not what the new output is.
NOT_COMPARED = frozenset(
    {"overwrite_output_dir", "resume_from_checkpoint", "max_unparsed", "run_path", "permutation_path", "disable_tqdm"}
    | {"hub_token"}
    | {"base_url", "concurrency", "request_timeout", "max_retries", "max_cost", "plan", "tokens_per_second"}
    | {"price_per_million_input", "price_per_million_output"}
    | {"num_shards", "shard_index", "executor", "ray_address", "ray_actors"}
    | {"concurrency", "request_timeout", "max_retries", "price_per_million_input", "price_per_million_output"}
    | {"max_cost", "plan", "tokens_per_second"}
)


class ResumableOutput:
    """A text file that grows as ``path.partial`` and is renamed to ``path`` when the with-block ends well.

    The same command, started again after an interruption, finds the complete lines of the partial file and goes on
    behind them. ``<path>.run_config.json`` (while unfinished ``<path>.partial.run_config.json``) records arguments,
    versions, commit and the hashes of the inputs; a partial file that other arguments or inputs began is refused, and
    so is a second process that would write the same output. A partial file without a complete line is nobody's.

    Args:
        path: the finished file; its folder is made where it is missing.
        arguments: what the output depends on, name to JSON value.
        inputs: files and folders whose content the output depends on.
        overwrite: begin anew: a partial file is thrown away, a complete one is replaced (at the end, so that it is
            never lost to a run that fails).

    Attributes:
        partial: the file that grows.
        config: the run's record.
        num_done_lines: complete lines of an interrupted run, as of the begin of the with-block.

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
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.num_done_lines = 0
        self._overwrite = overwrite
        self._file: AppendedFile | None = None
        refuse_existing(self.path, overwrite)
        self.config = describe_run(arguments, inputs)
        self._size = self._find_done()

    @classmethod
    def of_record(cls, path: str | Path, config: Mapping[str, Any], overwrite: bool = False) -> ResumableOutput:
        """An output whose record was made before, by the processes that have done the work."""
        output = cls(path, config.get("arguments", {}), [], overwrite=True)
        output.config, output._overwrite = dict(config), overwrite
        refuse_existing(output.path, overwrite)
        return output

    def done_lines(self) -> Iterator[tuple[str, str]]:
        """Place and text of each complete line of an interrupted run; a torn last line is none.

        Raises:
            InputError: at a line that is corrupt.
        """
        return complete_lines(self.partial, self._size)

    def __enter__(self) -> ResumableOutput:
        file = AppendedFile(self.partial)
        try:
            refuse_existing(self.path, self._overwrite)
            if not file.is_there():
                raise InputError(f"{self.path}: another process has just finished this output")
            self._size = self._find_done()
            self.num_done_lines = sum(1 for _ in self.done_lines())
            file.truncate(self._size)
            replace_text(config_path(self.partial), as_json(self.config))
        except BaseException:
            self._leave(file)
            raise
        self._file = file
        if self.num_done_lines:
            logger.info("%s: going on behind %d finished lines", self.partial, self.num_done_lines)
        return self

    def append(self, lines: Iterable[str]) -> None:
        """Write complete lines (given without newlines) and see them on the disk before returning."""
        if self._file is None:
            raise RuntimeError("append is for the inside of the with-block")
        if data := "".join(f"{line}\n" for line in lines).encode():
            self._file.append(data)

    def written_lines(self) -> Iterator[tuple[str, str]]:
        """Place and text of each line that is there by now."""
        return complete_lines(self.partial, self.partial.stat().st_size)

    def clear(self) -> None:
        """Throw all lines away."""
        if self._file is None:
            raise RuntimeError("clear is for the inside of the with-block")
        self._file.truncate(0)
        self._size = self.num_done_lines = 0

    def add_report(self, report: Mapping[str, object]) -> None:
        """Put figures of the run (counts, times) under ``report`` into the run's record."""
        self.config["report"] = dict(report)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        if error is not None:
            self._leave(file)
            return
        try:
            replace_text(config_path(self.partial), as_json(self.config))
            with writing(self.path):
                os.replace(config_path(self.partial), config_path(self.path))
                os.replace(self.partial, self.path)
        finally:
            file.close()

    def _leave(self, file: AppendedFile) -> None:
        """Let unfinished output go; where nothing is done yet, nothing stays."""
        with suppress(OSError):
            if file.is_there() and not self.partial.stat().st_size:
                config_path(self.partial).unlink(missing_ok=True)
                self.partial.unlink()
        file.close()

    def _find_done(self) -> int:
        """Bytes of complete lines that this command goes on behind."""
        size = 0 if self._overwrite or not self.partial.exists() else end_of_lines(self.partial)
        if size:
            record = config_path(self.partial)
            if not record.exists():  # a run that died between its last two renames
                record = config_path(self.path)
            check_same_run(self.partial, read_record(record), self.config)
        return size


def check_same_run(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to go on with what another command has begun.

    Args:
        path: what is there, for the message.
        old: the record of the run that made it; empty where there is none.
        new: that of this run.

    Raises:
        InputError: naming the arguments and inputs that differ.
    """
    differing = differing_keys(old, json.loads(as_json(new)))
    if differing:
        raise InputError(
            f"{path}: unfinished output must go on with the arguments and inputs that began it; "
            f"these differ: {', '.join(differing)}; use the first command, another output path, "
            "or --overwrite_output_dir to begin anew"
        )


def read_record(path: Path) -> dict[str, Any]:
    """A run's record; empty where it is missing or spoilt."""
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


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
    with writing(path):
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
    config["report"] = {**(report or {}), **peak_memory()}
    path = Path(path)
    target = path / "run_config.json" if path.is_dir() else config_path(path)
    with writing(target):
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


def config_path(path: Path) -> Path:
    """Where the record of an output lies."""
    return path.with_name(path.name + ".run_config.json")


def as_json(config: Mapping[str, object]) -> str:
    """A run's record as it stands in its file."""
    return json.dumps(config, ensure_ascii=False, indent=2, default=str) + "\n"


def differing_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the arguments and inputs in which two runs' records differ; ``old`` may be empty."""
    differing = []
    for part in ("arguments", "inputs"):
        before, after = mapping(old.get(part)), mapping(new.get(part))
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

"""Files that are seen on the disk before work goes on, and are held by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tevatron_distill.schema import InputError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BLOCK_BYTES = 1 << 16


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what a disk refuses into one clear error.

    Raises:
        InputError: where the disk is full, the folder is read-only or not there, or a text holds half a surrogate pair.
    """
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        if error.errno in FULL:
            raise InputError(
                f"{path}: the disk has no room for it ({said}); free some and give the same command again: what is "
                "finished is kept"
            ) from error
        raise InputError(f"{path}: the output must be writable; got {said}; name another path") from error
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: what is written must be valid Unicode; got {error}") from error


class AppendedFile:
    """A file that grows by complete lines, and that no other process writes at the same time.

    Args:
        path: the file; it and its folder are made where they are missing.

    Raises:
        InputError: if another process is writing it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(path, "ab", buffering=0)  # noqa: SIM115  open as long as the lock is held
        lock(self._file, path)

    def is_there(self) -> bool:
        """Whether the file still stands under its name (another process may have renamed it)."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def append(self, data: bytes) -> None:
        """Write, and see it on the disk before returning."""
        with writing(self._path):
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())

    def truncate(self, size: int) -> None:
        """Throw away what stands behind ``size`` bytes."""
        with writing(self._path):
            self._file.truncate(size)

    def close(self) -> None:
        """Let the file go; the lock ends with it."""
        self._file.close()


def lock(file: BinaryIO, path: Path, shared: bool = False) -> None:
    """Hold an open file until it is closed or the process ends.

    Args:
        file: what is held.
        path: its name, for the message.
        shared: others may hold it so too.

    Raises:
        InputError: if another process holds it.
    """
    try:
        fcntl.flock(file.fileno(), (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise InputError(
            f"{path}: another process is writing this output; wait for it, or name another output path"
        ) from error
    except OSError as error:
        file.close()
        raise InputError(
            f"{path}: the file system must support locks (flock); got {error.strerror}; name a path on another one"
        ) from error


def end_of_lines(path: Path) -> int:
    """Bytes up to the last newline; behind them stands a line that was torn by a kill, or nothing."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def complete_lines(path: Path, size: int) -> Iterator[tuple[str, str]]:
    """``("file:line", text)`` of the lines in the first ``size`` bytes, without newlines.

    Raises:
        InputError: at a line that no run of ours has written: not UTF-8, blank, or with a NUL (a crash of the machine).
    """
    if not size:
        return
    read = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            read += len(line)
            yield f"{path}:{number}", checked_line(f"{path}:{number}", line[:-1])
            if read >= size:
                return


def checked_line(place: str, line: bytes) -> str:
    """A line's text.

    Raises:
        InputError: if it is corrupt.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise corrupt(place, f"bytes that are not UTF-8 ({error.reason})") from error
    if not text.strip() or "\0" in text:
        raise corrupt(place, "a NUL" if "\0" in text else "a blank line")
    return text


def corrupt(place: str, found: str) -> InputError:
    """The error of unfinished work that nobody can go on with."""
    return InputError(
        f"{place}: unfinished output must hold what a run has written; got {found}; the disk or another program has "
        "spoilt it: begin anew with --overwrite_output_dir, or cut the file in front of this line"
    )


def replace_text(path: Path, text: str | Iterable[str]) -> None:
    """Put a text, or its parts as they come, in a file's place by a rename; what stood there stays until then.

    Raises:
        InputError: if the disk refuses it.
    """
    fresh = path.with_name(path.name + ".tmp")
    try:
        with writing(path), open(fresh, "w", encoding="utf-8", newline="\n") as file:
            file.writelines([text] if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        with writing(path):
            os.replace(fresh, path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise

"""A log of every question and its answer, from which teaching can be replayed without a model."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from tevatron_distill.engines.request import Answer, Engine, Request
from tevatron_distill.formats.disk import AppendedFile
from tevatron_distill.formats.jsonl import Row, id_field, list_field, read_json_lines, text_field, write_json_line
from tevatron_distill.schema import InputError

IDENTIFYING = ("query_id", "docids", "kind", "model", "prompt_name", "prompt")

BEGINNING = b'{"query_id": '
BLOCK_BYTES = 1 << 16


class Recorder:
    """Appends ``{query_id, query, docids, positions, kind, model, prompt_name, prompt, response}`` lines to a file.

    A question stands in the file once, however often it is asked. A last line that was torn by a killed run is cut
    off, so that the same command goes on where that run stopped.

    Args:
        path: JSON lines; `RecordedEngine` reads them.

    Raises:
        InputError: if the file is there and holds something else, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self._written: set[bytes] = set()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                _cut_torn_line(path)
                self._written = {_digest(_checked(place, row)) for place, row in read_json_lines(path)}
            self._file = AppendedFile(path)
        except OSError as error:
            raise InputError(f"{path}: the log must be writable; got {error.strerror or error}") from error

    def write(self, engine: Engine, answered: Iterable[tuple[Request, Answer]]) -> None:
        """Append what is not in the file yet, and see it on the disk before returning."""
        lines = []
        for request, answer in answered:
            row = _row(engine, request, answer)
            digest = _digest(row)
            if digest not in self._written:
                self._written.add(digest)
                lines.append(write_json_line(row) + "\n")
        if lines:
            self._file.append("".join(lines).encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _cut_torn_line(path: Path) -> None:
    with open(path, "rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        found = -1
        while end > 0 and found < 0:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            end = start + found + 1 if found >= 0 else start
        if end == size:
            return
        file.seek(end)
        if not BEGINNING.startswith(torn := file.read(len(BEGINNING))):
            raise InputError(f"{path}: this is no log of questions; its last line begins {torn!r}; name another file")
        file.truncate(end)


def _row(engine: Engine, request: Request, answer: Answer) -> Row:
    candidates = request.candidates
    return {
        "query_id": candidates.query_id,
        "query": candidates.query,
        "docids": [candidates.passages[position].docid for position in request.positions],
        "positions": request.positions,
        "kind": request.prompt.answer,
        "model": engine.model_name,
        "prompt_name": request.prompt.name,
        "prompt": engine.key_text(request),
        "response": answer,
    }


def _checked(place: str, row: Row) -> Row:
    id_field(place, row, "query_id")
    list_field(place, row, "docids")
    for key in ("kind", "model", "prompt_name", "prompt"):
        text_field(place, row, key)
    return row


def _digest(row: Row) -> bytes:
    return hashlib.sha256(json.dumps([row[key] for key in IDENTIFYING]).encode()).digest()

"""A log of every question and its answer, from which teaching can be replayed without a model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tevatron_distill.engines.request import Answer, Engine, Request
from tevatron_distill.formats.jsonl import id_field, list_field, read_json_lines, text_field, write_json_line
from tevatron_distill.schema import InputError

Question = tuple[str, str, str, tuple[str, ...]]
"""Model, prompt, query_id and the docids shown."""


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
        self._path = Path(path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "ab+")  # noqa: SIM115  open as long as the recorder is
            self._cut_torn_line()
        except OSError as error:
            raise InputError(
                f"--record_path {path}: the log must be writable; got {error.strerror or error}"
            ) from error
        self._written = {_question_of_row(place, row) for place, row in read_json_lines(self._path)}

    def write(self, engine: Engine, answered: Iterable[tuple[Request, Answer]]) -> None:
        """Append what is not in the file yet, and see it on the disk before returning."""
        lines = []
        for request, answer in answered:
            question = _question(engine, request)
            if question not in self._written:
                self._written.add(question)
                lines.append(write_json_line(_row(engine, request, answer)) + "\n")
        if lines:
            self._file.write("".join(lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cut_torn_line(self) -> None:
        size = self._file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - (1 << 16))
            self._file.seek(start)
            newline = self._file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            self._file.truncate(end)


def _question(engine: Engine, request: Request) -> Question:
    candidates = request.candidates
    docids = tuple(candidates.passages[position].docid for position in request.positions)
    return engine.model_name, request.prompt.name, candidates.query_id, docids


def _question_of_row(place: str, row: dict[str, object]) -> Question:
    docids = tuple(str(docid) for docid in list_field(place, row, "docids"))
    model, prompt = text_field(place, row, "model"), text_field(place, row, "prompt_name")
    return model, prompt, id_field(place, row, "query_id"), docids


def _row(engine: Engine, request: Request, answer: Answer) -> dict[str, object]:
    model, prompt, query_id, docids = _question(engine, request)
    return {
        "query_id": query_id,
        "query": request.candidates.query,
        "docids": docids,
        "positions": request.positions,
        "kind": request.prompt.answer,
        "model": model,
        "prompt_name": prompt,
        "prompt": engine.key_text(request),
        "response": answer,
    }

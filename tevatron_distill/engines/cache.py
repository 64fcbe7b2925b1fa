"""The answer cache: every answer of an engine is kept in SQLite, so that nothing is asked twice."""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tevatron_distill.engines.recorder import Recorder
from tevatron_distill.engines.request import Answer, Engine, PartlyAnsweredError, Request
from tevatron_distill.formats.disk import writing
from tevatron_distill.formats.jsonl import number, parse_json
from tevatron_distill.progress import progress
from tevatron_distill.schema import InputError

NUM_VARIABLES = 500  # in one SQL statement; old SQLites take 999


class AnswerCache:
    """Answers by the SHA-256 of who answers, for which query, and what is asked.

    Batches are formed from a round's requests alone, and the new answers of a batch are stored in one transaction.
    A run that was killed finds whole batches or nothing, forms the same batches again, and so ends with the same bytes.
    So do several processes that share the file: an answer is known by its query_id too, and a query has one process.

    Args:
        path: the SQLite file; it and its folder are made where they are missing.
        record_path: a log of all questions and answers, also of those that the cache knows; None for no log.

    Attributes:
        num_asked: requests that the engine answered.
        num_cached: requests that the cache answered.

    Raises:
        InputError: if the file cannot be opened or is no SQLite file.
    """

    def __init__(self, path: str | Path, record_path: str | Path | None = None) -> None:
        self.num_asked = 0
        self.num_cached = 0
        self._path = path
        with writing(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = sqlite3.connect(path, timeout=60.0, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")  # several processes read while one writes
            self._database.execute("PRAGMA synchronous = NORMAL")
            with self._database:
                self._database.execute(
                    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"
                )
        except sqlite3.Error as error:
            raise InputError(
                f"{path}: the answer cache must be an SQLite file; got {error}; name another --cache_path"
            ) from error
        self._recorder = None if record_path is None else Recorder(record_path)

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()
        if self._recorder is not None:
            self._recorder.close()

    def ask(self, engine: Engine, requests: Sequence[Request]) -> list[Answer]:
        """Answer a round of requests, from the file where it knows them and else from the engine.

        Returns:
            The engine's answer to each request; equal requests get equal answers.

        Raises:
            InputError: if the engine answers with NaN or infinity.
        """
        keys = [_key(engine.identity, request.candidates.query_id, engine.key_text(request)) for request in requests]
        distinct: dict[bytes, Request] = {}
        for key, request in zip(keys, requests, strict=True):
            distinct.setdefault(key, request)
        ordered = list(distinct)
        known: dict[bytes, Answer] = {}
        batches = engine.batches(list(distinct.values()))
        for batch in progress(batches, desc="batches", unit="batch", leave=False, hidden=len(batches) < 2):
            batch_keys = [ordered[index] for index in batch]
            known.update(self._look_up(batch_keys))
            missing = [key for key in batch_keys if key not in known]
            self.num_cached += len(batch_keys) - len(missing)
            if missing:
                answers = self._answers(engine, missing, distinct)
                self._store(zip(missing, answers, strict=True), engine)
                known.update(zip(missing, answers, strict=True))
                self.num_asked += len(missing)
            if self._recorder is not None:
                self._recorder.write(engine, [(distinct[key], known[key]) for key in batch_keys])
        return [known[key] for key in keys]

    def _answers(self, engine: Engine, keys: Sequence[bytes], requests: Mapping[bytes, Request]) -> list[Answer]:
        """Ask the engine; what it answers before it ends early is stored."""
        try:
            return engine.answer([requests[key] for key in keys])
        except PartlyAnsweredError as partly:
            self._store([(keys[place], answer) for place, answer in sorted(partly.answers.items())], engine)
            self.num_asked += len(partly.answers)
            raise partly.cause from None

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        found: dict[bytes, Answer] = {}
        with self._using():
            for start in range(0, len(keys), NUM_VARIABLES):
                some = keys[start : start + NUM_VARIABLES]
                marks = ", ".join("?" * len(some))
                rows = self._database.execute(f"SELECT key, answer FROM answers WHERE key IN ({marks})", some)
                found.update((key, self._read(answer)) for key, answer in rows)
        return found

    def _store(self, answers: Iterable[tuple[bytes, Answer]], engine: Engine) -> None:
        rows = []
        for key, answer in answers:
            if not isinstance(answer, str) and not all(math.isfinite(number) for number in answer):
                raise InputError(
                    f"{engine.model_name}: an answer must be finite numbers; got {list(answer)}; try --dtype float32"
                )
            rows.append((key, json.dumps(answer)))
        with self._using(), self._database:
            self._database.executemany("INSERT OR IGNORE INTO answers (key, answer) VALUES (?, ?)", rows)

    def _read(self, stored: object) -> Answer:
        try:
            answer = parse_json(str(stored))
            return answer if isinstance(answer, str) else tuple(number("", one, "an answer") for one in answer)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"{self._path}: a cached answer must be a text or numbers; got {str(stored)[:60]!r}; another program "
                "has spoilt the file: remove it"
            ) from error

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Turn what SQLite or the disk refuses into one clear error."""
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(
                f"{self._path}: the answer cache cannot be read or written ({error}); where the disk has no room, free "
                "some and give the same command again: what is answered is kept; a spoilt file must be removed"
            ) from error


def _key(identity: str, query_id: str, key_text: str) -> bytes:
    return hashlib.sha256(json.dumps([identity, query_id, key_text]).encode()).digest()

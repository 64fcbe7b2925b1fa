"""Answers from a log: RankLLM's logs of prompts and responses, its results with their history, or our own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tevatron_distill.engines.request import Answer, Request, check_kind
from tevatron_distill.formats.jsonl import (
    Row,
    expand_pattern,
    id_field,
    list_field,
    number,
    read_json_lines,
    text_field,
)
from tevatron_distill.formats.output import hash_path
from tevatron_distill.prompts import Prompt
from tevatron_distill.schema import Candidates, InputError

REQUESTS_PER_BATCH = 1024
_BETWEEN = re.compile(r"[\s,\[\]]*(?=[^\s,\[\]])")
_QUERY = re.compile(r"relevance to (?:the )?(?:search )?query:\s*(.+?)\s*(?:\n\s*\n|\n\s*\[|\Z)", re.DOTALL)

Question = tuple[str, str, tuple[str, ...]]
"""Prompt, query_id and the docids shown."""


@dataclass
class _Log:
    """What the files hold: our own rows by their question, RankLLM's by their query, in the order asked."""

    questions: dict[Question, tuple[str, Answer]] = field(default_factory=dict)
    by_id: dict[str, list[str]] = field(default_factory=dict)
    by_text: dict[str, list[str]] = field(default_factory=dict)
    loose: dict[str, set[str]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)


class RecordedEngine:
    """Gives the answers that a model gave before, so that teaching can be tested, audited and done again without it.

    Our own logs (of ``--record_path``) know which passages a question showed, and are read by that. RankLLM's know
    only the query, in the words of the prompt: the first question about it gets its first answer, and so on, which is
    right for a teacher that asks as theirs did (windows from the back). Query texts are compared without case, spaces
    and what cleaning may have changed.

    Args:
        recorded_path: a log, or several by a pattern with ``*``, read in the order of their names.

    Raises:
        InputError: if a file cannot be read as one of these logs.
    """

    def __init__(self, recorded_path: str) -> None:
        self.model_name = recorded_path
        self.num_tokens = 0
        self.num_shortened = 0
        self._paths = expand_pattern(recorded_path)
        self._log = _Log()
        for path in self._paths:
            for place, row in _read_rows(path):
                _add_row(self._log, place, row)
        if not self._log.kinds:
            raise InputError(f"{recorded_path}: a log must hold answers; found none")
        self.answers = frozenset(self._log.kinds)
        self._num_asked: dict[str, int] = {}
        self._numbers: dict[Request, int] = {}
        self._asker_of: dict[str, str] = {}

    @cached_property
    def identity(self) -> str:
        """The content of the logs."""
        return f"recorded {' '.join(hash_path(path) for path in self._paths)}"

    def prepare(self, candidates: Sequence[Candidates], prompt: Prompt, num_passages: int) -> None:
        """Refuse queries that the log does not know, all at once.

        Raises:
            InputError: if there are some, or the log holds no answers of this kind, or it cannot tell two queries
                apart.
        """
        check_kind(f"recorded ({self.model_name})", self.answers, prompt)
        known = {query_id for _, query_id, _ in self._log.questions}
        unknown = [entry for entry in candidates if entry.query_id not in known and self._responses(entry) is None]
        if unknown:
            raise InputError(
                f"{self.model_name}: no answer for {len(unknown)} of {len(candidates)} queries, first for query_id "
                f'"{unknown[0].query_id}" ({unknown[0].query[:60]!r}); the log must be of these queries'
            )
        for entry in candidates:
            text = None if entry.query_id in known else self._text(entry)
            if text is not None and self._asker_of.setdefault(text, entry.query_id) != entry.query_id:
                raise InputError(
                    f'{self.model_name}: query_ids "{self._asker_of[text]}" and "{entry.query_id}" ask the same '
                    "words, and the log knows queries by their words alone; drop one of the queries"
                )

    def key_text(self, request: Request) -> str:
        """The query, the passages shown, and how many questions about the query came before."""
        return json.dumps([*_question(request), self._number(request)])

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """The requests as they come."""
        self._numbers = {request: self._number(request) for request in requests}
        indices = list(range(len(requests)))
        return [indices[start : start + REQUESTS_PER_BATCH] for start in range(0, len(indices), REQUESTS_PER_BATCH)]

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """What the log holds for each request.

        Raises:
            InputError: if it holds nothing, or no more answers for a query, or one of another kind.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        check_kind(f"recorded ({self.model_name})", self.answers, request.prompt)
        entry = request.candidates
        kind, answer = self._log.questions.get(_question(request), ("", ""))
        if kind:
            if kind != request.prompt.answer:
                raise InputError(
                    f'{self.model_name}: query_id "{entry.query_id}" was asked for {kind}, now for '
                    f"{request.prompt.answer}; ask as it was recorded"
                )
            return answer
        responses = self._responses(entry)
        number = self._number(request)
        if responses is None or number >= len(responses):
            held = "no answer to this question" if responses is None else f"only {len(responses)} answers"
            raise InputError(
                f'{self.model_name}: {held} for query_id "{entry.query_id}" ({entry.query[:60]!r}); ask as it was '
                "recorded (prompt, depth, sort, windows, passes)"
            )
        return responses[number]

    def _number(self, request: Request) -> int:
        """How many questions about the query came before; numbered when first seen, cached answers included."""
        if request not in self._numbers:
            query_id = request.candidates.query_id
            self._numbers[request] = self._num_asked.get(query_id, 0)
            self._num_asked[query_id] = self._numbers[request] + 1
        return self._numbers[request]

    def _responses(self, entry: Candidates) -> list[str] | None:
        if entry.query_id in self._log.by_id:
            return self._log.by_id[entry.query_id]
        text = self._text(entry)
        return None if text is None else self._log.by_text[text]

    def _text(self, entry: Candidates) -> str | None:
        """The query's text as the log has it, where the log knows it by that alone."""
        plain, bare = _plain(entry.query), _bare(entry.query)
        if entry.query_id in self._log.by_id:
            return None
        if plain in self._log.by_text:
            return plain
        similar = self._log.loose.get(bare, set()) if bare else set()
        return next(iter(similar)) if len(similar) == 1 else None


def _read_rows(path: str) -> Iterator[tuple[str, Row]]:
    """Objects of JSON lines, of a JSON array, or of an array without its brackets."""
    if _is_json_lines(path):
        yield from read_json_lines(path)
        return
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the log must be readable UTF-8 text; got {error}") from error
    decoder = json.JSONDecoder()
    place = 0
    while match := _BETWEEN.match(text, place):
        line = f"{path}:{text.count(chr(10), 0, match.end()) + 1}"
        try:
            row, place = decoder.raw_decode(text, match.end())
        except json.JSONDecodeError as error:
            raise InputError(f"{line}: the log must hold JSON objects; got {error}; is it torn off?") from error
        if not isinstance(row, dict):
            raise InputError(f"{line}: the log must hold JSON objects; got {row!r}")
        yield line, row


def _is_json_lines(path: str) -> bool:
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = next((line.strip() for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the log must be readable UTF-8 text; got {error}") from error
    return len(first) > 1 and first.startswith("{") and first.endswith("}")


def _add_row(log: _Log, place: str, row: Row) -> None:
    if "docids" in row:
        _add_own(log, place, row)
    elif "invocations_history" in row:
        query = row.get("query")
        about = query if isinstance(query, dict) else {"text": query}
        for call in list_field(place, row, "invocations_history"):
            if not isinstance(call, dict):
                raise InputError(f"{place}: an invocation must be an object; got {call!r}")
            response = text_field(place, call, "response", blank=True)
            if about.get("qid") is not None:
                log.by_id.setdefault(id_field(place, about, "qid"), []).append(response)
                log.kinds.add("text")
            else:
                _add_response(log, text_field(place, about, "text"), response)
    elif "prompt" in row and "response" in row:
        _add_response(log, _query_in(place, row["prompt"]), text_field(place, row, "response", blank=True))
    else:
        raise InputError(
            f"{place}: a log's row has prompt and response (RankLLM's), invocations_history (its results), or docids "
            f"and response (ours); got {', '.join(row)}"
        )


def _add_own(log: _Log, place: str, row: Row) -> None:
    docids = tuple(str(docid) for docid in list_field(place, row, "docids"))
    key = text_field(place, row, "prompt_name"), id_field(place, row, "query_id"), docids
    kind, response = text_field(place, row, "kind"), row.get("response")
    answer: Answer
    if kind == "text":
        answer = text_field(place, row, "response", blank=True)
    else:
        values = list_field(place, row, "response")
        answer = tuple(number(place, value, "an answer") for value in values)
    if log.questions.setdefault(key, (kind, answer)) != (kind, answer):
        raise InputError(
            f'{place}: query_id "{key[1]}" was asked this before and got another answer; got {response!r}; '
            "replay the log of one model at a time"
        )
    log.kinds.add(kind)


def _add_response(log: _Log, query: str, response: str) -> None:
    plain = _plain(query)
    log.by_text.setdefault(plain, []).append(response)
    log.loose.setdefault(_bare(query), set()).add(plain)
    log.kinds.add("text")


def _query_in(place: str, prompt: Any) -> str:
    if isinstance(prompt, list):  # messages of a chat
        prompt = "\n\n".join(str(message.get("content", "")) for message in prompt if isinstance(message, dict))
    match = _QUERY.search(prompt) if isinstance(prompt, str) else None
    if match is None:
        raise InputError(
            f'{place}: the prompt must name its query behind "relevance to the search query:"; got {str(prompt)[:60]!r}'
        )
    return match[1].removesuffix(".")


def _plain(text: str) -> str:
    """Text without what is easily lost: case, spaces, a full stop at the end."""
    return " ".join(text.split()).removesuffix(".").rstrip().casefold()


def _bare(text: str) -> str:
    """ASCII letters and digits alone, which no cleaning changes."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _question(request: Request) -> Question:
    candidates = request.candidates
    docids = tuple(candidates.passages[position].docid for position in request.positions)
    return request.prompt.name, candidates.query_id, docids

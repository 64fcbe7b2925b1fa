"""Reads logs of questions and answers: RankLLM's prompts and responses, its results with their history, and ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tevatron_distill.engines.request import Answer
from tevatron_distill.formats.jsonl import Row, id_field, is_deep, list_field, number, read_json_lines, text_field
from tevatron_distill.schema import InputError

_BETWEEN = re.compile(r"[\s,\[\]]*(?=[^\s,\[\]])")
_BEFORE_QUERY = re.compile(r"relevance to (?:the )?(?:search )?query:\s*")
_BEHIND_QUERY = re.compile(r"\n\s*[\n\[]|\Z")

Question = tuple[str, str, str, tuple[str, ...]]
"""Prompt, kind of answer, query_id and the docids shown."""


@dataclass
class Log:
    """What the files hold: our own rows by their question, RankLLM's by their query, in the order asked."""

    questions: dict[Question, Answer] = field(default_factory=dict)
    by_id: dict[str, list[str]] = field(default_factory=dict)
    by_text: dict[str, list[str]] = field(default_factory=dict)
    loose: dict[str, set[str]] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)

    def responses(self, query_id: str, query: str) -> list[str] | None:
        """RankLLM's answers about a query, in the order asked; None where it has none."""
        if query_id in self.by_id:
            return self.by_id[query_id]
        words = self.words(query)
        return None if words is None else self.by_text[words]

    def words(self, query: str) -> str | None:
        """A query's text as the log has it, where it is known by that."""
        plain, bare = _plain(query), _bare(query)
        if plain in self.by_text:
            return plain
        similar = self.loose.get(bare, set()) if bare else set()
        return next(iter(similar)) if len(similar) == 1 else None


def read_logs(paths: Sequence[str]) -> Log:
    """Read several logs, one behind the other.

    Raises:
        InputError: if a file cannot be read, or a row is of none of these kinds.
    """
    log = Log()
    for path in paths:
        for place, row in _read_rows(path):
            _add_row(log, place, row)
    return log


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
    end, number_of_line = 0, 1
    while match := _BETWEEN.match(text, end):
        number_of_line += text.count("\n", end, match.end())
        line = f"{path}:{number_of_line}"
        try:
            row, end = decoder.raw_decode(text, match.end())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{line}: the log must hold JSON objects; got {error}; is it torn off?") from error
        if not isinstance(row, dict) or is_deep(row):
            raise InputError(f"{line}: the log must hold JSON objects; got {text[match.end() :][:60]!r}")
        yield line, row
        number_of_line += text.count("\n", match.end(), end)


def _is_json_lines(path: str) -> bool:
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = next((line.strip() for line in file if line.strip()), "")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the log must be readable UTF-8 text; got {error}") from error
    return len(first) > 1 and first.startswith("{") and first.endswith("}")


def _add_row(log: Log, place: str, row: Row) -> None:
    if "docids" in row:
        _add_own(log, place, row)
    elif "invocations_history" in row:
        query = row.get("query")
        about = query if isinstance(query, dict) else {"text": query}
        for call in list_field(place, row, "invocations_history"):
            if not isinstance(call, dict):
                raise InputError(f"{place}: an invocation must be an object; got {call!r}")
            response = _response(place, call)
            if about.get("qid") is not None:
                log.by_id.setdefault(id_field(place, about, "qid"), []).append(response)
                log.kinds.add("text")
            else:
                _add_response(log, text_field(place, about, "text"), response)
    elif "query_id" in row and "response" in row:
        log.by_id.setdefault(id_field(place, row, "query_id"), []).append(_response(place, row))
        log.kinds.add("text")
    elif "prompt" in row and "response" in row:
        _add_response(log, _query_in(place, row["prompt"]), _response(place, row))
    else:
        raise InputError(
            f"{place}: a log's row has prompt and response (RankLLM's), invocations_history (its results), or query_id "
            f"and response (ours); got {', '.join(row)}"
        )


def _add_own(log: Log, place: str, row: Row) -> None:
    docids = tuple(str(docid) for docid in list_field(place, row, "docids"))
    name, kind = text_field(place, row, "prompt_name"), text_field(place, row, "kind")
    question = name, kind, id_field(place, row, "query_id"), docids
    answer: Answer
    if kind == "text" or (kind == "choice" and isinstance(row.get("response"), str)):
        answer = _response(place, row)
    else:
        values = list_field(place, row, "response")
        answer = tuple(number(place, value, "an answer") for value in values)
    if log.questions.setdefault(question, answer) != answer:
        raise InputError(
            f'{place}: query_id "{question[2]}" was asked this before and got another answer; got {answer!r}; '
            "replay the log of one model and one teacher at a time"
        )
    log.kinds.add(kind)


def _add_response(log: Log, query: str, response: str) -> None:
    plain = _plain(query)
    log.by_text.setdefault(plain, []).append(response)
    log.loose.setdefault(_bare(query), set()).add(plain)
    log.kinds.add("text")


def _response(place: str, row: Row) -> str:
    if row.get("response") is None:
        raise InputError(f"{place}: response must be text; got none")
    return text_field(place, row, "response", blank=True)


def _query_in(place: str, prompt: Any) -> str:
    if isinstance(prompt, list):  # messages of a chat
        prompt = "\n\n".join(str(message.get("content", "")) for message in prompt if isinstance(message, dict))
    before = _BEFORE_QUERY.search(prompt) if isinstance(prompt, str) else None
    behind = before and _BEHIND_QUERY.search(prompt, before.end())
    query = prompt[before.end() : behind.start()].strip() if before and behind else ""
    if not query:
        raise InputError(
            f'{place}: the prompt must name its query behind "relevance to the search query:"; got {str(prompt)[:60]!r}'
        )
    return str(query).removesuffix(".")


def _plain(text: str) -> str:
    """Text without what is easily lost: case, spaces, a full stop at the end."""
    return " ".join(text.split()).removesuffix(".").rstrip().casefold()


def _bare(text: str) -> str:
    """ASCII letters and digits alone, which no cleaning changes."""
    return re.sub(r"[^a-z0-9]", "", text.lower())

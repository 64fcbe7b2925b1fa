"""JSON rows with their places, and the checks on their fields that every dialect shares."""

from __future__ import annotations

import glob
import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tevatron_distill.formats.reading import Row as Row
from tevatron_distill.formats.reading import Tally
from tevatron_distill.schema import InputError, Passage

MAX_DEPTH = 100
"""So deep may JSON be nested: what is deeper than Python's own limit could be read, but not shown or written."""


def expand_pattern(pattern: str) -> list[str]:
    """The files that a pattern names, sorted; a name without ``*`` stands for itself.

    Raises:
        InputError: if no file matches.
    """
    if "*" not in pattern:
        return [pattern]
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise InputError(f"{pattern}: no file matches the pattern; check the path")
    return paths


def read_lines(path: str | Path) -> Iterator[tuple[str, str]]:
    """Yield ``("file:line", text)`` for every line that is not blank, without its newline; ``.gz`` is unpacked.

    Raises:
        InputError: if the file cannot be opened or is not UTF-8.
    """
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}:{number}", line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: the file must be readable; got {_cause(error)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the file must be UTF-8 text; got {error}") from error


def read_json_lines(path: str | Path, tally: Tally | None = None) -> Iterator[tuple[str, Row]]:
    """Yield ``("file:line", object)`` for every line of a JSON-lines file; blank lines are passed over.

    Raises:
        InputError: if the file cannot be read, a line is not JSON, or a line is not an object; a tally may leave
            such lines out.
    """
    for place, line in read_lines(path):
        yield from _row(place, _parse_line, line, tally)


def read_json_rows(path: str | Path, tally: Tally | None = None) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a JSON-lines file, or of a file that holds one JSON array (places are then ``file[n]``).

    Raises:
        InputError: as `read_json_lines`.
    """
    if _first_character(path) != "[":
        yield from read_json_lines(path, tally)
        return
    for number, row in enumerate(read_json(path)):
        yield from _row(f"{path}[{number}]", _object, row, tally)


def read_json(path: str | Path) -> Any:
    """The value of a file that is one JSON text.

    Raises:
        InputError: if the file cannot be read or is not JSON.
    """
    try:
        with _open_text(path) as file:
            return parse_json(file.read())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: the file must be readable; got {_cause(error)}") from error
    except ValueError as error:  # also UnicodeDecodeError
        raise InputError(f"{path}: the file must be one JSON text; got {error}") from error


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: if it is none, is nested deeper than `MAX_DEPTH`, or holds an integer of thousands of digits.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"values nested deeper than {MAX_DEPTH}") from error
    brackets = ("]", "}") if isinstance(text, str) else (b"]", b"}")
    if sum(map(text.count, brackets)) > MAX_DEPTH and is_deep(value):  # type: ignore[arg-type]
        raise ValueError(f"values nested deeper than {MAX_DEPTH}")
    return value


def is_deep(value: object) -> bool:
    """Whether a value of JSON is nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def write_json_line(row: Mapping[str, object]) -> str:
    """One row as a line of JSON, without the newline; text stays readable, NaN is refused.

    >>> write_json_line({"query": "größe"})
    '{"query": "größe"}'
    """
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def id_field(place: str, row: Mapping[str, Any], key: str) -> str:
    """A query_id or docid, as a string; numbers are taken as their digits.

    Raises:
        InputError: if the key is missing, or its value is blank, or neither string nor integer.
    """
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{place}: {key} must be a string that is not empty; got {_shown(value)}")
    return _unicode(place, value, key)


def text_field(place: str, row: Mapping[str, Any], key: str, *, blank: bool = False) -> str:
    """A text. With ``blank`` a missing, null or empty one is the empty string, else it is an error.

    Raises:
        InputError: if the value is not text, is blank without permission, or holds half a surrogate pair.
    """
    value = row.get(key)
    if blank and value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {key} must be text; got {_shown(value)}")
    if not blank and not value.strip():
        raise InputError(f"{place}: {key} is empty; give it a text or drop the row")
    return _unicode(place, value, key)


def mapping(value: object) -> Mapping[str, Any]:
    """The value where it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}


def finite(value: object) -> float | None:
    """A finite number as a float; None for anything else.

    >>> finite(2), finite(True), finite("2"), finite(10**400)
    (2.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond the floats
        return None


def number(place: str, value: object, what: str) -> float:
    """A finite number.

    Raises:
        InputError: if the value is not a number, or NaN, or infinite.
    """
    found = finite(value)
    if found is None:
        raise InputError(f"{place}: {what} must be a finite number; got {_shown(value)}")
    return found


def list_field(place: str, row: Mapping[str, Any], key: str) -> Sequence[Any]:
    """A list.

    Raises:
        InputError: if the key is missing or its value is no list.
    """
    value = row.get(key)
    if not isinstance(value, list):
        raise InputError(f"{place}: {key} must be a list; got {_shown(value)}")
    return value


def parse_passage(place: str, row: object, *, docid: str | None = None) -> Passage:
    """A passage from ``{"docid", "title"?, "text"}``.

    Args:
        place: where the row stands, for messages.
        row: the object; a missing or null title is empty.
        docid: name of a passage whose row has none; without it a docid is demanded.

    Raises:
        InputError: if the row is no object, has no docid, or has neither title nor text.
    """
    if not isinstance(row, Mapping):
        raise InputError(f"{place}: a passage must be an object with docid and text; got {_shown(row)}")
    name = docid if docid is not None and row.get("docid") is None else id_field(place, row, "docid")
    title = text_field(place, row, "title", blank=True)
    text = text_field(place, row, "text", blank=bool(title.strip()))
    return Passage(docid=name, text=text, title=title)


def check_distinct(place: str, passages: Sequence[Passage], query_id: str) -> None:
    """Refuse a passage list that is empty or names a docid twice.

    Raises:
        InputError: in both cases.
    """
    if not passages:
        raise InputError(f'{place}: a query needs candidates; query_id "{query_id}" has none; drop the query')
    seen: set[str] = set()
    for passage in passages:
        if passage.docid in seen:
            raise InputError(f'{place}: docid "{passage.docid}" stands twice under query_id "{query_id}"; drop one')
        seen.add(passage.docid)


def _open_text(path: str | Path) -> TextIO:
    if str(path).endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="\n")
    return open(path, encoding="utf-8-sig", newline="\n")


def _cause(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _row(place: str, parse: Callable[[str, Any], Row], value: object, tally: Tally | None) -> Iterator[tuple[str, Row]]:
    row = parse(place, value) if tally is None else tally.attempt(place, parse, place, value)
    if row is not None:
        yield place, row
    elif tally is not None:
        tally.num_rows += 1


def _parse_line(place: str, line: str) -> Row:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise InputError(f"{place}: each line must be one JSON object; got {line[:60]!r} ({error})") from error
    return _object(place, row)


def _first_character(path: str | Path) -> str:
    for _, line in read_lines(path):
        return line.lstrip()[:1]
    return ""


def _object(place: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise InputError(f"{place}: each row must be a JSON object; got {_shown(row)}")
    return row


def _unicode(place: str, value: str, key: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{place}: {key} must be valid Unicode; got {error}") from error
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

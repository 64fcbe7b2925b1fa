"""RankLLM's training rows: a prompt that shows numbered passages, and a teacher's ``[2] > [1]``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from tevatron_distill.formats.collections import is_blank
from tevatron_distill.formats.flagembedding import row_name
from tevatron_distill.formats.jsonl import check_distinct, id_field, list_field, text_field
from tevatron_distill.formats.reading import ReadOptions, Row, Tally
from tevatron_distill.permutation import complete_permutation, letters_of, place_of
from tevatron_distill.schema import Candidates, Group, InputError, Passage

MARKER = re.compile(r"^\[(\d+|[A-Z]{1,2})\](?:[ \t]|$)", re.MULTILINE)
NUM_PASSAGES = re.compile(r"\b(\d+) passages\b")
QUERY = re.compile(r"\brelevan\w+ to (?:the )?(?:search )?query:(.*)", re.DOTALL | re.IGNORECASE)
TAIL_LINE = re.compile(r"\n[^\S\n]*(Search Query:|Rank the )")
TITLED = re.compile(r"Title: (.*?) Content: (.*)", re.DOTALL)


class Window(NamedTuple):
    """What a list prompt shows.

    Attributes:
        query: its query.
        texts: the passages in the order shown.
        letters: identifiers are letters, not numbers.
        doubtful: some passage holds a line that looks like the next identifier.
    """

    query: str
    texts: tuple[str, ...]
    letters: bool
    doubtful: bool


def parse_row(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Group]:
    """The group of ``{"id", "conversations": [system, human, gpt]}``; a turn's place is its role.

    Passages that the order does not name are tied behind the others; identifiers that it repeats or that are not in
    the prompt are left out; each such row is noted. The same id again (another sample of the query) becomes
    ``id#2``.

    Raises:
        InputError: if a turn is missing, the prompt is no list of passages, or the order names none of them.
    """
    turns = _turns(place, row, 3)
    candidates, letters = _read_window(place, row, turns[1], tally)
    order = parse_order(place, turns[2], len(candidates.passages), letters, tally)
    kept = [position for position, passage in enumerate(candidates.passages) if not is_blank(passage)]
    check_distinct(place, [candidates.passages[position] for position in kept], candidates.query_id)
    group = Group(
        query_id=candidates.query_id,
        query=candidates.query,
        passages=candidates.passages,
        permutation=complete_permutation(order, len(candidates.passages)),
        num_ranked=len(order),
        teacher={"name": "conversations"},
    )
    for _ in range(len(candidates.passages) - len(kept)):
        tally.note("passages without text are left out", place)
    return [group if len(kept) == len(candidates.passages) else group.select(kept)]


def parse_candidates(place: str, row: Row, options: ReadOptions, tally: Tally) -> Sequence[Candidates]:
    """The passages that a prompt shows, to be taught or ranked anew; the teacher's turn is not used."""
    candidates, _ = _read_window(place, row, _turns(place, row, 2)[1], tally)
    kept = tuple(passage for passage in candidates.passages if not is_blank(passage))
    check_distinct(place, kept, candidates.query_id)
    return [Candidates(candidates.query_id, candidates.query, kept, tuple(-float(n) for n in range(len(kept))))]


def read_prompt(place: str, text: str) -> Window:
    """The query and passages of a prompt as of RankGPT, RankVicuna and RankZephyr.

    A passage begins with ``[n] `` at the start of a line and may hold further lines. Identifiers are looked for in
    their order, so that a line such as ``[3] …`` inside the fifth passage is its text; where another reading is
    possible too, the first one is taken and called doubtful.

    Raises:
        InputError: if there is no query, an identifier is missing, or the words behind the passages are.
    """
    markers = list(MARKER.finditer(text))
    letters = bool(markers) and markers[0][1] == "A"
    numbered = [(_number(match[1]), match) for match in markers if match[1].isdecimal() != letters]
    head = text[: numbered[0][1].start()] if numbered else text
    announced = NUM_PASSAGES.search(head)
    size = int(announced[1][:9]) if announced else len(numbered)
    chain = _chain(numbered, size)
    if not chain or (announced and len(chain) < size):
        missing = letters_of(len(chain)) if letters else str(len(chain) + 1)
        raise InputError(
            f"{place}: the prompt must show its {size} passages as lines that begin with [1], [2], … or [A], [B], …; "
            f"[{missing}] is missing"
        )
    head_query = QUERY.search(text[: chain[0].start()])
    end, tail_query = _tail(place, text, chain[-1].end(), head_query[1] if head_query else None)
    bounds = [*(match.start() for match in chain[1:]), end]
    query = _bare(head_query[1]) if head_query else tail_query
    if not query:
        raise InputError(f'{place}: the prompt must name its query behind "query:"; got {text[:60]!r}')
    return Window(
        query,
        tuple(text[match.end() : bound].strip() for match, bound in zip(chain, bounds, strict=True)),
        letters,
        _chain_from_the_end(numbered, len(chain)) != chain,
    )


def parse_order(place: str, text: str, num_passages: int, letters: bool, tally: Tally) -> tuple[int, ...]:
    """The 0-based positions that an answer such as ``[B] > [D] > [A]`` names, each once.

    Only identifiers in brackets count (or, where there are none, the pieces between ``>``), so that a stray capital in
    prose is no candidate.

    Raises:
        InputError: if it names no passage.
    """
    answer = text.rpartition("</think>")[2]
    words = re.findall(r"\[\s*(\w+)\s*\]", answer) or [word.strip() for word in answer.split(">")]
    named = [_number(word) for word in words if re.fullmatch(r"[A-Za-z]{1,2}" if letters else r"\d+", word)]
    order = list(dict.fromkeys(number - 1 for number in named if 1 <= number <= num_passages))
    if not order:
        raise InputError(f"{place}: the teacher's turn must order the prompt's passages; got {text[:60]!r}")
    if len(named) < len(words) or any(not 1 <= number <= num_passages for number in named):
        tally.note("orders that name what the prompt does not show are read without it", place)
    if len(set(named)) < len(named):
        tally.note("orders that repeat an identifier are read without the repetition", place)
    if len(order) < num_passages:
        tally.note("orders that leave out passages tie these behind the others", place)
    return tuple(order)


def _turns(place: str, row: Row, num_turns: int) -> list[str]:
    turns = list_field(place, row, "conversations")
    if len(turns) < num_turns:
        raise InputError(f"{place}: conversations must hold system, human and gpt turns; got {len(turns)}")
    for turn in turns[:num_turns]:
        if not isinstance(turn, dict):
            raise InputError(f"{place}: a turn must be an object with from and value; got {turn!r}")
    return [text_field(place, turn, "value", blank=number == 0) for number, turn in enumerate(turns[:num_turns])]


def _read_window(place: str, row: Row, prompt: str, tally: Tally) -> tuple[Candidates, bool]:
    window = read_prompt(place, prompt)
    if window.doubtful:
        tally.note("prompts with a passage that holds a line like the next identifier may be cut wrongly", place)
    query_id = id_field(place, row, "id") if row.get("id") is not None else row_name(place, row, tally)
    query_id = tally.fresh_name(query_id)
    docids: Any = row.get("docids")
    named = isinstance(docids, list) and len(docids) == len(window.texts)
    passages = tuple(
        _passage(id_field(place, {"docid": docids[n]}, "docid") if named else f"{query_id}-{n + 1}", text)
        for n, text in enumerate(window.texts)
    )
    scores = tuple(-float(n) for n in range(len(passages)))
    return Candidates(query_id, window.query, passages, scores), window.letters


def _passage(docid: str, text: str) -> Passage:
    titled = TITLED.fullmatch(text)
    return Passage(docid, titled[2], titled[1]) if titled else Passage(docid, text)


def _number(identifier: str) -> int:
    # Some broken models answer with hundreds of digits: nine of them are out of range already.
    return int(identifier[:9]) if identifier.isdecimal() else place_of(identifier.upper()) + 1


Numbered = Sequence[tuple[int, "re.Match[str]"]]


def _chain(numbered: Numbered, size: int) -> list[re.Match[str]]:
    chain: list[re.Match[str]] = []
    for number, match in numbered:
        if number == len(chain) + 1 and number <= size:
            chain.append(match)
    return chain


def _chain_from_the_end(numbered: Numbered, size: int) -> list[re.Match[str]]:
    chain: list[re.Match[str]] = []
    for number, match in reversed(numbered):
        if number == size - len(chain):
            chain.append(match)
    return chain[::-1]


def _tail(place: str, text: str, start: int, head_query: str | None) -> tuple[int, str]:
    rest = text[start:]
    if head_query is not None:
        at = rest.rfind(f"Search Query: {_bare(head_query)}")
        if at >= 0:
            return start + at, ""
    begin: re.Match[str] | None = None
    found: tuple[int, str] | None = None
    for match in TAIL_LINE.finditer(rest):
        if match[1] == "Search Query:":
            begin = begin or match
        elif begin is not None:
            found, begin = (start + begin.start(), _bare(rest[begin.end() : match.start()])), None
    if found is not None:
        return found
    raise InputError(f'{place}: behind its passages a prompt must say "Search Query: …"; got {rest[-60:]!r}')


def _bare(query: str) -> str:
    return query.strip().removesuffix(".").strip()

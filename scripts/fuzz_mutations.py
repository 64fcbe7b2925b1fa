"""Inputs for fuzz.py from other inputs: bytes are cut and copied, values of JSON exchanged for nasty ones."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

DEPTH = 20  # of values that are looked into
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 10**18, 10**400, 0.5, -0.0, 1e308, -1e308, 5e-324, math.inf, math.nan),
    *("", " ", "\n", "\t", "\0", "\x1c", "\x85", "\u2028", "\u3000", "\ud800", "\udc00x", "\ufeff", "\ufeffq", "😀"),
    *("a b", "a\tb", "a\nb", '"', "'", "\\", "nan", "1e999", "1_0", "٣", "²", "-1", "[1] > [2]", "2 > 1", "[B] > [A]"),
    *("[1, 2]", "['a', 'b']", "{}", "null", "{{[]: 1}}", "-" * 200 + "1", "1" * 5000, "A" * 300, "<think>", "</think>"),
    *([], {}, [[]], [{}], {"": ""}, {"a": None}, [None], [""], ["a", "a"], [1, 0], [0, 0], [1.5], "x" * 2000),
)
DEEP = b"[" * 2000 + b"]" * 2000
LONG_NUMBER = b"7" * 5000
MARKER = "the number with many digits"


def mutate(data: bytes, chance: random.Random, words: Sequence[Any], mutate_bytes: Callable[[bytes], bytes]) -> bytes:
    """Another input from one: a JSON text in it gets other values, or its bytes are mutated.

    Args:
        data: the input.
        chance: all draws come from it.
        words: keys and values of the format.
        mutate_bytes: the mutation of bytes.
    """
    if chance.random() < 0.4:
        return mutate_bytes(data)
    lines = data.split(b"\n") if chance.random() < 0.8 else [data]
    place = chance.randrange(len(lines))
    try:
        value = json.loads(lines[place])
    except (ValueError, RecursionError):
        return mutate_bytes(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        value = _edit(value, chance, words)
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    lines[place] = text.replace(json.dumps(MARKER).encode(), chance.choice((LONG_NUMBER, DEEP)))
    if chance.random() < 0.1:
        lines.append(chance.choice(lines))
    return b"\n".join(lines)


def cut_and_copy(data: bytes, chance: random.Random, tokens: Sequence[bytes]) -> bytes:
    """Bytes with a slice left out, doubled, overwritten or put elsewhere: for where there is no libFuzzer."""
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    part = data[start : min(end, start + chance.choice((1, 1, 4, 64)))]
    return chance.choice(
        (
            data[:start] + data[start + len(part) :],
            data[:start] + part * chance.choice((2, 3, 50)) + data[start:],
            data[:start] + chance.choice(tokens or [b"\0"]) + data[start:],
            data[:start] + bytes([chance.randrange(256)]) + data[start + 1 :],
            data[:start] + part + data[chance.randrange(len(data) + 1) :],
        )
    )


def stretch(data: bytes, size: int, chance: random.Random) -> bytes:
    """The input with one slice of it repeated until it has about ``size`` bytes."""
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    part = data[start : min(end, start + chance.choice((1, 2, 8, 64)))] or b" "
    return data[:start] + part * (size // len(part)) + data[start:]


def words_of(seeds: Sequence[bytes]) -> list[Any]:
    """The keys and short values that stand in seeds of JSON."""
    found: dict[str, Any] = {}
    for seed in seeds:
        for line in (seed, *seed.split(b"\n")):
            try:
                values = list(_walk(json.loads(line)))
            except (ValueError, RecursionError):
                continue
            for holder, key in values:
                for one in (key, holder[key]):
                    found.setdefault(repr(one)[:80], one)
    return list(found.values())


def _walk(value: Any, depth: int = DEPTH) -> Iterator[tuple[Any, Any]]:
    """Each place in a value: what holds it, and its key or index there."""
    if isinstance(value, (dict, list)) and depth:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _walk(value[key], depth - 1)


def _edit(value: Any, chance: random.Random, words: Sequence[Any]) -> Any:
    root = [value]
    places = list(_walk(root))
    holder, key = chance.choice(places)
    other, from_key = chance.choice(places)
    fresh = _copied(chance.choice((*NASTY, MARKER, MARKER, *words)))
    kind = chance.randrange(8)
    if kind < 3:
        holder[key] = fresh
    elif kind == 3:
        holder[key] = _copied(other[from_key])
    elif kind == 4 and holder is not root:
        del holder[key]
    elif kind == 5 and isinstance(holder, list):
        holder.insert(key, _copied(holder[key]))
    elif isinstance(holder, dict) and words:
        holder[str(chance.choice(words))[:200]] = chance.choice((fresh, _copied(holder[key])))
    else:
        holder[key] = [holder[key]] if kind % 2 else str(holder[key])
    return root[0]


def _copied(value: Any) -> Any:
    return json.loads(json.dumps(value))

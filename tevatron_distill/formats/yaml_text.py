"""YAML that people write: files of arguments, and the metadata of cards."""

from __future__ import annotations

from typing import Any

import yaml

YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What PyYAML raises at a malformed text: ``!!int ""`` is an IndexError, ``!!bool x`` a KeyError, and so on."""

MAX_NODES = 100_000


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: if it is none, or aliases blow it up beyond `MAX_NODES` values.
    """
    try:
        value = yaml.safe_load(text)
    except YAML_ERRORS as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    waiting, num_nodes = [value], 0
    while waiting:
        num_nodes += 1
        if num_nodes > MAX_NODES:
            raise ValueError(f"more than {MAX_NODES} values")
        one = waiting.pop()
        waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
    return value

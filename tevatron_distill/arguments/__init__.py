"""Every flag of ours, once: a module for each driver's dataclasses, and the parser that all drivers share."""

from __future__ import annotations

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tevatron_distill.arguments.aliases import ALIASES, canonical_words
from tevatron_distill.arguments.parser import load_parser
from tevatron_distill.schema import InputError

if TYPE_CHECKING:
    from transformers.hf_argparser import HfArgumentParser

logger = logging.getLogger(__name__)


def parse_arguments(argv: Sequence[str] | None, *dataclass_types: type, prog: str | None = None) -> tuple[Any, ...]:
    """Parse a command line, or the one JSON or YAML file that stands in its place, into dataclasses.

    Flags of other projects (see `ALIASES`) are taken, and the command line is then logged in our spelling.

    Args:
        argv: words of the command line without the program's name; None takes ``sys.argv[1:]``.
        dataclass_types: dataclasses whose fields are the flags.
        prog: the program's name in the usage line.

    Returns:
        One instance of each dataclass, in order.

    Raises:
        InputError: if the file cannot be read or holds an unknown or missing key, or a foreign flag cannot be taken.
        SystemExit: on a wrong command line (argparse's own message, status 2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = load_parser()(dataclass_types, allow_abbrev=False, prog=prog)
    known = {action.dest for action in parser._actions}
    if len(words) == 1 and words[0].endswith((".json", ".yaml", ".yml")):
        values = _read_file(Path(words[0]))
        if not any(key in ALIASES and key not in known for key in values):
            return _parse_values(parser, values, words[0], known)
        words = [word for key, value in values.items() for word in _as_words(key, value)]
    words, foreign = canonical_words(words, known, prog)
    if foreign:
        logger.info("in our spelling: python -m tevatron_distill.driver.%s %s", prog, shlex.join(words))
    try:
        *parsed, rest = parser.parse_args_into_dataclasses(
            words, return_remaining_strings=True, look_for_args_file=False
        )
    except InputError:
        raise
    except ValueError as error:  # how TrainingArguments refuses a combination of flags
        raise InputError(f"{parser.prog}: {error}") from error
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return tuple(parsed)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: the arguments file must be readable JSON or YAML; got {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: the arguments file must hold one object of flags; got {type(values).__name__}")
    return values


def _as_words(key: str, value: object) -> list[str]:
    if value is None:
        return []
    return [f"--{key}", *(str(one) for one in (value if isinstance(value, list) else [value]))]


def _parse_values(parser: HfArgumentParser, values: dict[str, Any], path: str, known: set[str]) -> tuple[Any, ...]:
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{path}: unknown keys {unknown}; a key is a flag without its dashes, see --help")
    required = [action.dest for action in parser._actions if action.required and action.dest not in values]
    if required:
        raise InputError(f"{path}: missing keys {sorted(required)}")
    return tuple(parser.parse_dict(values))


def check_choice(flag: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value outside a table; called in ``__post_init__`` because a JSON file bypasses argparse.

    Raises:
        InputError: if ``value`` is not one of ``choices``.
    """
    if value not in choices:
        raise InputError(f"--{flag} must be one of {', '.join(choices)}; got {value!r}")


def token_budget(batch_tokens: object) -> int | None:
    """The tokens of a batch that ``--batch_tokens`` says; None for ``auto``.

    Raises:
        InputError: if it is neither a number from 1 nor ``auto``.
    """
    given = str(batch_tokens)
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) < 1:
        raise InputError(f"--batch_tokens must be auto or a number from 1; got {given!r}")
    return int(given)

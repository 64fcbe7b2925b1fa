"""Every flag of ours, once: a module for each driver's dataclasses, and the parser that all drivers share."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import logging
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tevatron_distill.arguments.aliases import ALIASES, canonical_words, spell_flag, split_words
from tevatron_distill.arguments.bars import BarArguments
from tevatron_distill.arguments.parser import build_parser
from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.formats.yaml_text import parse_yaml
from tevatron_distill.progress import want_bars
from tevatron_distill.schema import InputError

if TYPE_CHECKING:
    from transformers.hf_argparser import HfArgumentParser

logger = logging.getLogger(__name__)

NUMBER = re.compile(r"-\d+|-\d*\.\d+")
FILE_ENDINGS = (".json", ".yaml", ".yml")


def parse_arguments(argv: Sequence[str] | None, *dataclass_types: type, prog: str | None = None) -> tuple[Any, ...]:
    """Parse a command line into dataclasses.

    Its first word may be a JSON or YAML file whose keys are flags; flags behind it override the file's. Flags of other
    projects (see `ALIASES`) are taken in both, and the command line is then logged in our spelling.

    Args:
        argv: words of the command line without the program's name; None takes ``sys.argv[1:]``.
        dataclass_types: dataclasses whose fields are the flags.
        prog: the program's name in the usage line.

    Returns:
        One instance of each dataclass, in order.

    Raises:
        InputError: if the file cannot be read, or a key of it is unknown, missing or has a value that its flag does not
            take, or a foreign flag cannot be taken.
        SystemExit: on a wrong command line (argparse's own message, status 2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    named = {field.name for kind in dataclass_types for field in dataclasses.fields(kind)}
    more = () if "disable_tqdm" in named else (BarArguments,)  # HF's Trainer has the flag
    parser = build_parser((*dataclass_types, *more), prog)
    known = {action.dest for action in parser._actions}
    path = words.pop(0) if words and words[0].endswith(FILE_ENDINGS) and not words[0].startswith("-") else None
    words, foreign = canonical_words(words, known, prog)
    if path is not None:
        from_file, foreign_key = canonical_words(_words_of(path, known), known, prog)
        _check_file(parser, from_file, words, path)
        words, foreign = [*from_file, *words], foreign or foreign_key
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
        parser.error(f"unrecognized arguments: {' '.join(rest)}{_nearest(rest[0].lstrip('-'), known, '--')}")
    [bars] = (one for one in parsed if "disable_tqdm" in vars(one))
    bars.disable_tqdm = not want_bars(not bars.disable_tqdm)
    return tuple(parsed[: len(dataclass_types)])


def _words_of(path: str, known: set[str]) -> list[str]:
    """The keys of a file as flags; one without a value (null, an empty list) is left at its default.

    Raises:
        InputError: if the file cannot be read, or a key is no flag.
    """
    words = []
    for key, value in _read_file(Path(path)).items():
        name = key.replace("-", "_")
        if name not in known and name not in ALIASES:
            raise InputError(
                f"{path}: unknown key {key!r}{_nearest(name, known)}; a key is a flag without its dashes, see --help"
            )
        if value is None or value == []:
            continue
        values = (
            value if isinstance(value, list) else [json.dumps(value, default=str) if isinstance(value, dict) else value]
        )
        spelled = [str(one) for one in values]
        if len(spelled) > 1 and (
            dashed := [one for one in spelled if one.startswith("-") and not NUMBER.fullmatch(one)]
        ):
            raise InputError(f"{path}: {key}: a value of several must not begin with a dash; got {dashed[0]!r}")
        words += spell_flag(name, spelled)
    return words


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        values = parse_json(text) if path.suffix == ".json" else parse_yaml(text)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the arguments file must be readable JSON or YAML; got {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: the arguments file must hold one object of flags; got {type(values).__name__}")
    return {str(key): value for key, value in values.items()}


def _nearest(name: str, known: set[str], dashes: str = "") -> str:
    near = difflib.get_close_matches(name.partition("=")[0].replace("-", "_"), known, n=1, cutoff=0.75)
    return f" (did you mean {dashes}{near[0]}?)" if near else ""


def _check_file(parser: HfArgumentParser, from_file: Sequence[str], words: Sequence[str], path: str) -> None:
    """See that each flag takes the file's value, and that none is missing; argparse's message would not name the file.

    Raises:
        InputError: naming the file and the flag.
    """
    given = dict(split_words(from_file))
    for action in parser._actions:
        if action.dest in given:
            if action.nargs in (None, "?") and len(given[action.dest]) > 1:
                raise InputError(f"{path}: {action.dest}: takes one value; got {given[action.dest]}")
            try:
                parser._get_values(action, given[action.dest])
            except argparse.ArgumentError as error:
                raise InputError(f"{path}: {action.dest}: {error.message}") from error
    given.update(split_words(words))
    missing = sorted(action.dest for action in parser._actions if action.required and action.dest not in given)
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} must be given, in the file or by a flag behind it; got neither")


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

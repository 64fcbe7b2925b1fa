"""Every flag of ours, once: a module for each driver's dataclasses, and the parser that all drivers share."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers.hf_argparser import HfArgumentParser

from tevatron_distill.schema import InputError

ALIASES: dict[str, str] = {
    # open-retrievals, InstructDistill, RankLLM, LLM-Blender spell it left; we spell it right
    "data_name_or_path": "dataset_path",
    "train_dataset_path": "dataset_path",
    "train_data_path": "dataset_path",
    "top_k_candidates": "depth",
    "loss_type": "loss",
    "ranking_loss": "loss",
    "use_lora": "lora",
    "model_path": "model_name_or_path",
    "model_name": "model_name_or_path",
    "save_path": "output_dir",
    "max_length": "rerank_max_len",
    # transformers 5 removed or renamed these
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps",  # a number below 1 is a share of all steps
}


def parse_arguments(argv: Sequence[str] | None, *dataclass_types: type, prog: str | None = None) -> tuple[Any, ...]:
    """Parse a command line, or the one JSON or YAML file that stands in its place, into dataclasses.

    Args:
        argv: words of the command line without the program's name; None takes ``sys.argv[1:]``.
        dataclass_types: dataclasses whose fields are the flags.
        prog: the program's name in the usage line.

    Returns:
        One instance of each dataclass, in order.

    Raises:
        InputError: if the file cannot be read or holds an unknown or missing key.
        SystemExit: on a wrong command line (argparse's own message, status 2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = HfArgumentParser(dataclass_types, allow_abbrev=False, prog=prog)
    known = {action.dest for action in parser._actions}
    if len(words) == 1 and words[0].endswith((".json", ".yaml", ".yml")):
        return _parse_file(parser, Path(words[0]), known)
    words = [_canonical_flag(word, known) for word in words]
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


def _canonical_flag(word: str, known: set[str]) -> str:
    flag, equals, value = word.partition("=")
    if not flag.startswith("--"):
        return word
    name = flag[2:].replace("-", "_")
    if name not in known and ALIASES.get(name) in known:
        name = ALIASES[name]
    return f"--{name}{equals}{value}" if name in known else word


def _parse_file(parser: HfArgumentParser, path: Path, known: set[str]) -> tuple[Any, ...]:
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, json.JSONDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: the arguments file must be readable JSON or YAML; got {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: the arguments file must hold one object of flags; got {type(values).__name__}")
    values = {
        ALIASES[key] if key not in known and ALIASES.get(key) in known else key: value for key, value in values.items()
    }
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

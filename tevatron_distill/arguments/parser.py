"""The parser of dataclasses that transformers has, without the rest of transformers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tevatron_distill.arguments.screens import add_help

if TYPE_CHECKING:
    from transformers.hf_argparser import HfArgumentParser


def load_parser() -> type[HfArgumentParser]:
    """The class ``HfArgumentParser``, from its own file where transformers is not imported yet.

    Its file needs nothing else of the package, whose ``__init__`` takes most of a second: longer than all the rest of
    a driver without a model. Should a later transformers need more there, the package is imported after all.
    """
    if "transformers" not in sys.modules:
        package = importlib.util.find_spec("transformers")
        for folder in (package and package.submodule_search_locations) or ():
            spec = importlib.util.spec_from_file_location("_hf_argparser", Path(folder, "hf_argparser.py"))
            if spec is not None and spec.loader is not None:
                module = importlib.util.module_from_spec(spec)
                try:
                    spec.loader.exec_module(module)
                    return _parser_of(module)
                except (ImportError, FileNotFoundError):
                    break
    return _parser_of(importlib.import_module("transformers.hf_argparser"))


def build_parser(dataclass_types: Sequence[type], prog: str | None) -> HfArgumentParser:
    """A parser of these dataclasses' flags, whose help is ours.

    Args:
        dataclass_types: their fields are the flags.
        prog: the driver's name.
    """
    parser = load_parser()(dataclass_types, allow_abbrev=False, prog=prog, add_help=False)
    add_help(parser, dataclass_types)
    return parser


def _parser_of(module: object) -> type[HfArgumentParser]:
    parser: type[HfArgumentParser] = module.HfArgumentParser  # type: ignore[attr-defined]
    return parser

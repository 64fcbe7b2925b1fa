"""What ``--help`` shows: on its first screen the flags that most people need, and all of them under ``--help_all``."""

from __future__ import annotations

import argparse
import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

GROUPS = {
    "in": "what goes in",
    "student": "the student",
    "teacher": "the teacher",
    "how": "how",
    "out": "what comes out",
}
"""The groups of the first screen, and their titles."""
WIDTHS = (60, 110)
"""Columns at least and at most."""
MOST_LINES = 57
"""Of the first screen; where they are not enough, flags have fewer lines."""
LEFT = 34
"""Columns of the flags at most; a longer one stands on a line of its own."""


class First(str):
    """The help of a flag that stands on the first screen.

    Attributes:
        group: key of `GROUPS`.
        verbs: the drivers on whose first screen it stands; empty for all that have the flag.
    """

    group: str
    verbs: tuple[str, ...]


def first(group: str, text: str, *verbs: str) -> First:
    """Mark a flag's help: ``metadata={"help": first("how", "…")}``.

    Args:
        group: key of `GROUPS`.
        text: the help.
        verbs: drivers; none for all that have the flag.

    Raises:
        ValueError: if there is no such group.
    """
    if group not in GROUPS:
        raise ValueError(f"the group of a flag must be one of {list(GROUPS)}; got {group!r}")
    marked = First(text)
    marked.group, marked.verbs = group, verbs
    return marked


class ShowHelp(argparse.Action):
    """Print a screen and end.

    Args:
        option_strings: how the flag is typed.
        dest: not used: nothing is kept.
        screen: makes the text.
        help: of the flag itself.
    """

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        screen: Callable[[argparse.ArgumentParser], str],
        help: str | None = None,
    ) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)
        self._screen = screen

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        try:
            print(self._screen(parser), flush=True)
        except BrokenPipeError:  # whoever reads (head, a pager) has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        parser.exit()


def add_help(parser: argparse.ArgumentParser, dataclass_types: Iterable[type]) -> None:
    """Give a parser ``--help``, ``--help_all`` and a short usage line."""
    named = [f"{action.option_strings[0]} {kind_of(action)}" for action in parser._actions if action.required]
    parser.usage = " ".join(["tevatron-distill", parser.prog, *named, "[flags]"]).replace("%", "%%")
    parser.add_argument("-h", "--help", action=ShowHelp, screen=first_screen, help="the flags that most people need")
    whole = partial(whole_screen, dataclass_types=tuple(dataclass_types))
    parser.add_argument("--help_all", "--help-all", action=ShowHelp, screen=whole, help="all flags")


def first_screen(parser: argparse.ArgumentParser) -> str:
    """The marked flags in their groups, each on a few lines at most."""
    groups: dict[str, list[argparse.Action]] = {group: [] for group in GROUPS}
    shown: set[str] = set()
    for action in parser._actions:
        text = action.help
        if isinstance(text, First) and action.dest not in shown and parser.prog in (text.verbs or (parser.prog,)):
            groups[text.group].append(action)
            shown.add(action.dest)
    others = len({action.dest for action in parser._actions} - shown) - 1  # but for the help itself
    end = ["", "a first word that is a .yaml or .json file holds flags too"]
    end += [f"{others} more flags: --help_all"] * bool(others)
    titled = {
        GROUPS[group]: sorted(actions, key=lambda action: not action.required) for group, actions in groups.items()
    }
    for most in ((2, 2), (2, 1), (1, 1)):
        lines = sections_of(parser, titled, most)
        if sum(line.count("\n") + 1 for line in lines) <= MOST_LINES:
            break
    return "\n".join([*lines, *end])


def whole_screen(parser: argparse.ArgumentParser, dataclass_types: Sequence[type]) -> str:
    """All flags, under the dataclass that brings each; those of HF's trainer come last."""
    homes: dict[str, type] = {}
    for kind in dataclass_types:
        for base in reversed(kind.__mro__):
            homes |= {name: base for name in inspect.get_annotations(base) if name not in homes}
    found: dict[type, list[argparse.Action]] = {}
    for action in parser._actions:
        if action.dest in homes:
            found.setdefault(homes[action.dest], []).append(action)
    ordered = sorted(found, key=lambda home: home.__module__.startswith("transformers"))
    titles = [(inspect.getdoc(home) or "").partition("\n")[0].rstrip(".") for home in ordered]
    return "\n".join(sections_of(parser, dict(zip(titles, (found[home] for home in ordered), strict=True))))


def sections_of(
    parser: argparse.ArgumentParser,
    groups: Mapping[str, Sequence[argparse.Action]],
    most: tuple[int | None, int | None] = (None, None),
) -> list[str]:
    """Lines of a screen: the usage, and each group that has a flag under its title.

    Args:
        parser: whose flags they are.
        groups: flags by title.
        most: lines of a flag's help, and of its choices; None for all.
    """
    columns = min(max(shutil.get_terminal_size((100, 24)).columns, WIDTHS[0]), WIDTHS[1])
    heads = [len(head_of(action)) for actions in groups.values() for action in actions]
    left = min(max(heads, default=0), LEFT) + 4
    lines = [parser.format_usage().rstrip()]
    for title, actions in groups.items():
        lines += [f"\n{title}:"] * bool(actions)
        lines += [line for action in actions for line in lines_of(action, left, columns - left, most)]
    return lines


def lines_of(action: argparse.Action, left: int, room: int, most: tuple[int | None, int | None]) -> list[str]:
    """A flag, and beside it what it does, then its choices."""
    head, tail = f"  {head_of(action)}", default_of(action)
    text = " ".join(str(action.help or "").replace("%%", "%").split())
    if most[0] is not None:
        text = textwrap.shorten(text, most[0] * room - len(tail) - 16, placeholder=" …")
    beside = textwrap.wrap(text + tail, room, max_lines=most[0], placeholder=" …")
    if action.choices:
        beside += textwrap.wrap("= " + " | ".join(map(str, action.choices)), room, max_lines=most[1], placeholder=" …")
    if len(head) >= left:
        return [head, *(" " * left + line for line in beside)]
    return [head.ljust(left) + beside[0], *(" " * left + line for line in beside[1:])]


def head_of(action: argparse.Action) -> str:
    """The flag and what kind of value stands behind it."""
    return f"{action.option_strings[0]} {kind_of(action)}".rstrip()


def kind_of(action: argparse.Action) -> str:
    """What stands behind a flag, in a word; nothing behind a switch."""
    if action.const is True or action.nargs == 0:
        return ""
    numbers: dict[Any, str] = {int: "N", float: "X"}
    ending = action.dest.rpartition("_")[2]
    name = "PATH" if ending in ("path", "paths", "dir", "input", "output", "checkpoint", "deepspeed") else "VALUE"
    word = "NAME" if action.choices else numbers.get(action.type, name)
    return f"{word} …" if action.nargs == "+" else word


def default_of(action: argparse.Action) -> str:
    """The default in brackets, where it says something that the help does not."""
    if action.required:
        return " (required)"
    value = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
    if value in (None, "", False) or "default" in str(action.help):
        return ""
    return f" (default: {value})"

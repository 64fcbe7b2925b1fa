"""The first screen of ``--help``: short, in groups, with every flag that a driver cannot do without."""

from __future__ import annotations

import dataclasses
import importlib

import pytest

from tevatron_distill.arguments.parser import build_parser
from tevatron_distill.arguments.screens import GROUPS, MOST_LINES, first
from tevatron_distill.driver.main import VERBS

DRIVERS = [verb for verb in VERBS if verb != "doctor"]  # which has one flag, and argparse's own help


def screen(verb, capsys, flag="--help"):
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"tevatron_distill.driver.{verb}").main([flag])
    assert not caught.value.code
    return capsys.readouterr().out


def shown(text):
    """The flags of a screen; a switch that is on has one that turns it off beside it."""
    flags = [line.split()[0] for line in text.splitlines() if line.startswith("  --")]
    return [flag for flag in flags if not (flag.startswith("--no_") and f"--{flag[5:]}" in flags)]


@pytest.mark.parametrize("columns", [80, 110])
@pytest.mark.parametrize("verb", DRIVERS)
def test_it_is_short_narrow_and_in_groups(verb, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = screen(verb, capsys).splitlines()
    assert len(lines) <= MOST_LINES + 3
    assert max(map(len, lines)) <= columns or "usage" in max(lines, key=len)
    assert lines[0].startswith(f"usage: tevatron-distill {verb} ")
    titles = [line.removesuffix(":") for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert [title for title in GROUPS.values() if title in titles] == titles
    assert len(titles) >= 2


@pytest.mark.parametrize("verb", DRIVERS)
def test_every_flag_is_on_one_of_the_screens_and_the_needed_ones_on_the_first(verb, capsys):
    first_screen, whole = screen(verb, capsys), screen(verb, capsys, "--help_all")
    assert set(shown(first_screen)) <= set(shown(whole))
    assert len(shown(whole)) == len(set(shown(whole)))
    needed = [line.split()[0] for line in whole.splitlines() if line.startswith("  --") and "(required)" in line]
    assert set(needed) <= set(shown(first_screen))
    assert {"--disable_tqdm"} <= set(shown(first_screen))
    if "--help_all" in first_screen:
        said = int(first_screen.splitlines()[-1].split()[0])
        assert said == len(shown(whole)) - len(shown(first_screen))


def test_the_trainers_flags_come_behind_ours_and_not_on_the_first_screen(capsys):
    assert "--adam_beta1" not in screen("train", capsys)
    whole = shown(screen("train", capsys, "--help_all"))
    assert whole.index("--train_group_size") < whole.index("--loss") < whole.index("--adam_beta1")
    assert "--learning_rate" in shown(screen("train", capsys))
    assert "--learning_rate" not in shown(screen("rerank", capsys))


@dataclasses.dataclass
class Flags:
    """What is done."""

    path: str = dataclasses.field(metadata={"help": first("in", "the rows, 100%% of them")})
    many: list[str] = dataclasses.field(default_factory=lambda: ["a", "b"], metadata={"help": first("how", "some")})
    quiet: bool = dataclasses.field(default=False, metadata={"help": first("how", "say nothing", "rank")})
    kind: str = dataclasses.field(default="x", metadata={"help": first("how", "which"), "choices": ["x", "y"]})
    share: float = dataclasses.field(default=0.5, metadata={"help": "a share"})


def help_of(prog, capsys, flag="-h"):
    with pytest.raises(SystemExit):
        build_parser([Flags], prog).parse_args([flag])
    return capsys.readouterr().out


def test_a_flag_is_shown_with_its_kind_default_and_choices(capsys):
    assert help_of("rank", capsys).splitlines() == [
        "usage: tevatron-distill rank --path PATH [flags]",
        "",
        "what goes in:",
        "  --path PATH     the rows, 100% of them (required)",
        "",
        "how:",
        "  --many VALUE …  some (default: a b)",
        "  --quiet         say nothing",
        "  --kind NAME     which (default: x)",
        "                  = x | y",
        "",
        "a first word that is a .yaml or .json file holds flags too",
        "1 more flags: --help_all",
    ]
    assert "--quiet" not in help_of("other", capsys)
    assert help_of("rank", capsys, "--help_all").splitlines()[2:4] == [
        "What is done:",
        "  --path PATH     the rows, 100% of them (required)",
    ]


def test_a_long_help_is_cut_to_two_lines_on_the_first_screen_alone(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    words = " ".join(f"word{number}" for number in range(60))
    kind = dataclasses.make_dataclass(
        "Long", [("text", str, dataclasses.field(default="d", metadata={"help": first("how", words)}))]
    )

    def lines_of(flag):
        with pytest.raises(SystemExit):
            build_parser([kind], "rank").parse_args([flag])
        out = capsys.readouterr().out
        return sum(" word" in line and "first word" not in line for line in out.splitlines()), " ".join(out.split())

    number, text = lines_of("--help")
    assert (number, "… (default: d)" in text) == (2, True)
    assert "word59 (default: d)" in lines_of("--help_all")[1]


def test_a_group_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"must be one of .*'in'.*; got 'inn'"):
        first("inn", "x")


def test_a_wrong_command_line_is_answered_by_one_line_of_usage(capsys):
    with pytest.raises(SystemExit) as caught:
        importlib.import_module("tevatron_distill.driver.train").main([])
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 2

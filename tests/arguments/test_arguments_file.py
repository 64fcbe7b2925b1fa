"""A file of flags in the command line's place, and flags behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.schema import InputError


@dataclass
class Flags:
    output_path: str
    dataset_path: str | None = None
    loss: str = field(default="rank_net", metadata={"choices": ["rank_net", "list_net"]})
    learning_rate: float = 1e-3
    measures: list[str] = field(default_factory=lambda: ["nDCG@10"])
    prefix: str = ""
    depth: int = -1
    lora: bool = False
    options: str | None = None


@pytest.fixture
def recipe(tmp_path):
    def write(text: str, name: str = "recipe.yaml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return str(tmp_path / name)

    return write


YAML = """
# a comment
output_path: out
learning_rate: 2e-5
measures: [RR@10, AP]
prefix: "- query: "
depth: -1
lora: true
dataset_path: null
options: {a: 1}
"""


@pytest.mark.parametrize("name", ["recipe.yaml", "recipe.yml", "recipe.json"])
def test_a_file_of_flags_gives_what_the_flags_give(recipe, name):
    values = {"output_path": "out", "learning_rate": 2e-5, "measures": ["RR@10", "AP"], "prefix": "- query: "}
    text = YAML if "json" not in name else json.dumps({**values, "depth": -1, "lora": True, "options": {"a": 1}})
    (from_file,) = parse_arguments([recipe(text, name)], Flags)
    words = ["--output_path", "out", "--learning_rate", "2e-5", "--measures", "RR@10", "AP", "--prefix=- query: "]
    (from_words,) = parse_arguments([*words, "--lora", "--options", '{"a": 1}'], Flags)
    assert from_file == from_words
    assert from_file == Flags("out", None, "rank_net", 2e-5, ["RR@10", "AP"], "- query: ", -1, True, '{"a": 1}')


def test_flags_behind_the_file_override_it(recipe):
    path = recipe("output_path: out\nlearning_rate: 1.0\nmeasures: [RR@10, AP]\nlora: true\n")
    words = [path, "--learning-rate=3", "--measures", "P@5", "--lora", "false", "--dataset_path", "rows.jsonl"]
    (args,) = parse_arguments(words, Flags)
    assert args == Flags("out", "rows.jsonl", "rank_net", 3.0, ["P@5"])


def test_a_flag_that_must_be_given_may_stand_behind_the_file(recipe):
    path = recipe("learning_rate: 1.0")
    assert parse_arguments([path, "--output_path", "out"], Flags) == (Flags("out", learning_rate=1.0),)
    with pytest.raises(InputError, match=r"recipe\.yaml: output_path must be given, in the file or by a flag"):
        parse_arguments([path], Flags)


def test_foreign_flags_are_taken_in_the_file_and_behind_it(recipe):
    path = recipe("output_path: out\ntrain_data_path: rows.json\nloss_type: instructgpt\n")
    assert parse_arguments([path], Flags) == (Flags("out", "rows.json"),)
    path = recipe("output_path: out\ndataset_path: rows.json\n")
    assert parse_arguments([path, "--train_data_path", "others.json"], Flags) == (Flags("out", "others.json"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "output_path: o\nlearning_rates: 1",
            r"unknown key 'learning_rates' \(did you mean learning_rate\?\); a key is a flag",
        ),
        ("output_path: o\nquite_another: 1", r"unknown key 'quite_another'; a key is a flag without its dashes"),
        ("output_path: o\nloss: mse", r"recipe\.yaml: loss: invalid choice: 'mse' \(choose from"),
        ("output_path: o\ndepth: deep", r"recipe\.yaml: depth: invalid int value: 'deep'"),
        ("- output_path", r"recipe\.yaml: the arguments file must hold one object of flags; got list"),
        ("output_path: [", r"recipe\.yaml: the arguments file must be readable JSON or YAML"),
    ],
)
def test_a_file_that_breaks_a_rule_is_one_error(recipe, text, message):
    with pytest.raises(InputError, match=message):
        parse_arguments([recipe(text)], Flags)


def test_a_file_that_is_not_there_is_an_error():
    with pytest.raises(InputError, match=r"absent\.yaml: the arguments file must be readable"):
        parse_arguments(["absent.yaml"], Flags)


def test_a_flag_misspelt_on_the_command_line_is_shown_the_nearest(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--output_path", "o", "--learning_rats", "1"], Flags)
    assert "unrecognized arguments: --learning_rats 1 (did you mean --learning_rate?)" in capsys.readouterr().err

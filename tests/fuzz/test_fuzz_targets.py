"""The targets of scripts/fuzz.py, on inputs that are the same each time and without atheris; long lines among them."""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import fuzz
from fuzz_mutations import cut_and_copy, mutate, stretch, words_of

from tevatron_distill.schema import InputError

TARGETS = fuzz.load_targets()
NUM_INPUTS = 40
MEGABYTE = 1 << 20


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir=fuzz.MEMORY if fuzz.MEMORY.is_dir() else None) as path:
        yield Path(path)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_what_becomes_of_them(name, folder):
    target, chance = TARGETS[name], random.Random(name)
    seeds = list(target.seeds(folder))
    words = words_of(seeds)
    for _ in range(NUM_INPUTS):
        data = chance.choice(seeds)
        for _ in range(chance.choice((0, 1, 2, 4))):
            data = mutate(data, chance, words, lambda one: cut_and_copy(one, chance, fuzz.TOKENS))
        target.run(data[: target.max_len], folder)


# A quadratic reader takes hours for it, longer than a test may
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.stretches])
def test_a_megabyte_on_one_line_takes_linear_time(name, folder):
    target, chance = TARGETS[name], random.Random(name)
    for seed in list(target.seeds(folder))[:2]:
        target.run(stretch(seed, MEGABYTE, chance), folder)


def test_a_runner_refuses_an_input_that_takes_too_long_and_keeps_it(folder, monkeypatch):
    target = fuzz.load_targets()["name"]
    runner = fuzz.Runner(target, folder)
    monkeypatch.setattr(runner, "_seconds", lambda data: 10.0)
    with pytest.raises(fuzz.SlowInputError, match=r"10\.00 s for 2 bytes"):
        runner(b"ab")
    assert (folder / "broken").read_bytes() == b"ab"


def test_a_refusal_must_name_its_file_or_a_flag(folder):
    from fuzz_targets import attempt

    def refuse():
        raise InputError("something is wrong")

    with pytest.raises(AssertionError, match="no place in"):
        attempt(refuse, folder)
    assert attempt(refuse) is None

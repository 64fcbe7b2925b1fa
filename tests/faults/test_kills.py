"""Kill -9 of teach, rerank and train; the same command ends with the files of an undisturbed run."""

from __future__ import annotations

import random

import pytest
from tortured import CONTEXT, torture


@pytest.mark.parametrize(("verb", "seed"), [("teach", 3), ("rerank", 3), ("train", 3)])
def test_a_killed_command_ends_as_if_nothing_had_happened(verb, seed, tmp_path):
    tally = torture.torture(verb, 1, seed, tmp_path, CONTEXT)
    assert tally.failures == []
    assert tally.kills.total() == 1


@pytest.mark.distributed
@pytest.mark.timeout(600)
@pytest.mark.parametrize("verb", torture.VERBS)
def test_commands_that_are_killed_again_and_again_end_as_if_nothing_had_happened(verb, tmp_path):
    tally = torture.torture(verb, 3, 7, tmp_path, CONTEXT)
    assert tally.failures == []
    assert tally.kills.total() == 3


@pytest.mark.distributed
def test_kills_in_the_middle_of_a_checkpoint_are_met(tmp_path):
    """Checkpoints are torn in their two largest files: the byte at which the kernel ends the process grows."""
    victim = torture.Victim("train", tmp_path, CONTEXT)
    sizes = sorted(path.stat().st_size for path in (victim.whole.folder / "checkpoint-14").iterdir())
    torn = 0
    for size in sizes[-2:]:
        command = victim.command("torn")
        assert torture.run(CONTEXT, command, torture.Plan("byte", size - 1)).code == -25
        torn += victim.torn(command.folder)
        assert torture.run(CONTEXT, command).code == 0
        assert victim.differing(command.folder) == []
    assert torn > 0


def test_the_comparison_sees_another_byte_and_another_value(tmp_path):
    victim = object.__new__(torture.Victim)
    victim.verb = "rerank"
    victim.whole = torture.Command("rerank", tmp_path / "one", [])
    for name, text in (("one", "q d 1.0\n"), ("other", "q d 1.1\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.tsv").write_text(text)
    (tmp_path / "other" / "left.tmp").write_text("")
    assert victim.differing(tmp_path / "other") == ["left.tmp", "run.tsv"]
    assert torture.same_values({"a": [1, (2.0, None)]}, {"a": [1, (2.0, None)]})
    assert not torture.same_values({"a": [1, (2.0, None)]}, {"a": [1, (2.5, None)]})


def test_the_same_seed_draws_the_same_kills():
    victim = object.__new__(torture.Victim)
    victim.seconds, victim.num_writes, victim.largest = 5.0, 40, 1000
    one, other = (
        [victim.plan(draw) for _ in range(20)] for draw in (random.Random("0 teach"), random.Random("0 teach"))
    )
    assert one == other
    assert {plan.mode for plan in one} == set(torture.MODES)

"""What the reproductions cost: counted operations against arithmetic, and hours against operations."""

from __future__ import annotations

import importlib
import json
import re

import pytest
import torch
from documented import ROOT


@pytest.fixture
def estimate(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    module = importlib.import_module("estimate")
    shapes = importlib.import_module("estimate_recipes")
    monkeypatch.setattr(module, "Recipe", shapes.Recipe, raising=False)
    tiny = shapes.encoder("llama", 64, 96, 5, 4, num_key_value_heads=2, vocab_size=100)
    monkeypatch.setitem(module.SHAPES, "tiny", tiny)
    monkeypatch.setitem(module.SHAPES, "tiny-t5", shapes.t5(64, 96, 5, 4))
    monkeypatch.setitem(module.SHAPES, "tiny-ettin", shapes.encoder("modernbert", 64, 96, 5, 4, vocab_size=50368))
    return module


def of_a_tiny_llama(tokens: int) -> int:
    """Operations of one row: two for each weight and token, and attention's two products."""
    weights = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 96
    return 5 * (2 * tokens * weights + 2 * 2 * tokens * tokens * 64)


def test_operations_are_those_of_the_products(estimate):
    assert estimate.count("tiny", estimate.Work("rank", 1, 10)).flops == of_a_tiny_llama(10)
    assert estimate.count("tiny", estimate.Work("rank", 1, 10), rows=3).flops == 3 * of_a_tiny_llama(10)


def test_the_way_back_costs_twice_as_much_an_adapter_half_of_that_and_checkpoints_once_more(estimate):
    once = of_a_tiny_llama(10)
    costs = {
        (adapter, checkpointed): estimate.count(
            "tiny", estimate.Work("train", 1, 10, adapter=adapter, checkpointed=checkpointed)
        ).flops
        for adapter in (False, True)
        for checkpointed in (False, True)
    }
    assert costs[False, True] - costs[False, False] == costs[True, True] - costs[True, False] == once
    assert costs[False, False] == pytest.approx(3 * once, rel=0.02)
    attention = 5 * 2 * 2 * 10 * 10 * 64
    assert costs[True, False] == pytest.approx(2 * once + attention, rel=0.02)


@pytest.mark.parametrize("shape", ["tiny", "tiny-t5", "tiny-ettin"])
@pytest.mark.parametrize("what", ["train", "rank"])
def test_two_and_three_layers_foretell_all_of_them(estimate, shape, what):
    work = estimate.Work(what, 1, 12)
    assert estimate.count(shape, work) == estimate.count(shape, work, layers=5)


def test_the_shapes_have_as_many_numbers_as_their_names_say(estimate):
    published = {"t5-base": 222.9e6, "llama-2-7b": 6.607e9, "mistral-7b": 7.11e9, "electra-base": 108.9e6}
    published |= {"ettin-17m": 16.8e6, "ettin-32m": 31.9e6, "ettin-68m": 68.1e6, "ettin-150m": 149e6}
    for shape, number in published.items():
        counted = estimate.count(shape, estimate.Work("rank", 1, 1)).parameters
        assert counted == pytest.approx(number, rel=0.01), shape


def test_memory_of_the_states_follows_the_stage(estimate):
    train = estimate.Work("train", 1, 1)
    assert estimate.state_bytes(1000, estimate.Work("rank", 1, 1), 4) == 2 * 1000
    assert estimate.state_bytes(1000, train, 4) == 16 * 1000
    assert estimate.state_bytes(1000, estimate.Work("train", 1, 1, stage=2), 4) == 2 * 1000 + 14 * 1000 / 4
    assert estimate.state_bytes(1000, estimate.Work("train", 1, 1, stage=3), 4) == 16 * 1000 / 4
    assert estimate.state_bytes(1000, estimate.Work("train", 1, 1, stage=3, adapter=True), 4) == 2 * 1000 / 4


def test_every_recipe_has_published_figures_and_a_script(estimate):
    published = json.loads((ROOT / "scripts" / "published.json").read_text(encoding="utf-8"))["recipes"]
    for name in estimate.RECIPES:
        assert name in published
        assert (ROOT / "scripts" / f"{name.partition('-')[0]}.sh").is_file()
    scripts = {name.partition("-")[0] for name in estimate.RECIPES}
    assert scripts == {name.partition("-")[0] for name in published}


def test_hours_are_operations_over_throughput_and_say_whether_it_was_measured(estimate, monkeypatch, capsys):
    recipe = estimate.Recipe("tiny", 2, (estimate.Work("rank", 3600 * 10**9, 10),))
    monkeypatch.setattr(estimate, "RECIPES", {"toy": recipe})
    operations = of_a_tiny_llama(10) * 3600 * 10**9
    for reached, said in (({}, "assumed"), ({"tiny": 50.0}, "measured")):
        [line] = estimate.table(["toy"], reached).splitlines()[2:]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert float(cells[6].replace(",", "")) == pytest.approx(
            operations / (reached.get("tiny", 100.0) * 1e12 * 2) / 3600, abs=0.006
        )
        assert cells[7].endswith(said)
    estimate.main(["toy"])
    printed = capsys.readouterr().out
    assert "nothing was measured" in printed
    assert "which is assumed" in printed


def test_steps_are_measured_on_this_machine_and_hours_follow(estimate, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = estimate.Recipe("tiny", 1, (estimate.Work("train", 1000, 10, batch=8),))
    monkeypatch.setattr(estimate, "RECIPES", {"toy": recipe, "large": estimate.Recipe("llama-2-7b", 1, ())})
    threads = torch.get_num_threads()
    estimate.main(["toy", "large", "--measure", "--rows", "1"])
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "llama-2-7b: not measured" in printed
    assert "one thread of a CPU" in printed
    assert re.search(r"^\| toy \| train \|.*measured", printed, re.MULTILINE)
    gflop, seconds = map(float, re.findall(r"^\| tiny \| ([\d.]+) \| ([\d.]+) ", printed, re.MULTILINE)[0])
    assert gflop == pytest.approx(3 * of_a_tiny_llama(96) / 1e9, rel=0.02, abs=0.06)
    assert seconds > 0


def test_an_unknown_recipe_names_those_that_are_known(estimate, capsys):
    with pytest.raises(SystemExit):
        estimate.main(["rankllama-70b"])
    assert "known are instruct_distill-base" in capsys.readouterr().err

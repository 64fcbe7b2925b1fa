"""What bench.py does that is not timed: other programs' loops give our scores, fits, tables."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import random
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from conftest import WORDS, build_bert, build_causal, build_t5
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, Group, Passage
from tevatron_distill.sorting import SORTS

SCRIPTS = Path(__file__).parents[2] / "scripts"
MODULES = ("bench_measure", "bench_scale", "bench_report", "bench_teach", "bench_train", "bench_rerank", "bench_rows")


@pytest.fixture(scope="module")
def scripts() -> dict[str, ModuleType]:
    """The scripts as modules that find each other."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        return {name: importlib.import_module(name) for name in ("peers", "bench", *MODULES)}
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def lists() -> list[Candidates]:
    draw = random.Random(0)
    return [
        Candidates(
            f"q{number}",
            WORDS[number],
            tuple(Passage(f"d{place}", " ".join(draw.choices(WORDS, k=draw.randint(1, 30)))) for place in range(5)),
            (5.0, 4.0, 3.0, 2.0, 1.0),
        )
        for number in range(3)
    ]


def flat(scores):
    return [score for row in scores for score in row]


def test_tevatrons_loop_gives_our_scores(scripts, lists, make_folder):
    folder = str(make_folder(build_bert, head=True))
    ours = flat(Reranker.from_pretrained(folder, "cross_encoder").score_candidates(lists))
    pairs = [(one.query, passage.text) for one in lists for passage in one.passages]
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    theirs = scripts["peers"].tevatron_scores(model, AutoTokenizer.from_pretrained(folder), pairs, batch_size=4)
    assert scripts["bench_measure"].largest_difference(ours, theirs) < 1e-4


def test_all_logits_give_our_yes_tokens_scores_and_ours_makes_no_tensor_of_the_vocabularys_size(
    scripts, lists, make_folder
):
    folder = str(make_folder(build_causal, "llama"))
    reranker = Reranker.from_pretrained(folder, "yes_token")
    model, vocabulary = AutoModelForCausalLM.from_pretrained(folder).eval(), reranker.model.config.vocab_size
    prompts, answer = scripts["bench_rerank"].yes_prompts(reranker, lists)
    theirs = partial(
        scripts["peers"].full_logits_scores, model, AutoTokenizer.from_pretrained(folder), prompts, answer, 512, 4
    )
    with scripts["bench_measure"].Watch(vocabulary) as watch:
        ours = flat(reranker.score_candidates(lists))
    assert not watch.found
    with scripts["bench_measure"].Watch(vocabulary) as watch:
        assert scripts["bench_measure"].largest_difference(ours, theirs()) < 1e-4
    assert any(len(shape) == 3 for shape in watch.found)


@pytest.mark.parametrize(
    ("build", "auto_class"), [(build_causal, AutoModelForCausalLM), (build_t5, AutoModelForSeq2SeqLM)]
)
def test_the_published_prp_loop_gives_our_teachers_group(scripts, lists, make_folder, build, auto_class):
    folder, teaching = make_folder(build), scripts["bench_teach"]
    model = auto_class.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts, labels, begin = teaching.pair_prompts(tokenizer, lists[0], auto_class is AutoModelForSeq2SeqLM)
    answers = scripts["peers"].prp_answers(model, tokenizer, prompts, labels, begin)
    group = teaching.OurTeacher(str(folder)).teach(lists[0])
    ours = [probability for _, _, probability in group.preferences]
    assert scripts["bench_measure"].largest_difference(ours, teaching.preferences(answers)) < 1e-4
    assert list(group.permutation) == scripts["peers"].prp_permutation(5, answers)


def test_instruct_distills_training_loop_has_our_losses(scripts, lists, make_folder):
    folder, training = str(make_folder(build_causal, "llama")), scripts["bench_train"]
    groups = [Group(one.query_id, one.query, one.passages, (2, 0, 1, 4, 3), 5) for one in lists]
    trainer = training.our_trainer(folder, "yes_token", groups, 1)
    rows = [trainer.layout.rows(group) for group in groups]
    ours = trainer.train().training_loss
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [
        (
            [tokenizer.decode(row.input_ids, skip_special_tokens=True) for row in made],
            list(training.group_labels(group, "reciprocal")),
        )
        for made, group in zip(rows, groups, strict=True)
    ]
    losses = scripts["peers"].train_yes_token(
        AutoModelForCausalLM.from_pretrained(folder),
        *(tokenizer, prompts, trainer.layout.settings.yes_token_id),
        learning_rate=0.0,
        max_length=512,
    )
    assert sum(losses) / 3 == pytest.approx(ours, abs=1e-5)


def test_a_plain_rank_net_is_ours(scripts):
    scores, labels = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([[1.0, 0.5, 0.5]])
    ours = ranking_loss(LOSSES["rank_net"], scores, labels, torch.ones(1, 3, dtype=torch.bool), None)
    assert scripts["peers"].plain_rank_net(scores[0], labels[0]).item() == pytest.approx(ours.item())


@pytest.mark.parametrize("num_child", [1, 3, 9])
def test_llm_rankers_heap_finds_the_top_in_about_as_many_questions_as_ours(scripts, num_child):
    worth = random.Random(num_child).sample(range(100), 100)
    judge = partial(max, key=worth.__getitem__)
    found, asked = scripts["peers"].llm_rankers_heapsort(100, judge, num_child, 10)
    assert [worth[place] for place in found] == list(range(99, 89, -1))
    ours = scripts["bench_teach"].asked_by(SORTS["heapsort"](100, 10, num_child), worth)
    assert 0.9 * asked <= ours <= asked


def test_works_take_turns(scripts):
    order = []
    timed = scripts["bench_measure"].in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert order == ["a", "b"] * 3
    assert [len(timed[name].wall) for name in "ab"] == [3, 3]
    prepared = scripts["bench_measure"].in_turn({"a": lambda: lambda: 7}, 1, prepared=True)
    assert prepared["a"].result == 7


@pytest.mark.parametrize(("first", "second"), [([1.0], [1.0, 2.0]), ([math.nan], [1.0]), ([math.inf], [1.0])])
def test_scores_that_cannot_be_compared_are_infinitely_far_apart(scripts, first, second):
    assert scripts["bench_measure"].largest_difference(first, second) == math.inf


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_an_exponent_is_that_of_the_power_law(scripts, power):
    sizes = [10, 100, 1000, 5000]
    assert scripts["bench_measure"].exponent(sizes, [3.0 * size**power for size in sizes]) == pytest.approx(power)


def test_every_token_that_is_computed_is_counted(scripts, make_folder):
    model = AutoModelForSequenceClassification.from_pretrained(make_folder(build_bert, head=True))
    with scripts["bench_measure"].counting_tokens(model) as counted:
        model(input_ids=torch.ones(2, 7, dtype=torch.long))
        model(input_ids=torch.ones(1, 3, dtype=torch.long))
    assert counted.computed == 2 * 7 + 3
    t5 = AutoModelForSeq2SeqLM.from_pretrained(make_folder(build_t5))
    with scripts["bench_measure"].counting_tokens(t5) as counted:
        t5(input_ids=torch.ones(2, 7, dtype=torch.long), decoder_input_ids=torch.ones(2, 1, dtype=torch.long))
    assert counted.computed == 2 * 7 + 2


def outcome_of(scripts, ours, theirs, difference):
    measure = scripts["bench_measure"]
    timed = {"theirs": measure.Timed([theirs], [9.0]), "ours": measure.Timed([ours], [1.0])}
    return measure.compared(
        timed, measure.Setting(Path("models")), 1.4, {"scores": difference}, products=ours / 2, real_share=0.98
    )


def test_a_ratio_is_of_the_best_times_and_meets_its_reach(scripts):
    outcome = outcome_of(scripts, 2.0, 3.0, 1e-6)
    assert (outcome.ratio, outcome.met, outcome.measured) == (1.5, True, "1.50×")
    assert outcome.limit == "98.0% real tokens, products 50% of our time"
    assert outcome_of(scripts, 2.0, 2.0, 1e-6).met is False


def test_a_row_whose_scores_differ_fails_however_fast_it_is(scripts):
    outcome = outcome_of(scripts, 1.0, 9.0, 2e-4)
    assert outcome.measured == "fails: scores differ by 2.0e-04"
    assert outcome.met is False


def test_the_table_the_figures_and_the_picture_are_written(scripts, tmp_path):
    rows = scripts["bench_rows"].ROWS
    missing = scripts["bench_measure"].Outcome("not run: no | GPU")
    setting = scripts["bench_measure"].Setting(tmp_path)
    name = "rerank_tevatron"
    found = {name: (rows[name], outcome_of(scripts, 1.0, 4.0, 0.0)), "gpu_7b": (rows["gpu_7b"], missing)}
    scripts["bench_report"].write(tmp_path, found, setting)
    about, _, head, _, first, second = (tmp_path / "bench.md").read_text(encoding="utf-8").splitlines()
    assert "commit" in about
    assert head == "| work | against | measured | reach | met | limit |"
    assert first.split(" | ")[2:] == ["4.00×", "≥ 3.8×", "yes", "98.0% real tokens, products 50% of our time |"]
    assert "not run: no \\| GPU" in second
    content = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert content["rows"][name]["raw"]["seconds"]["theirs"]["wall"] == [4.0]
    assert content["rows"][name]["ratio"] == 4.0
    assert (tmp_path / "bench.png").read_bytes()[:4] == b"\x89PNG"


def test_growth_stands_in_the_table_with_its_exponents(scripts):
    runs = [scripts["bench_scale"].Measured(size, size / 100, 500.0) for size in (100, 1000)]
    [*_, line] = scripts["bench_report"].scaling_table({"rows": runs})
    assert line == "| rerank: rows, 20 a query | 100, 1,000 | 1.0, 10.0 | 1.00 | 500, 500 | 0.00 |"


def test_the_command_line_names_every_row(scripts):
    assert set(scripts["bench"].NAMES) == set(scripts["bench_rows"].ROWS)


def test_a_row_without_what_it_needs_says_what_to_set(scripts, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TEVATRON_DISTILL_DATA", raising=False)
    monkeypatch.setattr(scripts["bench"].os, "environ", dict(scripts["bench"].os.environ))
    rows = {
        "real_tokens": SimpleNamespace(
            **{**scripts["bench_rows"].ROWS["real_tokens"]._asdict(), "run": lambda setting: missing(scripts)}
        )
    }
    monkeypatch.setattr(scripts["bench_rows"], "ROWS", rows)
    monkeypatch.setattr(sys, "argv", ["bench.py", "--rows", "real_tokens", "--output_dir", str(tmp_path)])
    threads = torch.get_num_threads()
    try:
        scripts["bench"].main()
    finally:
        torch.set_num_threads(threads)
        scripts["bench"].logging.disable(scripts["bench"].logging.NOTSET)
    assert "not run: set TEVATRON_DISTILL_DATA" in capsys.readouterr().out
    assert "not run: set" in (tmp_path / "bench.md").read_text(encoding="utf-8")


def missing(scripts):
    return scripts["bench_rerank"].bench_inputs.data_file("nfcorpus.zip")


def test_all_pairs_are_asked_in_both_orders(scripts, lists, make_folder):
    tokenizer = AutoTokenizer.from_pretrained(make_folder(build_causal, "llama"))
    prompts, labels, begin = scripts["bench_teach"].pair_prompts(tokenizer, lists[0], False)
    assert len(prompts) == len(list(itertools.permutations(range(5), 2)))
    assert tokenizer.convert_ids_to_tokens(labels) == ["ĠA", "ĠB"]
    assert begin == []

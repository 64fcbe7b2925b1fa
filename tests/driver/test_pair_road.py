"""A student that compares on the whole road: pairs drawn, trained, evaluated and ranked by its own flags."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import WORDS, build_bert

from tevatron_distill.driver import rerank, train
from tevatron_distill.formats.groups import group_to_line, read_groups
from tevatron_distill.formats.runs import read_run
from tevatron_distill.metrics import evaluate
from tevatron_distill.schema import Group, InputError, Passage
from tevatron_distill.trainer import eval_judgements


def groups(count: int = 4) -> list[Group]:
    """Queries with two to five passages; the teacher likes the last ones, and two of the first query are equal."""
    chance = random.Random(1)
    made = []
    for number in range(count):
        size = 2 + number % 4
        texts = [" ".join(["red"] * place + chance.sample(WORDS[2:], 5)) for place in range(size)]
        if number == 0:
            texts[1] = texts[0]
        passages = tuple(Passage(f"d{number}{place}", text) for place, text in enumerate(texts))
        scores = tuple(float(place > 0) for place in range(size))
        order = tuple(reversed(range(size)))
        made.append(Group(f"q{number}", WORDS[number], passages, order, size, scores=scores))
    return made


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "groups.jsonl"
    path.write_text("".join(group_to_line(group) + "\n" for group in groups()))
    return path


@pytest.fixture
def command(path, tmp_path, make_folder):
    def build(*more: str) -> list[str]:
        return [
            *("--model_name_or_path", str(make_folder(build_bert)), "--student", "pair_ranker", "--use_cpu"),
            *("--dataset_path", str(path), "--train_group_size", "5", "--per_device_train_batch_size", "1"),
            *("--output_dir", str(tmp_path / "out"), "--report_to", "none", "--logging_steps", "1"),
            *("--max_steps", "4", "--save_strategy", "no", "--rerank_max_len", "96", *more),
        ]

    return build


def history(folder: Path) -> list[dict[str, float]]:
    return json.loads((folder / "run_config.json").read_text())["report"]["log_history"]


@pytest.mark.parametrize("sampling", ["top_bottom", "all_pair", "uniform", "random", "all"])
def test_every_sampling_of_pairs_trains_and_a_group_of_equal_texts_costs_nothing(command, tmp_path, sampling):
    train.main(command("--loss", "rank_net", "--pair_sampling", sampling, "--num_pos", "2", "--num_neg", "2"))
    losses = [entry["loss"] for entry in history(tmp_path / "out") if "loss" in entry]
    assert len(losses) == 4
    assert sorted(losses)[0] == 0.0 < sorted(losses)[1]
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("loss", ["rank_net", "margin_mse", "margin_rank", "pair_bce", "pair_mse", "open_instruct_bce"])
@pytest.mark.filterwarnings("ignore:.*was not present in.*modules_to_save.*")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_every_loss_over_pairs_trains_an_adapter_that_ranks(command, path, tmp_path, loss):
    train.main(command("--loss", loss, "--lora", "--activation_checkpointing"))
    rerank.main(
        [
            *("--model_name_or_path", str(tmp_path / "out"), "--dataset_path", str(path), "--use_cpu"),
            *("--rerank_output_path", str(tmp_path / "run.tsv"), "--output_dir", str(tmp_path / "temp")),
        ]
    )
    assert {query: len(row) for query, row in read_run(tmp_path / "run.tsv").items()} == {
        f"q{number}": 2 + number % 4 for number in range(4)
    }


def test_preferences_of_a_pairwise_teacher_are_learned_pair_by_pair_in_bfloat16(command, path, tmp_path):
    asked = [replace(group, preferences=((0, len(group.passages) - 1, 0.25),)) for group in groups()]
    path.write_text("".join(group_to_line(group) + "\n" for group in asked))
    train.main(command("--loss", "rank_net", "--labels", "preferences", "--bf16"))
    losses = [entry["loss"] for entry in history(tmp_path / "out") if "loss" in entry]
    assert sorted(losses) == pytest.approx([0.0] + [math.log(2)] * 3, abs=0.1)  # equal texts, and a head without a clue


def test_evaluation_in_training_measures_what_reranking_gives(command, path, tmp_path):
    untied = groups()[1:]  # equal texts share their score, and the two measures settle a tie by name and by place
    path.write_text("".join(group_to_line(group) + "\n" for group in untied))
    train.main(command("--eval_dataset_path", str(path), "--eval_strategy", "steps", "--eval_steps", "4"))
    [entry] = [entry for entry in history(tmp_path / "out") if "eval_loss" in entry]
    rerank.main(
        [
            *("--model_name_or_path", str(tmp_path / "out"), "--dataset_path", str(path), "--use_cpu"),
            *("--rerank_output_path", str(tmp_path / "run.tsv"), "--output_dir", str(tmp_path / "temp")),
        ]
    )
    qrels, _ = eval_judgements(read_groups(path), None)
    expected = evaluate(read_run(tmp_path / "run.tsv"), qrels, ["nDCG@10"]).mean["nDCG@10"]
    assert entry["eval_teacher_nDCG@10"] == pytest.approx(expected, abs=1e-6)


def test_how_to_rank_is_asked_for_without_a_warning_and_with_depth(command, path, tmp_path, caplog):
    train.main(command("--inference_mode", "bubble", "--num_passes", "1"))
    saved = json.loads((tmp_path / "out" / "reranker_config.json").read_text())
    assert (saved["student"], saved["inference_mode"], saved["num_passes"]) == ("pair_ranker", "bubble", 1)
    for number, flags in enumerate(((), ("--inference_mode", "heapsort", "--orders", "1"), ("--depth", "2"))):
        caplog.clear()
        run = tmp_path / f"run{number}.tsv"
        rerank.main(
            [
                *("--model_name_or_path", str(tmp_path / "out"), "--dataset_path", str(path), "--use_cpu"),
                *("--rerank_output_path", str(run), "--output_dir", str(tmp_path / "temp"), *flags),
            ]
        )
        assert "now used with" not in caplog.text
        sizes = [len(row) for row in read_run(run).values()]
        assert sizes == ([2, 2, 2, 2] if "--depth" in flags else [2, 3, 4, 5])
        assert all(len(set(row.values())) == len(row) for row in read_run(run).values())


def test_losses_and_students_that_do_not_fit_are_refused_before_training(command):
    with pytest.raises(InputError, match=r"learns from scores, which the student pair_ranker does not give.*pair_bce"):
        train.main(command("--loss", "softmax_ce"))
    with pytest.raises(InputError, match="learns from pair_scores, which the student cross_encoder does not give"):
        train.main(command("--loss", "pair_bce", "--student", "cross_encoder"))
    for flags, message in (
        (("--orders", "3"), "--orders must be 1 or 2"),
        (("--query_max_len", "90", "--passage_max_len", "40"), "must fit into rerank_max_len"),
    ):
        with pytest.raises(InputError, match=message):
            train.main(command(*flags))
    for flags in (("--inference_mode", "tree"), ("--pair_aggregation", "sum"), ("--pair_sampling", "some")):
        with pytest.raises((InputError, SystemExit)):
            train.main(command(*flags))

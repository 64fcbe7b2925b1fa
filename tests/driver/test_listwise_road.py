"""The listwise student through the drivers: train, rerank, and what the flags mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import WORDS

from tevatron_distill.driver.rerank import main as rerank
from tevatron_distill.driver.train import main as train
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.schema import Group, InputError, Passage
from tevatron_distill.training_arguments import DistillTrainingArguments


@pytest.fixture
def groups() -> list[Group]:
    """Three queries whose teacher puts the passages in an order that the first stage does not have."""
    orders = [(2, 0, 1), (1, 2, 0), (2, 1, 0)]
    return [
        Group(
            f"q{number}",
            WORDS[number],
            tuple(Passage(f"d{number}{place}", WORDS[5 * number + place]) for place in range(3)),
            order,
            3,
        )
        for number, order in enumerate(orders)
    ]


@pytest.fixture
def groups_path(tmp_path, groups) -> Path:
    path = tmp_path / "groups.jsonl"
    path.write_text("".join(group_to_line(group) + "\n" for group in groups), encoding="utf-8")
    return path


def train_flags(model: Path, path: Path, output: Path, *more: object) -> list[str]:
    words = ["--student", "listwise", "--model_name_or_path", model, "--dataset_path", path, "--output_dir", output]
    fixed = ["--use_cpu", "--per_device_train_batch_size", 3, "--learning_rate", 0.01, "--report_to", "none"]
    return [str(word) for word in (*words, *fixed, "--disable_tqdm", "true", "--train_group_size", 3, *more)]


def rerank_flags(model: Path, path: Path, output: Path, *more: object) -> list[str]:
    words = ["--model_name_or_path", model, "--dataset_path", path, "--rerank_output_path", output, "--use_cpu"]
    return [str(word) for word in (*words, "--output_dir", output.parent / "unused", *more)]


def orders_of(run: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in run.read_text(encoding="utf-8").splitlines():
        query_id, docid, _ = line.split("\t")
        found.setdefault(query_id, []).append(docid)
    return found


@pytest.mark.parametrize(
    ("objective", "steps"),
    [
        (("--objective", "combined", "--loss", "rank_net", "--weighted"), 60),
        (("--objective", "ranking", "--loss", "list_mle"), 60),
        (("--objective", "generation", "--decode", "generation", "--prompt", "rank_zephyr"), 140),
    ],
    ids=["first", "ranking", "rank_zephyr"],
)
def test_trained_on_a_teachers_groups_it_ranks_in_the_teachers_order(
    llama_folder, groups_path, groups, tmp_path, capsys, objective, steps
):
    train(train_flags(llama_folder, groups_path, tmp_path / "student", *objective, "--max_steps", steps))
    rerank(rerank_flags(tmp_path / "student", groups_path, tmp_path / "run.txt"))
    expected = {one.query_id: [one.passages[place].docid for place in one.permutation] for one in groups}
    assert orders_of(tmp_path / "run.txt") == expected
    settings = RerankerSettings.read(tmp_path / "student")
    assert (settings.student, settings.window_size, settings.rerank_max_len) == ("listwise", 20, 1024)
    if "generation" in objective:
        assert "0 of 3 generated answers were malformed and repaired: none" in capsys.readouterr().out


def test_malformed_answers_are_counted_in_the_report(llama_folder, groups_path, tmp_path, capsys):
    more = ("--student", "listwise", "--decode", "generation", "--window_size", 2, "--step_size", 1)
    rerank(rerank_flags(llama_folder, groups_path, tmp_path / "run.txt", *more))
    assert "6 of 6 generated answers were malformed and repaired: missing 6, wrong_format 6" in capsys.readouterr().out
    [record] = [json.loads(path.read_text()) for path in tmp_path.glob("*run_config*.json")]
    found = json.dumps(record)
    assert '"malformed_answers": 6' in found
    assert '"answers_missing": 6' in found


@pytest.mark.parametrize(
    ("flags", "weights"),
    [
        ({}, (1.0, {})),
        ({"loss": "list_net"}, (0.1, {})),
        ({"loss": "rank_net"}, (1.0, {})),
        ({"loss": "rank_net", "weighted": True}, (10.0, {})),
        ({"loss": "ndcg_loss2", "objective": "combined"}, (1.0, {})),
        ({"loss": "rank_net", "weighted": True, "ranking_weight": 2.5}, (2.5, {})),
        ({"objective": "generation", "loss": "rank_net"}, (0.0, {})),
        ({"objective": "ranking", "loss": "list_net"}, (1.0, {"lm": 0.0})),
        ({"objective": "ranking", "ranking_weight": 3.0}, (3.0, {"lm": 0.0})),
    ],
)
def test_an_objective_weighs_its_terms_as_rankllm_does(tmp_path, flags, weights):
    arguments = DistillTrainingArguments(str(tmp_path), use_cpu=True, **flags)
    assert arguments.loss_weights({"lm": 1.0}) == weights


def test_students_without_an_answer_learn_by_ranking_alone(tmp_path):
    assert DistillTrainingArguments(str(tmp_path), use_cpu=True).loss_weights({}) == (1.0, {})
    arguments = DistillTrainingArguments(str(tmp_path), use_cpu=True, objective="generation")
    with pytest.raises(InputError, match="--objective generation needs a student that writes an answer"):
        arguments.loss_weights({"balance": 0.01})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"objective": "guess"}, "--objective must be one of ranking, generation, combined"),
        ({"weighted": True, "loss": "list_net"}, "--weighted weighs the pairs of --loss rank_net; got --loss list_net"),
        ({"ranking_weight": 0.0}, "--ranking_weight must be more than 0"),
    ],
)
def test_flags_that_do_not_fit_are_refused(tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        DistillTrainingArguments(str(tmp_path), use_cpu=True, **flags)


def test_identifiers_of_several_tokens_cannot_be_learned_by_their_logits(llama_folder, groups_path, tmp_path):
    more = ("--prompt", "rank_zephyr", "--decode", "generation", "--loss", "rank_net", "--max_steps", 1)
    with pytest.raises(InputError, match="use --objective generation, or a --prompt with letters"):
        train(train_flags(llama_folder, groups_path, tmp_path / "student", *more))


def test_evaluation_lists_beyond_the_letters_are_refused_before_training(llama_folder, groups_path, groups, tmp_path):
    many = tuple(Passage(f"d{place}", "red") for place in range(30))
    path = tmp_path / "eval.jsonl"
    path.write_text(group_to_line(Group("e", "red", many, tuple(range(30)), 30)) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="identifiers of 30 passages must be single tokens"):
        train(train_flags(llama_folder, groups_path, tmp_path / "student", "--eval_dataset_path", path))


def test_variable_windows_in_random_order_come_from_the_dataset(llama_folder, groups_path, tmp_path):
    more = ("--min_group_size", 2, "--shuffle_passages", "--neftune_noise_alpha", 5, "--max_steps", 2)
    train(train_flags(llama_folder, groups_path, tmp_path / "student", *more))
    assert (tmp_path / "student" / "model.safetensors").is_file()

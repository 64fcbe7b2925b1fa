"""The flags that say how rows are read."""

from __future__ import annotations

import dataclasses

import pytest

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.data import DatasetArguments, ReadingArguments, TrainDataArguments
from tevatron_distill.formats.reading import ReadOptions
from tevatron_distill.schema import InputError


def test_every_flag_is_an_option_of_the_readers():
    flags = {field.name: field.default for field in dataclasses.fields(ReadingArguments)}
    options = {field.name: field.default for field in dataclasses.fields(ReadOptions)}
    assert flags.items() <= options.items()
    assert ReadingArguments().reading() == ReadOptions()


def test_the_words_of_the_command_line_reach_the_readers():
    words = (
        "--dataset_path rows.json --using_metrics bleu --n_candidates 3 --unfold_each_positive --max_train_data_size 9"
    )
    (args,) = parse_arguments([*words.split(), "--max_eval_data_size", "5"], TrainDataArguments)
    assert args.reading() == ReadOptions(using_metrics="bleu", n_candidates=3, unfold_each_positive=True)
    evaluation = args.reading_for_evaluation()
    assert (evaluation.max_queries, evaluation.using_metrics, evaluation.only_fitting) == (5, "bleu", True)


def test_a_datasets_name_may_stand_in_the_paths_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = DatasetArguments(dataset_path="castorini/rank_zephyr_training_data")
    assert (args.dataset_name, args.dataset_path) == ("castorini/rank_zephyr_training_data", None)
    (tmp_path / "data" / "rows").mkdir(parents=True)
    for path in ("data/rows", "data/rows.jsonl", "data/rows.jsonl.gz", "rows", "a/b/c", "data/*"):
        assert DatasetArguments(dataset_path=path).dataset_path == path


def test_an_unknown_dialect_is_refused():
    with pytest.raises(InputError, match="--dataset_format must be one of auto, groups, rank_llm_conversations"):
        ReadingArguments(dataset_format="csv")

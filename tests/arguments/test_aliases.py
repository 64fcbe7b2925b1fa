"""Command lines of other projects, read as what they meant there."""

from __future__ import annotations

import json
import logging

import pytest

from tevatron_distill.arguments import parse_arguments
from tevatron_distill.arguments.aliases import ALIASES, canonical_words
from tevatron_distill.arguments.data import DatasetArguments, TrainDataArguments
from tevatron_distill.arguments.model import LayoutArguments, ModelArguments
from tevatron_distill.arguments.rerank import RerankArguments
from tevatron_distill.arguments.retrieve import RetrieveArguments
from tevatron_distill.arguments.teach import TeachArguments
from tevatron_distill.schema import InputError
from tevatron_distill.training_arguments import DistillTrainingArguments

DRIVERS = {
    "train": (ModelArguments, LayoutArguments, TrainDataArguments, DistillTrainingArguments),
    "rerank": (ModelArguments, LayoutArguments, DatasetArguments, RerankArguments, DistillTrainingArguments),
    "retrieve": (RetrieveArguments,),
    "teach": (DatasetArguments, TeachArguments),
}
KNOWN = {
    verb: {name for kind in kinds for name in kind.__dataclass_fields__} | {"help"} for verb, kinds in DRIVERS.items()
}


def ours(verb: str, line: str) -> dict[str, str]:
    """A foreign command line as our flags and their values."""
    words, foreign = canonical_words(line.split(), KNOWN[verb], verb)
    assert foreign
    flags: dict[str, str] = {}
    for word in words:
        if word.startswith("--"):
            name = word[2:]
            flags[name] = ""
        else:
            flags[name] = f"{flags[name]} {word}".strip()
    assert set(flags) <= KNOWN[verb], sorted(set(flags) - KNOWN[verb])
    return flags


@pytest.mark.parametrize("name", ALIASES)
def test_every_flag_of_the_table_leads_to_one_of_ours(name):
    for alias in ALIASES[name]:
        verbs = alias.verbs or tuple(DRIVERS)
        for flag in (*([alias.to] if alias.to else []), *(flag for added in alias.adds.values() for flag in added)):
            assert any(flag in KNOWN[verb] for verb in verbs), (name, flag)


@pytest.mark.parametrize("name", ALIASES)
def test_no_flag_of_the_table_hides_one_of_ours(name):
    for alias in ALIASES[name]:
        for verb in alias.verbs or DRIVERS:
            assert name not in KNOWN[verb] or alias.values


def test_rank_llms_training_of_first_mistral(tmp_path):
    flags = ours(
        "train",
        "--model_name_or_path mistralai/Mistral-7B-Instruct-v0.3 "
        "--train_dataset_path rryisthebest/rank_zephyr_training_data_alpha --num_train_epochs 3 --seed 42 "
        "--per_device_train_batch_size 8 --gradient_accumulation_steps 4 --lr_scheduler_type cosine "
        "--num_warmup_steps 50 --gradient_checkpointing --output_dir out --noisy_embedding_alpha 5 "
        "--objective combined --ranking_loss ranknet --weighted --with_tracking --report_to none "
        "--checkpointing_steps epoch",
    )
    assert flags == {
        "model_name_or_path": "mistralai/Mistral-7B-Instruct-v0.3",
        "student": "listwise",
        "dataset_name": "rryisthebest/rank_zephyr_training_data_alpha",
        "num_train_epochs": "3",
        "seed": "42",
        "per_device_train_batch_size": "8",
        "gradient_accumulation_steps": "4",
        "lr_scheduler_type": "cosine",
        "warmup_steps": "50",
        "gradient_checkpointing": "",
        "output_dir": "out",
        "neftune_noise_alpha": "5",
        "objective": "combined",
        "loss": "rank_net",
        "weighted": "",
        "report_to": "none",
        "save_strategy": "epoch",
    }
    rows = tmp_path / "rows.json"
    rows.write_text("[]")
    assert ours("train", f"--train_dataset_path {rows} --checkpointing_steps 500") == {
        "dataset_path": str(rows),
        "student": "listwise",
        "objective": "generation",
        "loss": "ndcg_loss2",
        "save_strategy": "steps",
        "save_steps": "500",
    }


def test_rank_llms_reranking_with_logits_and_letters():
    line = (
        "--model_path=castorini/first_mistral --top_k_candidates=100 --dataset=dl20 --retrieval_method=BM25 "
        "--prompt_template_path=src/rank_llm/rerank/prompt_templates/rank_zephyr_template.yaml --context_size=4096 "
        "--variable_passages --use_logits --use_alpha --num_gpus 1 --output_trec_file run.txt"
    )
    assert ours("rerank", line) == {
        "model_name_or_path": "castorini/first_mistral",
        "student": "listwise",
        "decode": "logits",
        "depth": "100",
        "dataset_path": "retrieve_results/BM25/retrieve_results_dl20.json",
        "prompt": "rank_zephyr_alpha",
        "rerank_max_len": "4096",
        "rerank_output_path": "run.txt",
        "output_format": "trec",
    }


def test_rank_llm_without_logits_generates_numbers():
    line = "--model-path m --requests-file r.jsonl --stride 5 --window_size 10 --num_passes 3 --prompt_template_path "
    flags = ours("rerank", line + "a/rank_zephyr_template.yaml")
    assert flags["decode"] == "generation"
    assert flags["prompt"] == "rank_zephyr"
    assert (flags["step_size"], flags["window_size"], flags["num_passes"]) == ("5", "10", "3")


BLENDER = (
    "--model_type deberta --model_name microsoft/deberta-v3-large --run_name r --train_data_path a.json "
    "--eval_data_path b.json --test_data_path c.json --n_candidates -1 --candidate_model= --candidate_decoding_method= "
    "--using_metrics bartscore --learning_rate 1e-5 --source_maxlength 128 --candidate_maxlength 64 --do_train True "
    "--do_eval True --do_predict True --load_checkpoint= --max_train_data_size -1 --max_grad_norm 10e10 --fp16 True "
    "--overwrite_output_dir True "
)


@pytest.mark.parametrize("spelling", ["PairRanker", "Pairranker", "pairranker"])
def test_blenders_pair_ranker(spelling):
    flags = ours(
        "train",
        f"--ranker_type {spelling} {BLENDER} --inference_mode bubble --num_pos 5 --num_neg 5 --loss_type instructgpt "
        "--sub_sampling_mode all_pair",
    )
    assert (flags["student"], flags["train_group_size"]) == ("pair_ranker", "1000")
    assert flags["model_name_or_path"] == "microsoft/deberta-v3-large"
    assert (flags["dataset_path"], flags["eval_dataset_path"], flags["test_dataset_path"]) == (
        "a.json",
        "b.json",
        "c.json",
    )
    assert (flags["query_max_len"], flags["passage_max_len"]) == ("128", "64")
    assert (flags["loss"], flags["pair_sampling"], flags["inference_mode"]) == ("rank_net", "all_pair", "bubble")
    assert (flags["num_pos"], flags["num_neg"], flags["using_metrics"]) == ("5", "5", "bartscore")
    assert flags["max_train_data_size"] == "-1"
    assert not {"rerank_max_len", "candidate_model", "candidate_decoding_method"} & {
        name for name, value in flags.items() if value
    }


@pytest.mark.parametrize("spelling", ["SummaReranker", "Summareranker", "Summaranker"])
def test_blenders_summa_reranker_reads_one_row_of_both_lengths(spelling):
    flags = ours("train", f"--ranker_type {spelling} {BLENDER} --loss_type MoE_BCE --sub_sampling_mode top_bottom")
    assert (flags["student"], flags["loss"], flags["group_sampling"]) == ("summa_reranker", "metric_bce", "top_bottom")
    assert flags["rerank_max_len"] == str(128 + 64)


@pytest.mark.parametrize("spelling", ["SimCLS", "simcls", "dual"])
def test_blenders_simcls_samples_by_a_stride(spelling):
    flags = ours(
        "train",
        f"--ranker_type {spelling} {BLENDER} --loss_type simcls --sub_sampling_mode uniform --sub_sampling_ratio 0.3",
    )
    assert (flags["student"], flags["loss"]) == ("simcls", "margin_rank")
    assert (flags["group_sampling"], flags["sub_sampling_ratio"]) == ("stride", "0.3")


def test_blenders_checkpoint_counts_before_the_backbone():
    flags = ours("train", "--ranker_type PairRanker --model_name roberta-base --load_checkpoint best --adafactor True")
    assert (flags["model_name_or_path"], flags["optim"]) == ("best", "adafactor")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cross-encoder", {"student": "cross_encoder", "loss": "pointwise_bce", "labels": "judgements"}),
        ("colbert", {"student": "colbert", "loss": "softmax_ce", "colbert_convention": "open_retrievals"}),
        ("llm", {"student": "llm_ranker", "loss": "softmax_ce"}),
    ],
)
def test_open_retrievals_training(kind, expected):
    flags = ours(
        "train",
        f"--output_dir o --overwrite_output_dir --model_name_or_path m --model_type {kind} --causal_lm True --do_train "
        "--data_name_or_path C-MTEB/T2Reranking:zh/dev --positive_key positive --negative_key negative "
        "--query_max_length 128 --max_len 256 --train_group_size 4 --unfold_each_positive false --use_lora True "
        "--use_inbatch_negative False --query_instruction A: --document_instruction B: --task_prompt Answer",
    )
    assert expected.items() <= flags.items()
    assert (flags["dataset_name"], flags["dataset_config"], flags["dataset_split"]) == (
        "C-MTEB/T2Reranking",
        "zh",
        "dev",
    )
    length = flags["passage_max_len" if kind == "colbert" else "rerank_max_len"]
    assert (flags["query_max_len"], length, flags["lora"]) == ("128", "256", "True")
    assert (flags["positive_key"], flags["query_prefix"], flags["passage_prefix"]) == ("positive", "A:", "B:")


def test_instruct_distills_two_programs():
    assert ours("teach", "--model m --eval false --generate true --data d.jsonl --save_path out.json") == {
        "model_name_or_path": "m",
        "dataset_path": "d.jsonl",
        "permutation_path": "out.json",
        "output_path": "out.groups.jsonl",
    }
    line = "--model m --loss rank_net --data d.jsonl --save_path o --permutation p.json --do_train true --do_eval false"
    assert ours("train", line) == {
        "model_name_or_path": "m",
        "student": "yes_token",
        "loss": "rank_net",
        "dataset_path": "d.jsonl",
        "output_dir": "o",
        "permutation_path": "p.json",
        "do_train": "true",
        "do_eval": "false",
    }


@pytest.mark.parametrize(("theirs", "pooling"), [("eos", "last"), ("last", "last"), ("avg", "mean"), ("first", "cls")])
def test_tevatrons_dense_encoding_and_search(theirs, pooling):
    flags = ours(
        "retrieve",
        f"--model_name_or_path meta/base --lora_name_or_path castorini/repllama --pooling {theirs} --normalize "
        "--bf16 True --query_prefix query: --passage_prefix passage: --append_eos_token --query_max_len 32 "
        "--passage_max_len 156 --save_ranking_to run.txt --depth 1000",
    )
    assert flags == {
        "retriever": "dense",
        "encoder_name_or_path": "meta/base",
        "lora_name_or_path": "castorini/repllama",
        "pooling": pooling,
        "normalize": "",
        "dtype": "bfloat16",
        "query_prefix": "query:",
        "passage_prefix": "passage:",
        "append_eos_token": "",
        "query_max_len": "32",
        "passage_max_len": "156",
        "output_path": "run.txt",
        "depth": "1000",
    }


def test_what_cannot_be_taken_says_what_to_do():
    with pytest.raises(InputError, match=r"--num_gpus 4 \(RankLLM\).*torchrun --nproc_per_node"):
        canonical_words(["--num_gpus", "4"], KNOWN["rerank"], "rerank")
    with pytest.raises(InputError, match=r"--eval true \(InstructDistill\).*evaluate"):
        canonical_words(["--eval", "true"], KNOWN["teach"], "teach")


def test_the_users_own_flag_counts_before_an_implied_one():
    flags = ours("train", "--student cross_encoder --train_dataset_path x")
    assert flags["student"] == "cross_encoder"


def test_the_canonical_command_is_logged_and_a_file_of_foreign_flags_is_read(tmp_path, caplog):
    config = tmp_path / "theirs.json"
    config.write_text(json.dumps({"model_path": "m", "requests_file": "r.jsonl", "rerank_output_path": "o.tsv"}))
    with caplog.at_level(logging.INFO):
        model_args, _, data_args, *_ = parse_arguments([str(config)], *DRIVERS["rerank"], prog="rerank")
    assert (model_args.model_name_or_path, data_args.dataset_path) == ("m", "r.jsonl")
    assert "python -m tevatron_distill.driver.rerank --model_name_or_path m --student listwise" in caplog.text


def test_our_own_command_line_is_left_as_it_is():
    words = ["--model_name_or_path", "m", "--dataset-path", "x", "--lora"]
    assert canonical_words(words, KNOWN["train"], "train") == (
        ["--model_name_or_path", "m", "--dataset_path", "x", "--lora"],
        False,
    )

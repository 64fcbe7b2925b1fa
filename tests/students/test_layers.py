"""Students that begin as some layers of a deeper backbone."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import train_byte_level, train_unigram, train_wordpiece
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AlbertConfig,
    AlbertModel,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    Gemma2Config,
    Qwen3Config,
    T5Config,
    T5ForConditionalGeneration,
)

from tevatron_distill.arguments.model import ModelArguments
from tevatron_distill.driver import train
from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, LoraOptions, load_student
from tevatron_distill.students.layers import spaced

TINY = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}


def deep_bert(folder):
    config = BertConfig(vocab_size=len(train_wordpiece(folder)), num_hidden_layers=6, **TINY)
    BertModel(config).save_pretrained(folder)
    return folder


def deep_causal(folder, config_class):
    tokenizer = train_byte_level(folder, pad="<pad>")
    config = config_class(
        vocab_size=len(tokenizer), num_hidden_layers=4, num_key_value_heads=2, head_dim=8, sliding_window=8, **TINY
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def deep_qwen3(folder):
    return deep_causal(folder, Qwen3Config)


def deep_gemma2(folder):
    return deep_causal(folder, Gemma2Config)


def deep_t5(folder):
    config = T5Config(
        vocab_size=len(train_unigram(folder)), d_model=32, d_kv=8, d_ff=64, num_layers=4, num_decoder_layers=2,
        num_heads=4, decoder_start_token_id=0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def cut(folder, student, number, **options):
    return load_student(str(folder), student, options=LoadOptions(True, num_hidden_layers=number, **options))


@given(st.integers(1, 40), st.data())
def test_layers_are_evenly_spaced_and_the_first_is_among_them(count, data):
    number = data.draw(st.integers(1, count))
    places = spaced(count, number)
    gaps = {after - before for before, after in zip(places, [*places[1:], count], strict=True)}
    assert places[0] == 0
    assert len(places) == number
    assert gaps <= {count // number, count // number + 1}


def test_what_is_left_are_layers_of_the_backbone(tmp_path):
    whole = BertModel.from_pretrained(deep_bert(tmp_path))
    left = cut(tmp_path, "cross_encoder", 3).model
    assert left.config.num_hidden_layers == 3
    for place, layer in enumerate(left.bert.encoder.layer):
        for name, value in layer.named_parameters():
            assert torch.equal(value, whole.encoder.layer[2 * place].get_parameter(name)), name


@pytest.mark.parametrize(
    ("build", "student"),
    [
        (deep_bert, "cross_encoder"),
        (deep_bert, "colbert"),
        (deep_bert, "summa_reranker"),
        (deep_bert, "pair_ranker"),
        (deep_qwen3, "yes_token"),
        (deep_gemma2, "cross_encoder"),
        (deep_qwen3, "listwise"),
        (deep_t5, "yes_token"),
    ],
)
def test_a_saved_folder_has_the_layers_that_were_left_and_ranks_alike(build, student, tmp_path):
    loaded = cut(build(tmp_path / "deep"), student, 2)
    loaded.model.save_pretrained(tmp_path / "two")
    loaded.tokenizer.save_pretrained(tmp_path / "two")
    loaded.layout.settings.save(tmp_path / "two")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    assert config.get("num_hidden_layers", config.get("num_layers")) == 2
    again = load_student(str(tmp_path / "two"))
    passages = (Passage("a", "one two three"), Passage("b", "red green blue yellow"))
    candidates = [Candidates("q", "red", passages, (2.0, 1.0))]
    scores = [list(Reranker(one.model, one.layout).score_candidates(candidates)) for one in (loaded, again)]
    assert scores[0] == scores[1]


def test_kinds_of_layers_stay_with_their_layers(tmp_path):
    model = cut(deep_gemma2(tmp_path), "yes_token", 2).model
    assert model.config.layer_types == ["sliding_attention", "sliding_attention"]  # the first and the third of four
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1]


@pytest.mark.parametrize(
    ("number", "options", "message"),
    [
        (7, {}, "must be at most 6, for it has no more; got 7"),
        (3, {"lora": LoraOptions()}, "an adapter names the whole one; train without --lora"),
    ],
)
def test_what_cannot_be_left_is_refused(number, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        cut(deep_bert(tmp_path), "cross_encoder", number, **options)


def test_an_adapters_folder_is_refused(tmp_path):
    loaded = load_student(str(deep_bert(tmp_path / "deep")), options=LoadOptions(True, lora=LoraOptions()))
    loaded.model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(InputError, match="an adapter names the whole one"):
        cut(tmp_path / "adapter", "cross_encoder", 3)


def test_layers_that_are_one_are_refused(tmp_path):
    config = AlbertConfig(vocab_size=len(train_wordpiece(tmp_path)), embedding_size=16, num_hidden_layers=6, **TINY)
    AlbertModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot tell the layers of albert; train it with all of them"):
        cut(tmp_path, "cross_encoder", 3)


def test_no_layer_at_all_is_refused():
    with pytest.raises(InputError, match="--num_hidden_layers must be at least 1; got 0"):
        ModelArguments("folder", num_hidden_layers=0)


def test_training_saves_a_student_of_fewer_layers(tmp_path, toy_groups):
    lines = "".join(group_to_line(group) + "\n" for group in toy_groups)
    (tmp_path / "groups.jsonl").write_text(lines, encoding="utf-8")
    words = ["--model_name_or_path", str(deep_bert(tmp_path / "deep")), "--num_hidden_layers", "2", "--use_cpu"]
    words += ["--dataset_path", str(tmp_path / "groups.jsonl"), "--output_dir", str(tmp_path / "out")]
    train.main([*words, "--max_steps", "2", "--save_strategy", "no", "--report_to", "none", "--disable_tqdm", "True"])
    assert len(load_student(str(tmp_path / "out")).model.bert.encoder.layer) == 2

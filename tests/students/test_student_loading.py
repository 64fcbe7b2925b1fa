"""The pad rule, saved settings, folders that would score at random, adapters of another task."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import build_bert, build_causal, train_byte_level, train_unigram, train_wordpiece
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.loading import set_pad_token
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.students.loading import cut_text, find_file

TRAINING = LoadOptions(training=True)


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({"pad": "<pad>"}, "<pad>"),
        ({"pad": None, "unk": "<unk>"}, "<unk>"),
        ({"pad": "</s>", "unk": "<unk>"}, "<unk>"),
        ({"pad": "<unk>", "unk": "<unk>"}, "<unk>"),
    ],
)
def test_the_pad_token_is_the_own_one_then_the_unknown_one(tmp_path, keywords, expected):
    tokenizer = train_byte_level(tmp_path, **keywords)
    assert set_pad_token(tokenizer) == tokenizer.convert_tokens_to_ids(expected)
    assert tokenizer.pad_token == expected


@pytest.mark.parametrize("unknown", [None, "</s>"])
def test_the_pad_token_never_ends_or_begins_a_sequence(tmp_path, unknown):
    tokenizer = train_byte_level(tmp_path, pad=None, unk=unknown)
    assert set_pad_token(tokenizer) not in (tokenizer.eos_token_id, tokenizer.bos_token_id)


def test_a_reserved_special_token_is_taken_before_a_word(tmp_path):
    tokenizer = train_byte_level(tmp_path, pad=None)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|reserved|>", "<|right_pad_id|>"]})
    set_pad_token(tokenizer)
    assert tokenizer.pad_token == "<|right_pad_id|>"


def test_bert_and_t5_keep_their_pad_token(tmp_path):
    assert set_pad_token(train_wordpiece(tmp_path)) == 0
    assert set_pad_token(train_unigram(tmp_path)) == 0


@pytest.mark.parametrize("student", ["cross_encoder", "yes_token"])
def test_a_tokenizer_without_pad_token_works_in_batches(make_folder, student):
    folder = make_folder(build_causal, "llama", pad=None)
    loaded = load_student(str(folder), student, options=TRAINING)
    loaded.model.eval()
    passages = (Passage("a", "one two three"), Passage("b", "four"))
    rows = loaded.layout.collate([Candidates("q", "red", passages, ())])
    together = loaded.model(**{name: rows[name] for name in loaded.layout.model_inputs})["logits"]
    row = loaded.layout.collate([Candidates("q", "red", passages[1:], ())])
    alone = loaded.model(**{name: row[name] for name in loaded.layout.model_inputs})["logits"]
    assert alone.item() == pytest.approx(together[1].item(), abs=1e-5)


@pytest.mark.parametrize("folder", ["bert_folder", "llama_folder"])
def test_a_random_score_head_is_refused_for_ranking_and_made_for_training(folder, request):
    path = str(request.getfixturevalue(folder))
    with pytest.raises(InputError, match=r"missing and would be random: .*(classifier|score).*train first"):
        load_student(path, "cross_encoder")
    load_student(path, "cross_encoder", options=TRAINING)


def test_a_broken_encoder_is_refused_even_for_training(tmp_path, make_folder):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(make_folder(build_bert), folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "layer.1.attention.self.query" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    for student in ("cross_encoder", "colbert"):
        with pytest.raises(InputError, match=r"would be random: .*query"):
            load_student(str(folder), student, options=TRAINING)


def test_a_classifier_of_several_labels_is_refused(tmp_path, make_folder):
    folder = tmp_path / "model"
    shutil.copytree(make_folder(build_bert, head=True), folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3, ignore_mismatched_sizes=True)
    model.save_pretrained(folder)
    with pytest.raises(InputError, match="one label; got a classifier of 3"):
        load_student(str(folder))


def test_nothing_at_the_path_is_an_error_of_the_input(tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        load_student(str(tmp_path))


def test_an_unknown_student_is_refused(bert_folder):
    with pytest.raises(InputError, match="--student must be one of cross_encoder"):
        load_student(str(bert_folder), "duo")


def test_what_the_folder_says_counts_unless_the_caller_says_otherwise(bert_classifier_folder, tmp_path, caplog):
    folder = tmp_path / "model"
    shutil.copytree(bert_classifier_folder, folder)
    RerankerSettings(rerank_max_len=99, query_prefix="query:").save(folder)
    assert load_student(str(folder)).layout.settings.rerank_max_len == 99
    assert not caplog.records
    settings = load_student(str(folder), settings={"rerank_max_len": 50, "query_prefix": None}).layout.settings
    assert (settings.rerank_max_len, settings.query_prefix) == (50, "query:")
    assert "trained with rerank_max_len=99, now used with 50" in caplog.text


def test_another_students_settings_are_passed_over(bert_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(bert_folder, folder)
    RerankerSettings(student="colbert", rerank_max_len=99).save(folder)
    assert load_student(str(folder)).layout.settings.student == "colbert"
    other = load_student(str(folder), "cross_encoder", options=TRAINING).layout.settings
    assert (other.student, other.rerank_max_len) == ("cross_encoder", 512)


def test_tevatrons_three_keys_are_read_and_its_attention_is_not_imposed(bert_classifier_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(bert_classifier_folder, folder)
    values = {
        "reranker_model_type": "sequence_classification",
        "reranker_pooling": "last",
        "attn_implementation": "flash_attention_2",
    }
    (folder / "reranker_config.json").write_text(json.dumps(values))
    student = load_student(str(folder), options=LoadOptions(attn_implementation="eager"))
    assert student.model.config._attn_implementation == "eager"
    assert load_student(str(folder)).model.config._attn_implementation == "sdpa"


def test_tevatrons_backbone_is_the_decoder_classifier_that_it_equals(tmp_path, make_folder):
    from transformers import AutoModel

    folder = tmp_path / "model"
    shutil.copytree(make_folder(build_causal, "llama"), folder)
    backbone = AutoModel.from_pretrained(folder)
    backbone.save_pretrained(folder)
    head = torch.randn(1, 32)
    torch.save({"weight": head}, folder / "reranker_head.pt")
    RerankerSettings(reranker_model_type="backbone").save(folder)
    student = load_student(str(folder))
    batch = student.layout.collate([Candidates("q", "red", (Passage("a", "one two"), Passage("b", "cat")), ())])
    hidden = backbone(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    last = batch["attention_mask"].sum(dim=1) - 1
    expected = hidden[torch.arange(2), last] @ head.T
    logits = student.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.allclose(logits, expected, atol=1e-6)
    RerankerSettings(reranker_model_type="backbone", reranker_pooling="cls").save(folder)
    with pytest.raises(InputError, match="pooled at the last token"):
        load_student(str(folder))


def test_a_settings_file_that_is_no_json_is_named(bert_classifier_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(bert_classifier_folder, folder)
    for text in ("{", "[]"):
        (folder / "reranker_config.json").write_text(text)
        with pytest.raises(InputError, match=r"reranker_config\.json: must hold one JSON object"):
            load_student(str(folder))


def test_an_adapter_of_another_task_is_refused(llama_folder, tmp_path):
    import peft
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    peft.get_peft_model(model, config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"adapters of the task SEQ_CLS; got CAUSAL_LM.*merge"):
        load_student(str(tmp_path), "yes_token")
    with pytest.raises(InputError, match="is an adapter itself"):
        load_student(str(tmp_path), "yes_token", options=LoadOptions(lora_name_or_path=str(tmp_path)))


def test_an_adapter_by_its_flag_equals_its_own_folder(llama_folder, tmp_path):
    from tevatron_distill.students import LoraOptions

    torch.manual_seed(0)
    trained = load_student(str(llama_folder), "cross_encoder", options=LoadOptions(training=True, lora=LoraOptions()))
    trained.model.save_pretrained(tmp_path)
    assert find_file(str(tmp_path), "tokenizer.json") is None  # as published adapters: the base has the tokenizer
    by_folder = load_student(str(tmp_path))
    by_flag = load_student(str(llama_folder), options=LoadOptions(lora_name_or_path=str(tmp_path)))
    for one, other in zip(by_folder.model.parameters(), by_flag.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), ("auto", torch.float32)])
def test_the_number_format_is_obeyed(bert_classifier_folder, dtype, expected):
    model = load_student(str(bert_classifier_folder), options=LoadOptions(dtype=dtype)).model
    assert {weight.dtype for weight in model.parameters()} == {expected}


def test_text_is_cut_by_tokens_and_stays_as_it_was_written(bert_folder):
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    text = "the  cat sat\non the mat"
    assert cut_text(tokenizer, text, 100) == text
    assert cut_text(tokenizer, text, 3) == "the  cat sat"
    assert cut_text(tokenizer, text, 0) == ""


def test_a_cut_inside_of_a_character_of_several_tokens_leaves_it_out(tmp_path):
    """Else the text would not become shorter, and whoever cuts until a row fits would never end."""
    tokenizer = train_byte_level(tmp_path, pad="<pad>")
    text = "kůň 東京 cat"
    whole = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert whole > len(text)
    for length in range(whole):
        assert len(tokenizer(cut_text(tokenizer, text, length), add_special_tokens=False)["input_ids"]) <= length
    assert cut_text(tokenizer, text, whole) == text

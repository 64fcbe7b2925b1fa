"""The student that names a window's passages in order: RankZephyr and FIRST, and what their code gets wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SENTENCES, WORDS, build_causal
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, TrainingArguments

from tevatron_distill.collator import GroupCollator
from tevatron_distill.dataset import TeacherPermutationDataset
from tevatron_distill.layouts.list import NO_TARGET
from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.prompts import LIST_PROMPTS
from tevatron_distill.schema import Candidates, Group, InputError, Passage
from tevatron_distill.students import LoadedStudent, LoadOptions, LoraOptions, load_student
from tevatron_distill.trainer import DistillRerankerTrainer

ARCHITECTURES = [("llama", False), ("qwen3", True), ("gemma2", True)]
PASSAGES = tuple(Passage(str(n), " ".join(WORDS[n : n + 3])) for n in range(8))
GROUPS = [
    Group("a", "red one", PASSAGES[:5], (2, 0, 1, 4, 3), 5),
    Group("b", "what is a reranker?", PASSAGES[3:6], (1, 2, 0), 3),
    Group("c", "ten", PASSAGES[4:8], (3, 0, 2, 1), 4),
]
# HuggingFaceH4/zephyr-7b-beta: every turn ends in the end-of-sequence token
ZEPHYR = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] + eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "[INST] {{ message['content'] }} [/INST]{% endfor %}"
)


def trained(folder: Path | str, **settings) -> LoadedStudent:
    return load_student(str(folder), "listwise", options=LoadOptions(training=True), settings=settings)


@pytest.fixture(scope="module")
def student(llama_folder) -> LoadedStudent:
    return trained(llama_folder)


def outputs_of(student: LoadedStudent, groups=GROUPS):
    batch = student.layout.collate(groups)
    return student.model(**{name: batch[name] for name in student.layout.model_inputs if name in batch}), batch


def with_tokenizer(folder: Path, made: Path, change: Callable[[PreTrainedTokenizerFast], None]) -> Path:
    """A copy of a model's folder with a changed tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    change(tokenizer)
    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


# ---- the forward pass is the language model's


@pytest.mark.parametrize(("architecture", "tied"), ARCHITECTURES)
def test_logits_and_loss_are_those_of_the_plain_language_model(make_folder, architecture, tied):
    folder = make_folder(build_causal, architecture, tied=tied)
    student = trained(folder)
    student.model.eval()
    outputs, _ = outputs_of(student)
    plain = AutoModelForCausalLM.from_pretrained(folder).eval()
    for number, group in enumerate(GROUPS):
        window = student.layout.window(group)
        ids = torch.tensor([window.row.input_ids])
        logits = plain(ids).logits[0].float()
        expected = logits[window.answer_start, window.identifier_ids]
        size = len(group.passages)
        torch.testing.assert_close(outputs.logits[number, :size], expected, atol=2e-5, rtol=1e-4)
        steps = range(window.answer_start, len(window.row.input_ids))
        errors = [-logits[step - 1].log_softmax(-1)[ids[0, step]].item() for step in steps]
        assert outputs.lm_loss[number].item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@pytest.mark.parametrize(("architecture", "tied"), ARCHITECTURES)
def test_half_precision_makes_no_ties_where_passages_are_ranked(make_folder, architecture, tied):
    folder = make_folder(build_causal, architecture, tied=tied)
    student = load_student(str(folder), "listwise", options=LoadOptions(dtype="bfloat16"))
    batch = student.layout.collate([Candidates("a", "red one", PASSAGES, ())])
    inputs = {name: batch[name] for name in student.layout.model_inputs if name in batch}
    with torch.no_grad():
        exact = student.model(**inputs).logits
    rounded = student.model(**inputs).logits
    assert exact.dtype == torch.float32
    torch.testing.assert_close(exact, rounded, atol=2e-2, rtol=2e-2)
    if architecture != "gemma2":  # its cap is computed in float32 in any case
        assert torch.equal(rounded.bfloat16().float(), rounded)
        assert not torch.equal(exact.bfloat16().float(), exact)


def test_vocabulary_logits_are_computed_at_answer_positions_only(student):
    shapes = []
    hook = student.model.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    _, batch = outputs_of(student)
    hook.remove()
    tokens = int((batch["answer_ids"] != NO_TARGET).sum())
    assert [tuple(shape) for shape in shapes] == [(len(GROUPS) + tokens, student.model.config.vocab_size)]
    assert batch["input_ids"].numel() > 5 * tokens


def test_each_window_counts_alike_however_long_its_answer(student):
    together, _ = outputs_of(student)
    alone = [outputs_of(student, [group])[0].lm_loss.item() for group in GROUPS]
    assert together.lm_loss.tolist() == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("multiple", [0, 64])
@pytest.mark.parametrize("side", ["left", "right"])
def test_windows_do_not_depend_on_the_batch_or_its_padding(llama_folder, multiple, side):
    student = trained(llama_folder, pad_to_multiple_of=multiple)
    student.layout.settings = replace(student.layout.settings, padding_side=side)
    outputs, _ = outputs_of(student)
    for number, group in enumerate(GROUPS):
        alone, _ = outputs_of(trained(llama_folder, pad_to_multiple_of=0), [group])
        size = len(group.passages)
        torch.testing.assert_close(outputs.logits[number, :size], alone.logits[0], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(outputs.lm_loss[number], alone.lm_loss[0], atol=2e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient_from_either_term(student):
    for term in ("logits", "lm_loss"):
        student.model.zero_grad()
        outputs, _ = outputs_of(student)
        values = outputs[term]
        (values * torch.linspace(1, 2, values.numel()).view_as(values)).sum().backward()
        still = [name for name, weight in student.model.named_parameters() if not weight.grad.abs().sum() > 0]
        assert still == []


def test_gradient_checkpointing_changes_nothing(llama_folder):
    gradients = []
    for checkpointing in (False, True):
        student = trained(llama_folder)
        student.model.train()
        if checkpointing:
            student.model.activation_checkpointing_enable()
        outputs, _ = outputs_of(student)
        (outputs.lm_loss.sum() + outputs.logits.sum()).backward()
        gradients.append([weight.grad.clone() for weight in student.model.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


def test_labels_and_strange_inputs_are_refused(student):
    batch = student.layout.collate(GROUPS[:1])
    inputs = {name: batch[name] for name in student.layout.model_inputs}
    student.model(**inputs, inputs_embeds=None, labels=None)
    with pytest.raises(TypeError, match="takes no labels"):
        student.model(**inputs, labels=batch["input_ids"])


# ---- folders


def test_the_folder_opens_as_the_plain_language_model_elsewhere(student, llama_folder, tmp_path):
    student.model.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert plain.config.architectures == ["LlamaForCausalLM"]
    expected = AutoModelForCausalLM.from_pretrained(llama_folder).state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in plain.state_dict().items())


def test_it_generates_as_the_plain_language_model_does(student, llama_folder):
    inputs = AutoTokenizer.from_pretrained(llama_folder)("the cat sat on", return_tensors="pt")
    keywords = {"max_new_tokens": 6, "do_sample": False}
    plain = AutoModelForCausalLM.from_pretrained(llama_folder)
    inputs.pop("token_type_ids", None)
    assert torch.equal(student.model.generate(**inputs, **keywords), plain.generate(**inputs, **keywords))


@pytest.mark.parametrize("name", ["rank_zephyr", "rank_zephyr_alpha"])
def test_a_published_folder_is_a_plain_language_model_with_a_prompt_by_name(llama_folder, name):
    decode = "generation" if name == "rank_zephyr" else "logits"
    student = load_student(str(llama_folder), "listwise", settings={"prompt": name, "decode": decode})
    text = student.tokenizer.decode(student.layout.window(GROUPS[0]).row.input_ids)
    assert ("numerical identifier" if name == "rank_zephyr" else "alphabetical identifier") in text


def test_what_is_no_causal_language_model_is_refused(t5_folder, bert_folder):
    for folder in (t5_folder, bert_folder):
        with pytest.raises(InputError, match="listwise needs a causal language model"):
            load_student(str(folder), "listwise")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window_size": 1}, "--window_size must be at least 2"),
        ({"window_size": 4, "step_size": 4}, "--step_size lie in 1"),
        ({"num_passes": -1}, "--num_passes be at least 1"),
        ({"decode": "guess"}, "--decode must be one of logits, generation"),
        ({"prompt": "instructdistill"}, "--prompt must be one of rank_gpt"),
    ],
)
def test_settings_out_of_range_are_refused(llama_folder, settings, message):
    with pytest.raises(InputError, match=message):
        trained(llama_folder, **settings)


# ---- identifiers


def add_columns(tokenizer) -> None:
    tokenizer.add_tokens(["AA", "AB"])


def test_letters_that_are_single_tokens_go_beyond_26(llama_folder, tmp_path):
    folder = with_tokenizer(llama_folder, tmp_path, add_columns)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(folder)), mean_resizing=False)
    model.save_pretrained(folder)
    student = trained(folder, window_size=28)
    many = Group("q", "red", tuple(Passage(str(n), "red") for n in range(28)), tuple(range(27, -1, -1)), 28)
    names = student.tokenizer.convert_ids_to_tokens(student.layout.window(many).identifier_ids)
    assert names[24:] == ["Y", "Z", "AA", "AB"]


def add_numbers(tokenizer) -> None:
    tokenizer.add_tokens([str(number) for number in range(10, 41)])


def test_numbers_that_are_single_tokens_go_to_any_window_size(llama_folder, tmp_path):
    folder = with_tokenizer(llama_folder, tmp_path, add_numbers)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(folder)), mean_resizing=False)
    model.save_pretrained(folder)
    student = trained(folder, prompt="rank_zephyr", window_size=40)
    many = Group("q", "red", tuple(Passage(str(n), "red") for n in range(40)), tuple(range(39, -1, -1)), 40)
    window = student.layout.window(many)
    names = student.tokenizer.convert_ids_to_tokens(window.identifier_ids)
    assert names == [str(number) for number in range(1, 41)]
    outputs, _ = outputs_of(student, [many])
    assert outputs.logits.shape == (1, 40)


def test_numbers_of_several_tokens_are_refused_for_logits_and_fine_for_generation(llama_folder, caplog):
    with pytest.raises(InputError, match="spells 10, 11, 12, 13 as several; take windows of fewer passages"):
        trained(llama_folder, prompt="rank_zephyr")
    assert trained(llama_folder, prompt="rank_zephyr", window_size=9).layout.loss_kinds == {"scores", "margins"}
    student = trained(llama_folder, prompt="rank_zephyr", decode="generation")
    assert "evaluation during training cannot tell them apart" in caplog.text
    assert student.layout.loss_kinds == frozenset()
    many = Group("q", "red", tuple(Passage(str(n), "red") for n in range(12)), (11, *range(11)), 12)
    window = student.layout.window(many)
    assert student.tokenizer.decode(window.row.input_ids[window.answer_start :]).startswith("[12] > [1] > [2]")


def joins_brackets_with_letters(folder: Path) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that splits words as Llama 3 and Qwen do: one sign may go with the letters behind it."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    words = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    split = pre_tokenizers.Split(words, behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator([*SENTENCES, *["[A] > [B] > [C]"] * 50], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def test_a_bracket_that_a_tokenizer_joins_with_a_letter_is_spelled_apart(llama_folder, tmp_path):
    tokenizer = joins_brackets_with_letters(tmp_path)
    assert tokenizer.tokenize("[A]")[0] == "[A"
    model = AutoModelForCausalLM.from_pretrained(llama_folder)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    student = trained(tmp_path)
    window = student.layout.window(Group("q", "red", PASSAGES[:4], (1, 3, 0, 2), 4))
    answer = tokenizer.convert_ids_to_tokens(window.row.input_ids[window.answer_start :])
    assert [token for token in answer if token in "ABCD"] == ["B", "D", "A", "C"]
    assert not [token for token in answer if len(token) > 1 and any(name in token for name in "ABCD")]
    assert tokenizer.decode(window.row.input_ids[window.answer_start :]) == "[B] > [D] > [A] > [C]</s>"
    prompt_only = student.layout.encode("red", PASSAGES[:4])
    assert prompt_only.row.input_ids == window.row.input_ids[: window.answer_start + 1]
    assert tokenizer.convert_ids_to_tokens(window.identifier_ids) == ["A", "B", "C", "D"]


# ---- prompts


def chat_student(llama_folder: Path, tmp_path: Path, template: str, **settings) -> LoadedStudent:
    def change(tokenizer) -> None:
        tokenizer.chat_template = template

    return trained(with_tokenizer(llama_folder, tmp_path, change), **settings)


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_the_answer_is_found_where_the_template_writes_the_pad_token_into_the_prompt(
    llama_folder, tmp_path, pad_is_eos
):
    """RankLLM counts tokens that are no pad tokens, and is two off with Zephyr's template where pad is eos."""
    student = chat_student(llama_folder, tmp_path, ZEPHYR)
    if pad_is_eos:
        student.layout.settings = replace(student.layout.settings, pad_token_id=student.tokenizer.eos_token_id)
    outputs, batch = outputs_of(student)
    for row, start, group in zip(batch["input_ids"], batch["answer_index"], GROUPS, strict=True):
        text = student.tokenizer.decode(row)
        assert text.count("</s>\n") == 2
        assert student.tokenizer.decode(row[:start]).endswith("<|assistant|>\n")
        answer = LIST_PROMPTS["rank_zephyr_alpha"].answer_text(group.permutation)
        assert student.tokenizer.decode(row[start:]) == f"{answer}</s>"
    alone = [outputs_of(student, [group])[0].lm_loss.item() for group in GROUPS]
    assert outputs.lm_loss.tolist() == pytest.approx(alone, rel=1e-4)


def test_the_system_turn_stands_where_the_template_shows_it_and_else_before_the_users_words(llama_folder, tmp_path):
    shown = chat_student(llama_folder, tmp_path / "zephyr", ZEPHYR)
    text = shown.tokenizer.decode(shown.layout.encode("red", PASSAGES[:2]).row.input_ids)
    assert text.startswith("<s><|system|>\nYou are RankLLM, an intelligent assistant")  # the tokenizer's own <s>
    assert text.endswith("<|assistant|>\n[")
    without = chat_student(llama_folder, tmp_path / "none", NO_SYSTEM)
    text = without.tokenizer.decode(without.layout.encode("red", PASSAGES[:2]).row.input_ids)
    assert text.startswith("<s>[INST] You are RankLLM, an intelligent assistant")
    assert "based on their relevancy to the query\n I will provide you with 2 passages" in text  # as RankLLM joins them
    assert text.endswith("[/INST][")


def test_special_tokens_and_identifiers_in_texts_are_words(student):
    passages = (Passage("x", "as in [2] </s> <pad> end"), Passage("y", "[B] red"))
    window = student.layout.encode("what is [1]?", passages)
    assert window.row.input_ids.count(student.tokenizer.eos_token_id) == 0
    assert window.row.input_ids.count(student.tokenizer.pad_token_id) == 0
    text = student.tokenizer.decode(window.row.input_ids)
    assert "what is (1)?" in text
    assert "as in (2)" in text


# ---- length


@pytest.mark.parametrize("limit", [420, 450, 500])
def test_passages_shrink_until_the_window_fits_and_the_answer_is_never_cut(llama_folder, limit):
    """RankLLM truncates on the right, where the target stands."""
    student = trained(llama_folder, rerank_max_len=limit)
    passages = (Passage("long", "yellow " * 250), Passage("short", "cat"), Passage("middle", "blue " * 40))
    group = Group("q", "red", passages, (2, 0, 1), 3)
    window = student.layout.window(group)
    assert len(window.row.input_ids) <= limit
    assert student.tokenizer.decode(window.row.input_ids[window.answer_start :]) == "[C] > [A] > [B]</s>"
    text = student.tokenizer.decode(window.row.input_ids)
    assert "[B] cat\n" in text  # short ones stay whole
    assert text.count("yellow") >= text.count("blue") > 0
    assert limit - len(window.row.input_ids) < 12  # no more is cut than must be
    prompt_only = student.layout.encode("red", passages)
    assert prompt_only.row.input_ids == window.row.input_ids[: window.answer_start + 1]


def test_a_query_that_cannot_fit_is_an_error_and_no_loop(llama_folder):
    """RankLLM shortens passages for ever where the query alone is too long."""
    student = trained(llama_folder, rerank_max_len=400)
    with pytest.raises(InputError, match="cut queries by --query_max_len"):
        student.layout.encode("red " * 500, PASSAGES[:3])
    cut = trained(llama_folder, rerank_max_len=500, query_max_len=10)
    assert len(cut.layout.encode("red " * 500, PASSAGES[:3]).row.input_ids) <= 500


def test_lengths_of_query_and_passages_can_be_set(llama_folder):
    student = trained(llama_folder, passage_max_len=3)
    text = student.tokenizer.decode(student.layout.encode("red", [Passage("x", "red green blue yellow")]).row.input_ids)
    assert "yellow" not in text


# ---- training


def trainer_of(student: LoadedStudent, folder: Path, groups=GROUPS, **keywords) -> DistillRerankerTrainer:
    arguments = {"learning_rate": 1e-2, "max_steps": 2, "per_device_train_batch_size": 2, "report_to": "none"}
    ours = {
        name: keywords.pop(name) for name in ("loss", "loss_options", "loss_weight", "term_weights") if name in keywords
    }
    args = TrainingArguments(
        str(folder),
        remove_unused_columns=False,
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        dataloader_pin_memory=False,
        **{**arguments, **keywords},
    )
    return DistillRerankerTrainer(
        model=student.model,
        args=args,
        train_dataset=TeacherPermutationDataset(groups),
        eval_dataset=TeacherPermutationDataset(groups, train_group_size=None),
        data_collator=GroupCollator(student.layout),
        processing_class=student.tokenizer,
        **ours,
    )


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_the_ranking_objective_trains_at_any_batch_size(llama_folder, tmp_path, batch_size):
    """RankLLM's crashes at every batch size: it reads the batch of labels as one sample."""
    student = trained(llama_folder)
    student.layout.answers = False
    groups = [*GROUPS, replace(GROUPS[0], query_id="d")]
    trainer = trainer_of(
        student, tmp_path, groups, per_device_train_batch_size=batch_size, max_steps=4, term_weights={"lm": 0.0}
    )
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    assert trainer.evaluate()["eval_loss"] < before


@pytest.mark.parametrize(
    ("loss_weight", "lm"), [(0.0, 1.0), (1.0, 0.0), (10.0, 1.0)], ids=["generation", "ranking", "combined"]
)
def test_an_objective_is_the_weighted_sum_of_its_terms(student, tmp_path, loss_weight, lm):
    trainer = trainer_of(
        student,
        tmp_path,
        loss="rank_net",
        loss_options={"weighted": True},
        loss_weight=loss_weight,
        term_weights={"lm": lm},
    )
    batch = trainer.data_collator(GROUPS)
    _, per_query = trainer.score(student.model, batch)
    outputs, _ = outputs_of(student)
    ranking = ranking_loss(LOSSES["rank_net"], outputs.logits.float(), batch["labels"], batch["mask"], weighted=True)
    torch.testing.assert_close(per_query, loss_weight * ranking + lm * outputs.lm_loss)


def test_evaluation_during_training_measures_the_teachers_order(llama_folder, tmp_path):
    student = trained(llama_folder)
    trainer = trainer_of(student, tmp_path, max_steps=60, per_device_train_batch_size=3, learning_rate=5e-3)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_loss"] < before["eval_loss"] / 2
    assert after["eval_teacher_nDCG@10"] == pytest.approx(1.0)


@pytest.mark.parametrize("lora", [None, LoraOptions(r=2, alpha=4, dropout=0.0)], ids=["whole", "lora"])
def test_neftune_is_hfs_own_flag(llama_folder, tmp_path, lora):
    """Noise of up to alpha / sqrt(length * width) on the embeddings, in training only."""
    student = load_student(str(llama_folder), "listwise", options=LoadOptions(training=True, lora=lora))
    embeddings = student.model.get_input_embeddings()
    first_layer = student.model.base_model.model.model.layers[0] if lora else student.model.model.layers[0]
    ids, noise = [], []
    embeddings.register_forward_pre_hook(lambda module, inputs: ids.append(inputs[0]))
    first_layer.register_forward_pre_hook(
        lambda module, inputs: noise.append((inputs[0] - embeddings.weight[ids[-1]]).abs().max().item())
    )
    trainer = trainer_of(student, tmp_path, neftune_noise_alpha=5.0, max_steps=1)
    trainer.train()
    length, width = ids[0].shape[1], embeddings.weight.shape[1]
    assert 0 < noise[0] <= 5 / math.sqrt(length * width) * 1.001
    trainer.evaluate()
    assert noise[-1] == 0.0


def test_an_adapter_learns_and_is_merged_for_inference(llama_folder, tmp_path):
    lora = LoraOptions(r=4, alpha=8, dropout=0.0)
    student = load_student(str(llama_folder), "listwise", options=LoadOptions(training=True, lora=lora))
    trainer = trainer_of(student, tmp_path, max_steps=3)
    trainer.train()
    trainer.save_model()
    student.model.eval()
    expected, _ = outputs_of(student)
    merged = load_student(str(tmp_path))
    assert type(merged.model).__name__ == "LlamaForCausalLM"
    again, _ = outputs_of(merged)
    torch.testing.assert_close(again.logits, expected.logits, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(again.lm_loss, expected.lm_loss, atol=2e-5, rtol=1e-4)


def test_the_learning_rate_ends_where_training_ends(llama_folder, tmp_path):
    """RankLLM's cosine ends after a part of the training on several GPUs, and rises again."""
    keywords = {"lr_scheduler_type": "cosine", "warmup_steps": 1, "max_steps": 4, "gradient_accumulation_steps": 2}
    trainer = trainer_of(trained(llama_folder), tmp_path, per_device_train_batch_size=1, logging_steps=1, **keywords)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.0, abs=1e-9)

"""Rows that go through a student in chunks give the scores and gradients of all rows at once."""

from __future__ import annotations

import pytest
import torch
from conftest import build_bert, build_causal, build_t5
from torch import nn

from tevatron_distill.collator import GroupCollator
from tevatron_distill.dataset import TeacherPermutationDataset
from tevatron_distill.students import LoadOptions, LoraOptions, load_student
from tevatron_distill.students.row_chunks import chunk_students_rows
from tevatron_distill.trainer import DistillRerankerTrainer
from tevatron_distill.training_arguments import DistillTrainingArguments

KINDS = {
    "cross_encoder": ("cross_encoder", build_bert, (), "rank_net"),
    "cross_encoder, causal": ("cross_encoder", build_causal, ("llama",), "rank_net"),
    "yes_token": ("yes_token", build_causal, ("qwen3",), "rank_net"),
    "yes_token, T5": ("yes_token", build_t5, (), "rank_net"),
    "summa_reranker": ("summa_reranker", build_bert, (), "list_mle"),
    "colbert": ("colbert", build_bert, (), "rank_net"),
    "simcls": ("simcls", build_bert, (), "margin_rank"),
    "pair_ranker": ("pair_ranker", build_bert, (), "pair_bce"),
    "listwise": ("listwise", build_causal, ("llama",), "rank_net"),
}
FURTHER = {
    "colbert, pylate": ("colbert", build_bert, (), "rank_net"),
    "pair_ranker, causal": ("pair_ranker", build_causal, ("llama",), "pair_bce"),
    "pair_ranker, T5": ("pair_ranker", build_t5, (), "pair_bce"),
}
SETTINGS = {
    "colbert, pylate": {"colbert_convention": "pylate", "query_max_len": 21},
    "pair_ranker, causal": {"padding_side": "left"},
    "listwise": {"rerank_max_len": 1000},
}


def trainer_of(kind, make_folder, tmp_path, *, lora=None, **keywords):
    student, build, arguments, loss = {**KINDS, **FURTHER}[kind]
    folder = make_folder(build, *arguments)
    torch.manual_seed(0)
    options = LoadOptions(training=True, lora=lora)
    settings = {"rerank_max_len": 128, **SETTINGS.get(kind, {})}
    loaded = load_student(str(folder), student, options=options, settings=settings)
    for module in loaded.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):  # T5's attention
            module.dropout = 0.0
    arguments = DistillTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True)
    keywords = {"row_chunk_tokens": 0, **keywords}
    return DistillRerankerTrainer(
        model=loaded.model, args=arguments, data_collator=GroupCollator(loaded.layout), loss=loss, **keywords
    )


def gradients(trainer, groups):
    trainer.model.double().train()  # what is left are the roundings of scores in float32
    scores, per_query = trainer.score(trainer.model, trainer.data_collator(groups))
    trainer.model.zero_grad()
    per_query.sum().backward()
    named = {name: value.grad for name, value in trainer.model.named_parameters() if value.grad is not None}
    return scores.detach(), named


@pytest.mark.parametrize(
    ("kind", "chunks"),
    [
        *[(kind, {"row_chunk_size": size}) for kind in KINDS for size in (1, 3)],
        *[(kind, {"row_chunk_tokens": 60}) for kind in (*KINDS, *FURTHER)],
    ],
)
def test_chunks_give_the_scores_and_gradients_of_all_rows_at_once(kind, chunks, make_folder, tmp_path, toy_groups):
    if kind == "summa_reranker":  # its gates draw noise in training
        pytest.skip("see the test of evaluation")
    scores, whole = gradients(trainer_of(kind, make_folder, tmp_path), toy_groups)
    chunked_scores, chunked = gradients(trainer_of(kind, make_folder, tmp_path, **chunks), toy_groups)
    torch.testing.assert_close(chunked_scores, scores, atol=1e-6, rtol=1e-5)
    assert chunked.keys() == whole.keys()
    for name, gradient in whole.items():
        scale = max(1.0, float(gradient.abs().max()))  # colbert divides by a temperature of 0.02
        torch.testing.assert_close(chunked[name], gradient, atol=1e-6 * scale, rtol=1e-5, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_goes_in_chunks_too(kind, make_folder, tmp_path, toy_groups):
    trainer = trainer_of(kind, make_folder, tmp_path)
    trainer.model.eval()
    batch = trainer.data_collator(toy_groups)
    with torch.no_grad():
        scores, per_query = trainer.score(trainer.model, batch)
    rows = []
    for module in trainer.model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings == trainer.model.config.vocab_size:
            module.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    chunk_students_rows(trainer.model, trainer.layout, 2)
    with torch.no_grad():
        again, again_per_query = trainer.score(trainer.model, batch)
    torch.testing.assert_close(again, scores, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(again_per_query, per_query, atol=1e-6, rtol=1e-5)
    assert max(rows) <= 2


def token_rows(trainer):
    """How many tokens go through the embeddings of a trainer's model, call by call."""
    seen = []
    for module in trainer.model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings == trainer.model.config.vocab_size:
            module.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    return seen


@pytest.mark.parametrize("kind", ["cross_encoder", "yes_token", "summa_reranker", "pair_ranker", "listwise"])
def test_rows_of_one_length_are_computed_without_padding(kind, make_folder, tmp_path, toy_groups):
    trainer = trainer_of(kind, make_folder, tmp_path, row_chunk_tokens=1)
    seen = token_rows(trainer)
    batch = trainer.data_collator(toy_groups)
    trainer.score(trainer.model, batch)
    assert sorted(seen) == sorted((1, length) for length in batch["attention_mask"].sum(dim=1).tolist())


def test_chunks_stay_within_the_budget_and_padding_is_left_out(make_folder, tmp_path, toy_groups):
    trainer = trainer_of("yes_token", make_folder, tmp_path, row_chunk_tokens=400)
    seen = token_rows(trainer)
    batch = trainer.data_collator(toy_groups)
    trainer.score(trainer.model, batch)
    assert sum(rows for rows, _ in seen) == len(batch["input_ids"])
    assert len(seen) > 1
    assert all(rows * length <= 400 for rows, length in seen)
    assert sum(rows * length for rows, length in seen) < batch["input_ids"].numel()


def test_queries_filled_up_are_not_cut_and_passages_are(make_folder, tmp_path, toy_groups):
    trainer = trainer_of("colbert, pylate", make_folder, tmp_path, row_chunk_tokens=1)
    seen = token_rows(trainer)
    batch = trainer.data_collator(toy_groups)
    trainer.score(trainer.model, batch)
    lengths = batch["passage_attention_mask"].sum(dim=1).tolist()
    assert batch["query_counted"].sum(dim=1).tolist() == [21] * 4
    assert sorted(seen) == sorted([tuple(batch["query_input_ids"].shape), *[(1, length) for length in lengths]])


def test_chunks_are_at_most_as_many_rows_as_asked_for_whatever_the_budget(make_folder, tmp_path, toy_groups):
    trainer = trainer_of("cross_encoder", make_folder, tmp_path, row_chunk_size=3, row_chunk_tokens=10_000)
    seen = token_rows(trainer)
    _, chunked = gradients(trainer, toy_groups)
    _, whole = gradients(trainer_of("cross_encoder", make_folder, tmp_path), toy_groups)
    assert [rows for rows, _ in seen] == [*[3] * 5, 1, 1, *[3] * 5]  # forward, and again backward
    for name, gradient in whole.items():
        torch.testing.assert_close(chunked[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_by_default_a_cpu_has_chunks_of_2048_tokens_and_compiled_code_has_none(make_folder, tmp_path):
    trainer = trainer_of("cross_encoder", make_folder, tmp_path, row_chunk_tokens="auto")
    assert trainer.row_chunk_tokens == 2048
    trainer.args.torch_compile = True
    assert trainer._row_tokens() == 0


@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_encoder_learns_as_if_its_last_layer_were_computed_for_all_tokens(
    checkpointing, make_folder, tmp_path, toy_groups
):
    trainer = trainer_of("cross_encoder", make_folder, tmp_path, row_chunk_size=4, row_chunk_tokens=100)
    if checkpointing:
        trainer.model.activation_checkpointing_enable({"use_reentrant": False})
    layer = trainer.model.bert.encoder.layer[-1]
    widths = []
    layer.output.register_forward_hook(lambda module, inputs, output: widths.append(output.shape[1]))
    scores, first = gradients(trainer, toy_groups)
    assert set(widths) == {1}
    whole_trainer = trainer_of("cross_encoder", make_folder, tmp_path)
    del whole_trainer.model.bert.encoder.layer[-1].forward
    whole_scores, whole = gradients(whole_trainer, toy_groups)
    torch.testing.assert_close(scores, whole_scores, atol=1e-6, rtol=1e-5)
    assert first.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(first[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_an_adapter_trains_in_chunks(make_folder, tmp_path, toy_groups):
    lora = LoraOptions(4, 8, 0.0)
    _, whole = gradients(trainer_of("yes_token", make_folder, tmp_path, lora=lora), toy_groups)
    _, chunked = gradients(trainer_of("yes_token", make_folder, tmp_path, lora=lora, row_chunk_size=2), toy_groups)
    assert [name for name in whole if "lora" in name]
    for name, gradient in whole.items():
        torch.testing.assert_close(chunked[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_gradient_checkpointing_inside_of_chunks_changes_nothing(make_folder, tmp_path, toy_groups):
    _, whole = gradients(trainer_of("yes_token", make_folder, tmp_path), toy_groups)
    trainer = trainer_of("yes_token", make_folder, tmp_path, row_chunk_size=2)
    trainer.model.activation_checkpointing_enable({"use_reentrant": False})
    _, chunked = gradients(trainer, toy_groups)
    for name, gradient in whole.items():
        torch.testing.assert_close(chunked[name], gradient, atol=1e-6, rtol=1e-5, msg=name)


def test_fillers_count_for_nothing(make_folder, tmp_path, toy_groups):
    trainer = trainer_of("cross_encoder", make_folder, tmp_path)
    dataset = TeacherPermutationDataset(toy_groups, None)
    _, alone = gradients(trainer, toy_groups)
    _, filled = gradients(trainer, [*toy_groups, dataset[-1]])
    for name, gradient in alone.items():
        assert torch.equal(filled[name], gradient), name
    _, nothing = gradients(trainer, [dataset[-1], dataset[-1]])
    assert nothing.keys() == alone.keys()
    assert not any(gradient.any() for gradient in nothing.values())

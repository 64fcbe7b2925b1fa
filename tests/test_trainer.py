from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from accelerate.data_loader import DataLoaderShard
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from tevatron_distill.collator import GroupCollator
from tevatron_distill.dataset import TeacherPermutationDataset
from tevatron_distill.layouts import PointLayout, RerankerSettings
from tevatron_distill.losses import LOSSES, Loss, ranking_loss
from tevatron_distill.schema import Group, InputError, Passage
from tevatron_distill.students import STUDENTS
from tevatron_distill.trainer import DistillRerankerTrainer, _SayWhatRuns, check_launch, chosen_score, eval_judgements

WORDS = ["red", "green", "blue", "yellow", "one", "two", "three", "four", "five", "six", "seven"]


def groups_of(count: int) -> list[Group]:
    groups = []
    for number in range(count):
        size = 2 + number % 4
        passages = tuple(Passage(f"d{place}", " ".join(WORDS[place : place + 3 + number % 3])) for place in range(size))
        groups.append(Group(f"q{number}", WORDS[number % len(WORDS)], passages, tuple(reversed(range(size))), size))
    return groups


def build(folder, output_dir, groups, *, loss="rank_net", eval_groups=None, **arguments):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    settings = RerankerSettings(student="cross_encoder", rerank_max_len=64)
    layout = STUDENTS["cross_encoder"].layout(tokenizer, model, settings)
    arguments = {"learning_rate": 1e-2, "max_steps": 3, "lr_scheduler_type": "constant", "optim": "sgd", **arguments}
    training_args = TrainingArguments(
        str(output_dir), use_cpu=True, report_to="none", disable_tqdm=True, logging_steps=1, **arguments
    )
    labels = LOSSES[loss].labels[0] if isinstance(loss, str) else loss.labels[0]
    return DistillRerankerTrainer(
        model=model,
        args=training_args,
        train_dataset=TeacherPermutationDataset(groups, train_group_size=4),
        eval_dataset=None if eval_groups is None else TeacherPermutationDataset(eval_groups, None),
        data_collator=GroupCollator(layout, labels),
        processing_class=tokenizer,
        loss=loss,
    )


def weights_after(trainer: DistillRerankerTrainer) -> torch.Tensor:
    trainer.train()
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


@pytest.mark.parametrize(("batch", "accumulation"), [(2, 2), (1, 4)])
def test_batch_and_accumulation_give_the_weights_of_one_batch(bert_classifier_folder, tmp_path, batch, accumulation):
    groups = groups_of(10)  # a ragged end: 10 queries in updates of 4

    def run(size, steps):
        trainer = build(
            bert_classifier_folder,
            tmp_path,
            groups,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            save_strategy="no",
        )
        return weights_after(trainer)

    torch.testing.assert_close(run(batch, accumulation), run(4, 1), atol=1e-6, rtol=0)


def test_the_first_loss_is_the_mean_over_queries_and_plain_arguments_work(bert_classifier_folder, tmp_path):
    groups = groups_of(4)
    trainer = build(
        bert_classifier_folder,
        tmp_path,
        groups,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        save_strategy="no",
        max_steps=1,
    )
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    with torch.no_grad():
        _, per_query = trainer.score(trainer.model, batch)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(sum(per_query.tolist()) / 4, abs=1e-4)


def test_groups_are_drawn_anew_in_every_epoch(bert_classifier_folder, tmp_path, monkeypatch):
    # where there are several processes, accelerate's word stops at the sampler
    monkeypatch.setattr(DataLoaderShard, "set_epoch", lambda self, epoch: None)
    drawn = []

    class Noting(TeacherPermutationDataset):
        def __getitem__(self, index):
            drawn.append(self.epoch)
            return super().__getitem__(index)

    trainer = build(
        bert_classifier_folder, tmp_path, groups_of(2), max_steps=-1, num_train_epochs=3, save_strategy="no"
    )
    DistillRerankerTrainer(
        model=trainer.model, args=trainer.args, train_dataset=Noting(groups_of(2)), data_collator=trainer.data_collator
    ).train()
    assert drawn == [0, 0, 1, 1, 2, 2]


def test_evaluation_equals_a_plain_loop(bert_classifier_folder, tmp_path):
    groups = groups_of(11)
    trainer = build(
        bert_classifier_folder, tmp_path, groups, eval_groups=groups, per_device_eval_batch_size=3, save_strategy="no"
    )
    metrics = trainer.evaluate()
    losses, gains = [], []
    trainer.model.eval()
    for group in groups:
        batch = GroupCollator(trainer.layout)([group])
        with torch.no_grad():
            inputs = {name: batch[name] for name in trainer.layout.model_inputs}
            scores = trainer.model(**inputs).logits.squeeze(-1)
        size = len(group.passages)
        losses.append(
            float(
                ranking_loss(LOSSES["rank_net"], scores[None], batch["labels"], torch.ones(1, size, dtype=torch.bool))
            )
        )
        grades = [11 - rank for rank in group.ranks()]
        order = torch.argsort(scores, descending=True).tolist()
        dcg = sum(grades[position] / math.log2(place + 2) for place, position in enumerate(order))
        ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(sorted(grades, reverse=True)))
        gains.append(dcg / ideal)
    assert metrics["eval_loss"] == pytest.approx(sum(losses) / 11, abs=1e-6)
    assert metrics["eval_teacher_nDCG@10"] == pytest.approx(sum(gains) / 11, abs=1e-6)


@pytest.mark.parametrize(
    "loss",
    [name for name, row in LOSSES.items() if row.labels[0] == "reciprocal" and row.kind != "pair_scores"],
)
def test_every_parameter_moves_and_a_group_is_learned(bert_classifier_folder, tmp_path, loss):
    groups = groups_of(4)[3:]  # one group of five passages
    trainer = build(
        bert_classifier_folder,
        tmp_path,
        groups,
        loss=loss,
        eval_groups=[groups[0].select(range(4))],
        max_steps=120,
        learning_rate=2e-3,
        optim="adamw_torch",
        save_strategy="no",
    )
    trainer.train_dataset.train_group_size = None
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    trainer.train()
    still = [name for name, value in trainer.model.named_parameters() if torch.equal(value, before[name])]
    # position embeddings beyond the longest row and key biases (softmax cancels them) have no gradient
    # a constant cancels in margins, and exactly so in the whole numbers of a hinge's gradient
    free = ("key.bias", "classifier.bias") if LOSSES[loss].kind == "margins" else ("key.bias",)
    assert [name for name in still if not name.endswith(free)] == []
    batch = trainer.data_collator(groups)
    trainer.model.eval()
    with torch.no_grad():
        scores, _ = trainer.score(trainer.model, batch)
    best = int(scores[0].argmax())
    assert best == groups[0].permutation[0]
    if loss != "softmax_ce":  # which learns the best passage only
        assert tuple(scores[0].argsort(descending=True).tolist()) == groups[0].permutation


def test_the_best_checkpoint_is_loaded_at_the_end(bert_classifier_folder, tmp_path):
    groups = groups_of(4)
    trainer = build(
        bert_classifier_folder,
        tmp_path,
        groups,
        eval_groups=groups,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        max_steps=4,
        load_best_model_at_end=True,
        metric_for_best_model="teacher_nDCG@10",
        greater_is_better=True,
    )
    trainer.train()
    history = [entry["eval_teacher_nDCG@10"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert len(history) == 4
    assert trainer.evaluate()["eval_teacher_nDCG@10"] == pytest.approx(max(history))


def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(bert_classifier_folder, tmp_path):
    groups = groups_of(9)
    keywords = {
        "per_device_train_batch_size": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "max_steps": 12,
        "optim": "adamw_torch",
    }
    whole = weights_after(build(bert_classifier_folder, tmp_path / "whole", groups, **keywords))
    trainer = build(bert_classifier_folder, tmp_path / "resumed", groups, **keywords)
    trainer.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    resumed = torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])
    torch.testing.assert_close(resumed, whole, atol=1e-6, rtol=0)


def test_a_saved_folder_holds_the_settings_and_no_pickle(bert_classifier_folder, tmp_path):
    trainer = build(bert_classifier_folder, tmp_path, groups_of(3), save_strategy="no", max_steps=1)
    trainer.save_model()
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors", "reranker_config.json", "tokenizer.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt"))}


def test_labels_that_the_loss_does_not_take_are_refused_before_training(bert_classifier_folder, tmp_path):
    trainer = build(bert_classifier_folder, tmp_path, groups_of(2))
    with pytest.raises(ValueError, match='labels="scores"'):
        DistillRerankerTrainer(
            model=trainer.model, args=trainer.args, data_collator=GroupCollator(trainer.layout), loss="kl"
        )


def test_a_collator_without_a_layout_is_refused(bert_classifier_folder, tmp_path):
    trainer = build(bert_classifier_folder, tmp_path, groups_of(2))
    with pytest.raises(ValueError, match="GroupCollator"):
        DistillRerankerTrainer(model=trainer.model, args=trainer.args)


def test_a_loss_of_ones_own_and_ones_own_optimizer_work(bert_classifier_folder, tmp_path):
    def spread(scores, labels, mask):
        return -(scores * mask).sum(dim=1)

    trainer = build(
        bert_classifier_folder,
        tmp_path,
        groups_of(2),
        loss=Loss(spread, "scores", ("reciprocal",)),
        save_strategy="no",
        max_steps=2,
    )
    optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    trainer = DistillRerankerTrainer(
        model=trainer.model,
        args=trainer.args,
        train_dataset=trainer.train_dataset,
        data_collator=trainer.data_collator,
        optimizers=(optimizer, scheduler),
        loss=trainer.loss,
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[1] < losses[0]


def test_judgements_of_the_collection_are_cut_to_the_evaluated_queries():
    groups = groups_of(2)
    qrels = {"q0": {"d0": 1, "elsewhere": 2}, "q9": {"d0": 1}}
    assert eval_judgements(groups, qrels) == ({"q0": {"d0": 1, "elsewhere": 2}}, "")


def test_processes_that_would_train_alone_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--use_cpu"):
        check_launch(world_size=1, n_gpu=0)
    check_launch(world_size=2, n_gpu=1)


def test_several_gpus_without_a_launcher_are_refused(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="torchrun --nproc_per_node 4"):
        check_launch(world_size=1, n_gpu=4)


class WithTerm(PointLayout):
    """A layout with a further term of the loss, 2 for each query."""

    def verdict(self, outputs, batch):
        return replace(super().verdict(outputs, batch), terms={"extra": torch.full((len(batch["mask"]),), 2.0)})


@pytest.mark.parametrize(
    ("loss_weight", "term_weights", "expected"),
    [
        (1.0, {}, lambda ranking: ranking + 0.5 * 2.0),  # the layout's own weight
        (3.0, {"extra": 0.25}, lambda ranking: 3.0 * ranking + 0.25 * 2.0),
        (0.0, {"extra": 1.0}, lambda ranking: 2.0),
    ],
)
def test_further_terms_are_weighted_and_added_to_each_querys_loss(
    bert_classifier_folder, tmp_path, loss_weight, term_weights, expected
):
    plain = build(bert_classifier_folder, tmp_path, groups_of(3))
    inner = plain.layout
    layout = WithTerm(inner.tokenizer, inner.settings, inner.encode, inner.model_inputs, term_weights={"extra": 0.5})
    trainer = DistillRerankerTrainer(
        model=plain.model,
        args=plain.args,
        data_collator=GroupCollator(layout),
        loss_weight=loss_weight,
        term_weights=term_weights,
    )
    batch = plain.data_collator(groups_of(3))
    with torch.no_grad():
        plain.model.eval()
        _, ranking = plain.score(plain.model, batch)
        _, per_query = trainer.score(plain.model, batch)
    assert torch.allclose(per_query, torch.as_tensor(expected(ranking)).expand(3))


@pytest.mark.parametrize("loss", ["metric_bce", "pair_bce"])
def test_a_loss_that_the_student_cannot_learn_by_is_refused_before_training(bert_classifier_folder, tmp_path, loss):
    plain = build(bert_classifier_folder, tmp_path, groups_of(2))
    with pytest.raises(InputError, match=f"--loss {loss} learns from .*choose one of .*rank_net"):
        DistillRerankerTrainer(model=plain.model, args=plain.args, data_collator=plain.data_collator, loss=loss)


def test_the_chosen_candidates_score_is_the_one_that_the_student_puts_first():
    passages = (Passage("a", "one"), Passage("b", "two"))
    group = Group("q", "?", passages, (0, 1), 2, scores=(0.25, 0.75))
    assert chosen_score(group, {"a": 1.0, "b": -1.0}) == 0.25
    assert chosen_score(group, {"a": 1.0, "b": 2.0}) == 0.75


def test_where_weights_stay_in_parts_config_tokenizer_and_settings_are_saved(
    bert_classifier_folder, tmp_path, monkeypatch
):
    trainer = build(bert_classifier_folder, tmp_path, groups_of(2))
    monkeypatch.setattr(Trainer, "save_model", lambda self, *arguments: None)  # as with FSDP's SHARDED_STATE_DICT
    trainer.save_model(str(tmp_path / "parts"))
    names = {path.name for path in (tmp_path / "parts").iterdir()}
    assert {"config.json", "tokenizer.json", "reranker_config.json"} <= names


def test_fsdp_that_trainer_has_made_something_else_of_is_said_aloud(bert_classifier_folder, tmp_path, caplog):
    trainer = build(bert_classifier_folder, tmp_path, groups_of(2), save_strategy="no", max_steps=1)
    trainer.add_callback(_SayWhatRuns(trainer))
    trainer.train()
    assert "--fsdp was asked for, but training runs as BertForSequenceClassification" in caplog.text

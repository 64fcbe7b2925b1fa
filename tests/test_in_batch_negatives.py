"""In-batch negatives: the other groups' passages, tied as the worst, at the cost of no further row."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import TrainingArguments

from tevatron_distill.collator import GroupCollator, with_in_batch_negatives
from tevatron_distill.dataset import TeacherPermutationDataset
from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.schema import Group, Passage
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.trainer import DistillRerankerTrainer


def passages(*names: str) -> tuple[Passage, ...]:
    return tuple(Passage(name, f"text {name}") for name in names)


FIRST = Group("a", "one", passages("x", "y"), (1, 0), 2, scores=(0.5, 2.0), judgements=(0.0, 1.0))
SECOND = Group(
    "b", "two", passages("y", "z", "w"), (2, 0, 1), 1, scores=(0.0, -1.0, 3.0), metrics={"m": (3.0, 1.0, 2.0)}
)
THIRD = Group("c", "one", passages("v"), (0,), 1)


def test_the_others_passages_stand_behind_its_own_tied_as_the_worst():
    first, second = with_in_batch_negatives([FIRST, SECOND])
    assert [passage.docid for passage in first.passages] == ["x", "y", "z", "w"]  # its own y stays what it was
    assert first.ranks() == (2, 1, 3, 3)
    assert first.scores == (0.5, 2.0, 0.5, 0.5)
    assert first.judgements == (0.0, 1.0, 0.0, 0.0)
    assert [passage.docid for passage in second.passages] == ["y", "z", "w", "x"]
    assert second.ranks() == (2, 2, 1, 2)
    assert second.metrics == {"m": (3.0, 1.0, 2.0, 1.0)}


def test_a_text_of_its_own_under_another_docid_is_no_negative():
    other = replace(SECOND, passages=(Passage("other", "text x"), *SECOND.passages[1:]))
    assert [passage.docid for passage in with_in_batch_negatives([FIRST, other])[0].passages] == ["x", "y", "z", "w"]


def test_a_group_with_the_same_query_gives_no_negatives():
    first, _, third = with_in_batch_negatives([FIRST, SECOND, THIRD])
    assert "v" not in [passage.docid for passage in first.passages]
    assert [passage.docid for passage in third.passages] == ["v", "y", "z", "w"]


def test_no_passage_is_encoded_twice(bert_folder):
    layout = load_student(str(bert_folder), "colbert").layout
    plain = GroupCollator(layout)([FIRST, SECOND])
    batch = GroupCollator(layout, in_batch_negatives=True)([FIRST, SECOND])
    assert len(batch["passage_input_ids"]) == len(plain["passage_input_ids"]) == 4
    assert batch["mask"].sum(dim=1).tolist() == [4, 4]
    assert len(batch["row_index"]) == 8


def test_with_one_positive_it_is_the_cross_entropy_over_the_batch(bert_folder):
    """As open-retrievals means it: query i against every passage of the batch, its own positive the target."""
    student = load_student(str(bert_folder), "colbert", settings={"temperature": 1.0})
    groups = [
        Group(str(n), word, passages(f"{word} good", f"{word} bad"), (0, 1), 1, judgements=(1.0, 0.0))
        for n, word in enumerate(("red", "green", "blue"))
    ]
    batch = GroupCollator(student.layout, in_batch_negatives=True)(groups)
    with torch.no_grad():
        outputs = student.model.eval()(**{name: batch[name] for name in student.layout.model_inputs})
        verdict = student.layout.verdict(outputs, batch)
    losses = ranking_loss(LOSSES["softmax_ce"], verdict.scores, batch["labels"], batch["mask"])
    table = torch.stack(
        [
            student.layout.similarity(
                outputs["query_vectors"][[n]],
                batch["query_counted"][[n]],
                outputs["passage_vectors"],
                batch["passage_counted"],
            )
            for n in range(3)
        ]
    )
    targets = torch.tensor([0, 2, 4])  # the rows of the positives
    expected = torch.nn.functional.cross_entropy(table, targets, reduction="none")
    assert torch.allclose(losses, expected, atol=1e-5)


@pytest.mark.parametrize("student", ["colbert", "summa_reranker"])
@pytest.mark.parametrize("loss", [name for name, row in LOSSES.items() if row.kind in ("scores", "margins", "metrics")])
def test_every_loss_learns_from_them(loss, student, bert_folder):
    options = LoadOptions(training=True)
    loaded = load_student(str(bert_folder), student, options=options, settings={"metrics": ("m",)})
    row = LOSSES[loss]
    if row.kind not in loaded.layout.loss_kinds:
        pytest.skip("colbert predicts no metrics")
    groups = [replace(group, metrics={"m": group.scores}) for group in (replace(FIRST, judgements=None), SECOND)]
    collator = GroupCollator(loaded.layout, row.labels[0], ("m",), in_batch_negatives=True)
    if row.labels == ("judgements",):
        groups = [replace(group, judgements=tuple(float(rank == 1) for rank in group.ranks())) for group in groups]
    batch = collator(groups)
    outputs = loaded.model(**{name: batch[name] for name in loaded.layout.model_inputs})
    verdict = loaded.layout.verdict(outputs, batch)
    losses = ranking_loss(row, verdict.scores, batch["labels"], batch["mask"], metric_logits=verdict.metric_logits)
    assert losses.isfinite().all()
    losses.sum().backward()
    assert loaded.model.get_input_embeddings().weight.grad.isfinite().all()


def test_evaluation_measures_the_lists_as_they_are(bert_folder, tmp_path, toy_groups):
    student = load_student(str(bert_folder), "colbert", options=LoadOptions(training=True))

    def evaluate(in_batch_negatives: bool) -> dict[str, float]:
        trainer = DistillRerankerTrainer(
            model=student.model,
            args=TrainingArguments(
                output_dir=str(tmp_path),
                use_cpu=True,
                report_to="none",
                remove_unused_columns=False,
                dataloader_pin_memory=False,
            ),
            train_dataset=TeacherPermutationDataset(toy_groups, 2),
            eval_dataset=TeacherPermutationDataset(toy_groups, train_group_size=None),
            data_collator=GroupCollator(student.layout, in_batch_negatives=in_batch_negatives),
        )
        found = trainer.evaluate()
        assert trainer.data_collator.in_batch_negatives is in_batch_negatives
        return {name: value for name, value in found.items() if "DCG" in name or name == "eval_loss"}

    assert evaluate(True) == evaluate(False)

"""SimCLS: the cosine of [CLS] vectors, a margin by rank difference, and a gold text that ranking never needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import margin_ranking_loss, normalize
from transformers import AutoModel, AutoTokenizer

from tevatron_distill.collator import GroupCollator
from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Group, Passage
from tevatron_distill.students import LoadOptions, load_student

TEXTS = ("one two three", "red green blue " * 9, "cat", "the dog sat on the mat")
GROUP = Group("q", "what is a reranker?", tuple(Passage(str(n), t) for n, t in enumerate(TEXTS)), (2, 0, 3, 1), 4)


def cls_vectors(folder, texts) -> torch.Tensor:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        return normalize(model(**inputs).last_hidden_state[:, 0], dim=-1)


def verdict_of(student, groups):
    batch = GroupCollator(student.layout)(groups)
    student.model.eval()
    outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    return student.layout.verdict(outputs, batch), batch


def test_scores_are_cosines_of_cls_vectors(bert_folder):
    expected = cls_vectors(bert_folder, TEXTS) @ cls_vectors(bert_folder, [GROUP.query])[0]
    student = load_student(str(bert_folder), "simcls")
    assert verdict_of(student, [GROUP])[0].scores[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)
    reranker = Reranker(student.model, student.layout, "cpu")
    ranked = reranker.rank(GROUP.query, list(TEXTS))
    assert [position for position, _ in ranked] == expected.argsort(descending=True).tolist()
    assert [score for _, score in ranked] == pytest.approx(sorted(expected.tolist(), reverse=True), abs=1e-5)


def published_loss(similarity: torch.Tensor, gold: torch.Tensor, order: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """LLM-Blender's two terms for one query: margins by rank difference, and candidates above the gold text."""
    above = margin_ranking_loss(gold.expand_as(similarity), similarity, torch.ones_like(similarity), margin=0.0)
    total = torch.zeros(())
    for i in range(len(order)):
        for j in range(i + 1, len(order)):
            first, second = similarity[order[i]], similarity[order[j]]
            total = total + margin_ranking_loss(first, second, torch.ones(()), margin=(j - i) / len(order))
    return total, above


def test_loss_and_gold_term_are_the_published_ones(bert_folder):
    group = replace(GROUP, reference="a reranker orders passages")
    source = cls_vectors(bert_folder, [GROUP.query])[0]
    similarity = cls_vectors(bert_folder, TEXTS) @ source
    gold = cls_vectors(bert_folder, [group.reference])[0] @ source
    margins, above = published_loss(similarity, gold, list(GROUP.permutation))
    verdict, batch = verdict_of(load_student(str(bert_folder), "simcls"), [group, GROUP])
    loss = ranking_loss(LOSSES["margin_rank"], verdict.scores, batch["labels"], batch["mask"])
    assert loss.tolist() == pytest.approx([margins.item()] * 2, abs=1e-5)
    assert verdict.terms["gold"].tolist() == pytest.approx([above.item(), 0.0], abs=1e-6)


def test_no_gold_text_means_no_term(bert_folder):
    verdict, batch = verdict_of(load_student(str(bert_folder), "simcls"), [GROUP])
    assert verdict.terms == {}
    assert "gold_index" not in batch


def test_a_gold_text_that_is_a_candidate_is_encoded_once(bert_folder):
    student = load_student(str(bert_folder), "simcls")
    verdict, batch = verdict_of(student, [replace(GROUP, reference=TEXTS[2])])
    assert len(batch["passage_input_ids"]) == 4
    above = (verdict.scores[0] - verdict.scores[0, 2]).clamp(min=0).mean()
    assert verdict.terms["gold"].item() == pytest.approx(above.item(), abs=1e-6)


def test_the_gold_text_gets_a_gradient_through_its_term(bert_folder):
    student = load_student(str(bert_folder), "simcls", options=LoadOptions(training=True))
    group = replace(GROUP, query=TEXTS[2], reference="a text of its own")  # no text is nearer to it than itself
    verdict, _ = verdict_of(student, [group])
    assert verdict.terms["gold"].item() > 0
    verdict.terms["gold"].sum().backward()
    assert student.model.get_input_embeddings().weight.grad.abs().sum() > 0

"""Windows as rows: where the answer stands, what of it is learned, and what comes out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import WORDS

from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.layouts.list import NO_TARGET, ListLayout
from tevatron_distill.schema import Candidates, Group, Passage
from tevatron_distill.students import LoadedStudent, LoadOptions, load_student

PASSAGES = tuple(Passage(str(n), " ".join(WORDS[n : n + 3])) for n in range(5))
GROUP = Group("q", "red one", PASSAGES, (2, 0, 1, 4, 3), 5)
PAIR = Group("p", "blue", PASSAGES[:2], (1, 0), 2)


@pytest.fixture(scope="module")
def student(llama_folder) -> LoadedStudent:
    return load_student(str(llama_folder), "listwise", options=LoadOptions(training=True))


@pytest.fixture
def layout(student) -> ListLayout:
    return replace(student.layout)


def spelled(layout: ListLayout, ids: torch.Tensor) -> str:
    return layout.tokenizer.decode([token for token in ids.tolist() if token != NO_TARGET])


def test_a_group_becomes_a_window_with_the_teachers_order_as_its_answer(layout):
    batch = layout.collate([GROUP, PAIR])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == batch["position_ids"].shape
    assert [spelled(layout, row) for row in batch["answer_ids"]] == ["[C] > [A] > [B] > [E] > [D]</s>", "[B] > [A]</s>"]
    assert layout.tokenizer.convert_ids_to_tokens(batch["identifier_ids"][0].tolist()) == ["A", "B", "C", "D", "E"]
    assert batch["identifier_ids"][1, 2:].tolist() == [0, 0, 0]
    text = layout.tokenizer.decode(batch["input_ids"][0])
    assert "query: red one." in text
    assert "[A] red green blue\n[B] green blue yellow\n" in text
    assert not [name for name in batch if "label" in name]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_answer_index_is_the_bracket_behind_which_the_first_identifier_comes(layout, side):
    layout.settings = replace(layout.settings, padding_side=side)
    batch = layout.collate([GROUP, PAIR])
    for row, start, first in zip(batch["input_ids"], batch["answer_index"], ("C", "B"), strict=True):
        assert layout.tokenizer.convert_ids_to_tokens(row[start : start + 2].tolist()) == ["[", first]
    for row, start, answer in zip(batch["input_ids"], batch["answer_index"], batch["answer_ids"], strict=True):
        length = int((answer != NO_TARGET).sum())
        assert torch.equal(row[start : start + length], answer[:length])


def test_positions_count_real_tokens_only(layout):
    batch = layout.collate([GROUP, PAIR])
    for mask, positions in zip(batch["attention_mask"].bool(), batch["position_ids"], strict=True):
        assert positions[mask].tolist() == list(range(int(mask.sum())))


def test_candidates_and_students_that_only_rank_have_no_answer(layout):
    candidates = Candidates("q", "red one", PASSAGES, ())
    plain = layout.collate([candidates])
    layout.answers = False
    ranking = layout.collate([GROUP])
    assert "answer_ids" not in plain
    assert "answer_ids" not in ranking
    assert torch.equal(plain["input_ids"], ranking["input_ids"])
    assert plain["answer_index"].tolist() == [plain["input_ids"].shape[1] - 1]


def test_what_the_teacher_did_not_rank_is_not_taught(layout):
    [answer] = layout.collate([replace(GROUP, num_ranked=2)])["answer_ids"]
    assert spelled(layout, answer) == "[C] > [A]"  # neither a third passage nor an end
    batch = layout.collate([replace(GROUP, num_ranked=0), PAIR])
    assert (batch["answer_ids"][0] == NO_TARGET).all()


def test_a_batch_without_anything_to_learn_still_has_a_loss_with_a_gradient(student):
    batch = student.layout.collate([replace(GROUP, num_ranked=0)])
    loss = student.model(**{name: batch[name] for name in student.layout.model_inputs}).lm_loss
    loss.sum().backward()
    assert loss.tolist() == [0.0]
    assert all(not weight.grad.any() for weight in student.model.parameters() if weight.grad is not None)


def test_a_drawn_order_is_shown_as_it_is_drawn(layout):
    drawn = GROUP.select([4, 0, 2])
    text = layout.tokenizer.decode(layout.collate([drawn])["input_ids"][0])
    assert text.index("[A] one two") < text.index("[B] red green blue") < text.index("[C] blue yellow one")
    assert text.endswith("[C] > [B] > [A]</s>")


def test_scores_are_the_identifiers_logits_and_zero_where_there_is_no_passage(layout):
    logits = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.bfloat16)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    verdict = layout.verdict({"logits": logits}, {"mask": mask})
    assert verdict.scores.dtype == torch.float32
    assert verdict.scores.tolist() == [[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]]
    assert verdict.terms == {}
    loss = torch.tensor([0.5, 1.5])
    assert layout.verdict({"logits": logits, "lm_loss": loss}, {"mask": mask}).terms["lm"] is loss


def test_settings_of_windows_are_saved(student, tmp_path):
    student.layout.settings.save(tmp_path)
    saved = RerankerSettings.read(tmp_path)
    assert saved == student.layout.settings
    assert (saved.window_size, saved.step_size, saved.num_passes, saved.decode) == (20, 10, 1, "logits")
    assert saved.prompt == "rank_zephyr_alpha"

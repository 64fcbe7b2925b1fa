"""Laws that every student keeps, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import build_bert, build_causal, build_t5

from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.schema import Candidates, Passage
from tevatron_distill.students import STUDENTS, LoadedStudent, LoadOptions, LoraOptions, load_student

KINDS: dict[str, tuple[str, Callable[..., Path], tuple[object, ...], dict[str, object]]] = {
    "bert cross-encoder": ("cross_encoder", build_bert, (), {"head": True}),
    "llama cross-encoder": ("cross_encoder", build_causal, ("llama",), {}),
    "llama yes": ("yes_token", build_causal, ("llama",), {}),
    "qwen3 yes, tied": ("yes_token", build_causal, ("qwen3",), {"tied": True}),
    "gemma2 yes": ("yes_token", build_causal, ("gemma2",), {"tied": True}),
    "t5 yes, untied": ("yes_token", build_t5, (), {}),
    "t5 yes, tied": ("yes_token", build_t5, (), {"tied": True}),
    "bert colbert": ("colbert", build_bert, (), {}),
    "bert colbert, mutual": ("colbert", build_bert, (), {}),
    "bert colbert, open-retrievals": ("colbert", build_bert, (), {}),
    "bert colbert, pylate": ("colbert", build_bert, (), {}),
    "bert simcls": ("simcls", build_bert, (), {}),
    "bert pair": ("pair_ranker", build_bert, (), {}),
    "llama pair": ("pair_ranker", build_causal, ("llama",), {}),
    "t5 pair": ("pair_ranker", build_t5, (), {}),
    "bert summa": ("summa_reranker", build_bert, (), {}),
    "llama llm_ranker": ("llm_ranker", build_causal, ("llama",), {}),
    "llama yes - no": ("yes_token", build_causal, ("llama",), {}),
    "llama listwise": ("listwise", build_causal, ("llama",), {}),
    "gemma2 listwise": ("listwise", build_causal, ("gemma2",), {"tied": True}),
    "t5 true - false": ("yes_token", build_t5, (), {}),
}
WISHES: dict[str, dict[str, object]] = {
    "bert colbert, open-retrievals": {"colbert_convention": "open_retrievals", "colbert_dim": 16, "temperature": 1.0},
    "bert colbert, mutual": {"colbert_convention": "mutual"},
    "bert colbert, pylate": {"colbert_convention": "pylate", "colbert_dim": 16},
    "bert summa": {"metrics": ("bleu", "rouge")},
    "llama yes - no": {"prompt": "llm_rankers_yes_no"},
    "t5 true - false": {"prompt": "monot5"},
}
CANDIDATES = [
    Candidates(
        "a", "one two", tuple(Passage(str(n), "red green blue " * n + "seven", "cat" * (n % 2)) for n in range(4)), ()
    ),
    Candidates("b", "what is a reranker?", (Passage("x", "a reranker orders passages"), Passage("y", "dog")), ()),
]


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def make(kind, make_folder) -> Callable[..., LoadedStudent]:
    student, build, arguments, keywords = KINDS[kind]

    def load(path: str | Path | None = None, training: bool = True, lora: LoraOptions | None = None, **settings):
        folder = path or make_folder(build, *arguments, **keywords)
        torch.manual_seed(3)
        loaded = load_student(
            str(folder),
            None if path else student,
            options=LoadOptions(training=training, lora=lora),
            settings=settings if path else {**WISHES.get(kind, {}), **settings},
        )
        loaded.model.eval()
        return loaded

    return load


def scores_of(student: LoadedStudent, candidates=CANDIDATES) -> torch.Tensor:
    """Scores of all candidates in one batch."""
    batch = student.layout.collate(candidates)
    sizes = torch.tensor([len(one.passages) for one in candidates])
    batch["mask"] = torch.arange(int(sizes.max())) < sizes[:, None]
    outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs if name in batch})
    return student.layout.verdict(outputs, batch).scores


def test_the_matrix_has_every_student():
    assert {student for student, *_ in KINDS.values()} == set(STUDENTS)


def test_a_padded_batch_scores_as_each_row_alone(make, kind):
    student = make(pad_to_multiple_of=0)
    together = scores_of(student)
    wide = scores_of(make(pad_to_multiple_of=64))
    assert torch.allclose(together, wide, atol=2e-5)
    for query, one in enumerate(CANDIDATES):
        if "pair" in kind or "listwise" in kind:  # a passage has a score beside others only
            alone = scores_of(student, [one])[0]
            assert torch.allclose(alone, together[query, : len(alone)], atol=2e-5)
            continue
        for place, passage in enumerate(one.passages):
            alone = scores_of(student, [replace(one, passages=(passage,))])
            assert alone.item() == pytest.approx(together[query, place].item(), abs=2e-5)


def test_scores_do_not_depend_on_the_order_of_rows(make, kind):
    if "listwise" in kind:
        pytest.skip("a window's identifiers stand for places: its scores may depend on the order shown")
    student = make()
    swapped = scores_of(student, [replace(one, passages=one.passages[::-1]) for one in reversed(CANDIDATES)])
    assert torch.allclose(swapped[1].flip(0), scores_of(student)[0], atol=2e-5)


def test_padding_on_the_left_scores_as_padding_on_the_right(make, kind):
    student = make(pad_to_multiple_of=0)
    side = "left" if student.layout.settings.padding_side == "right" else "right"
    if "bert" in kind:
        pytest.skip("BERT counts its positions from the left and pads on the right only")
    student.layout.settings = replace(student.layout.settings, padding_side=side)
    assert torch.allclose(scores_of(student), scores_of(make(pad_to_multiple_of=0)), atol=2e-5)


def test_a_saved_student_scores_as_before(make, kind, tmp_path):
    student = make(rerank_max_len=500 if "listwise" in kind else 200, query_max_len=40)
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    again = make(tmp_path, training=False)
    assert again.layout.settings == student.layout.settings
    assert torch.equal(scores_of(again), scores_of(student))


@pytest.mark.filterwarnings("ignore:.*was not present in.*modules_to_save.*")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`")
def test_an_adapter_scores_the_same_reloaded_and_merged(make, tmp_path):
    student = make(lora=LoraOptions(r=2, alpha=4, dropout=0.0))
    torch.manual_seed(5)
    with torch.no_grad():
        for weight in student.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.05)
    trainable = [name for name, weight in student.model.named_parameters() if weight.requires_grad]
    assert trainable
    assert all("lora_" in name or "modules_to_save" in name for name in trainable)
    student.model.save_pretrained(tmp_path)
    student.tokenizer.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    expected = scores_of(student)
    assert torch.allclose(scores_of(make(tmp_path, training=True)), expected, atol=1e-6)
    merged = make(tmp_path, training=False)
    assert not [name for name, _ in merged.model.named_parameters() if "lora_" in name]
    assert torch.allclose(scores_of(merged), expected, atol=2e-5)


def still_by_nature(kind: str, name: str) -> bool:
    """Weights that cannot matter: one decoder step attends to itself only; experts of summa_reranker that no row is
    sent to, and the noise of its gates, which only training has."""
    if "pair" in kind and name == "head_layer.4.bias":  # both candidates get it
        return True
    return ("summa" in kind and ("mixture.experts" in name or "noise" in name)) or (
        "t5" in kind
        and "decoder" in name
        and ("SelfAttention.q" in name or "SelfAttention.k" in name or "relative" in name)
    )


def test_every_parameter_gets_a_gradient(make, kind):
    student = make()
    scores = scores_of(student)
    (scores * torch.linspace(1, 2, scores.numel()).view_as(scores)).sum().backward()
    still = {
        name
        for name, weight in student.model.named_parameters()
        if weight.grad is None or not weight.grad.abs().sum() > 0
    }
    assert {name for name in still if not still_by_nature(kind, name)} == set()


def test_one_group_can_be_learned_by_heart(make):
    student = make(query_max_len=32)
    optimizer = torch.optim.Adam(student.model.parameters(), lr=3e-3)
    for _ in range(60):
        scores = scores_of(student, CANDIDATES[:1])
        if (scores.diff() > 0.5).all():
            break
        optimizer.zero_grad()
        torch.nn.functional.softplus(1.0 - scores.diff()).sum().backward()
        optimizer.step()
    assert scores.argsort(descending=True).tolist() == [[3, 2, 1, 0]]


def test_the_folder_remembers_what_inference_must_repeat(make, tmp_path):
    student = make(rerank_max_len=77, query_prefix="query:", passage_prefix="passage:")
    student.layout.settings.save(tmp_path)
    saved = RerankerSettings.read(tmp_path)
    assert saved == student.layout.settings
    assert (saved.rerank_max_len, saved.query_prefix, saved.passage_prefix) == (77, "query:", "passage:")
    assert saved.pad_token_id == student.tokenizer.pad_token_id == student.model.config.pad_token_id


def test_stray_labels_never_reach_a_model(make):
    student = make()
    assert "labels" not in student.layout.model_inputs
    assert not [name for name in student.layout.collate(CANDIDATES) if "label" in name]

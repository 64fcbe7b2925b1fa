"""SummaReranker: gating and balance against plain implementations, and the defects of the published code."""

from __future__ import annotations

import pytest
import torch
from torch.distributions.normal import Normal

from tevatron_distill.collator import GroupCollator
from tevatron_distill.layouts.metrics import spread
from tevatron_distill.losses import LOSSES, ranking_loss
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Group, InputError, Passage
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.students.mixture import Gate, MetricHead

TEXTS = ("one two three", "red green blue " * 9, "cat", "the dog sat on the mat")
METRICS = {"bleu": (0.1, 0.4, 0.9, 0.2), "rouge": (0.3, 0.8, 0.5, 0.1)}
PASSAGES = tuple(Passage(str(n), text) for n, text in enumerate(TEXTS))
GROUP = Group("q", "what is a reranker?", PASSAGES, (2, 0, 1, 3), 4, metrics=METRICS)


@pytest.fixture
def student(bert_folder):
    torch.manual_seed(0)
    options = LoadOptions(training=True)
    return load_student(str(bert_folder), "summa_reranker", options=options, settings={"metrics": ("bleu", "rouge")})


def plain_scores(head: MetricHead, rows: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The published head for inference, row by row and expert by expert, in log space only at the end."""
    logits, gates = [], []
    for row in head.fc2(torch.relu(head.fc1(rows))):
        for gate, tower in zip(head.gates, head.towers, strict=True):
            clean = gate.clean.weight @ row
            best = clean.argsort(descending=True)[:top_k]
            shares = clean[best].exp() / clean[best].exp().sum()
            mixed = torch.zeros_like(row)
            for share, number in zip(shares, best.tolist(), strict=True):
                expert = head.experts[number]
                mixed = mixed + share * expert.fc2(torch.relu(expert.fc1(row))).exp()
            logits.append(tower(mixed.log()))
            gates.append(torch.zeros_like(clean).scatter(0, best, shares))
    shape = (len(rows), len(head.gates))
    return torch.stack(logits).view(shape), torch.stack(gates).view(*shape, -1)


@pytest.mark.parametrize("num_metrics", [1, 2, 3])
def test_gating_at_inference_is_the_plain_one(num_metrics):
    torch.manual_seed(num_metrics)
    head = MetricHead(16, num_metrics).eval()
    for gate in head.gates:
        torch.nn.init.normal_(gate.clean.weight)
    assert len(head.experts) == 2 * num_metrics
    rows = torch.randn(7, 16)
    with torch.no_grad():
        expected, gates = plain_scores(head, rows, num_metrics)
        logits, importance, load = head(rows)
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(importance, gates, atol=1e-6)
    assert torch.equal(load, (gates > 0).float())
    assert torch.equal(head(rows)[0], head(rows)[0])


def test_load_in_training_is_the_chance_of_the_published_code():
    torch.manual_seed(0)
    gate, rows, top_k = Gate(16, 6, 3).train(), torch.randn(5, 16), 3
    for layer in (gate.clean, gate.noise):
        torch.nn.init.normal_(layer.weight)
    torch.manual_seed(1)
    gates, load = gate(rows)
    torch.manual_seed(1)
    clean = gate.clean(rows)
    deviation = torch.nn.functional.softplus(gate.noise(rows)) + 1e-2
    noisy = clean + torch.randn_like(clean) * deviation
    values = noisy.sort(descending=True).values
    if_in, if_out = values[:, top_k, None], values[:, top_k - 1, None]
    standard = Normal(0.0, 1.0)
    inside, outside = standard.cdf((clean - if_in) / deviation), standard.cdf((clean - if_out) / deviation)
    assert torch.allclose(load, torch.where(noisy > if_in, inside, outside), atol=1e-6)
    assert (gates > 0).sum(dim=1).tolist() == [top_k] * 5
    assert torch.allclose(gates.sum(dim=1), torch.ones(5))


def published_cv_squared(x: torch.Tensor) -> torch.Tensor:
    return x.float().var() / (x.float().mean() ** 2 + 1e-10)


def test_the_balance_term_is_the_published_sum_and_every_query_bears_it(student):
    groups = [GROUP, Group("r", "cat", PASSAGES[:2], (0, 1), 2)]
    batch = GroupCollator(student.layout)(groups)
    outputs = student.model.eval()(**{name: batch[name] for name in student.layout.model_inputs})
    assert torch.allclose(spread(torch.tensor([[1.0, 2.0, 6.0]])), torch.tensor([7.0 / 9.0]))
    expected = sum(
        published_cv_squared(outputs[name][:, metric].sum(0)) for metric in range(2) for name in ("importance", "load")
    )
    terms = student.layout.verdict(outputs, batch).terms
    assert terms["balance"].tolist() == pytest.approx([expected.item()] * 2, rel=1e-5)
    assert student.layout.term_weights == {"balance": 0.01}


def test_the_score_orders_as_the_published_sigmoid_of_the_mean(student):
    batch = GroupCollator(student.layout)([GROUP])
    outputs = student.model.eval()(**{name: batch[name] for name in student.layout.model_inputs})
    verdict = student.layout.verdict(outputs, batch)
    assert torch.allclose(verdict.scores, outputs["logits"].mean(-1)[None])
    assert torch.equal(verdict.metric_logits[0], outputs["logits"])
    assert student.layout.row_scores(outputs).tolist() == verdict.scores[0].tolist()


def test_every_parameter_learns_in_training(student):
    """Noise sends a small batch to all experts in the end; none is left out for ever."""
    student.model.train()
    moved: set[str] = set()
    batch = GroupCollator(student.layout, "metrics", ("bleu", "rouge"))([GROUP])
    for seed in range(20):
        torch.manual_seed(seed)
        student.model.zero_grad()
        verdict = student.layout.verdict(student.model(**{k: batch[k] for k in student.layout.model_inputs}), batch)
        loss = ranking_loss(
            LOSSES["metric_bce"], verdict.scores, batch["labels"], batch["mask"], metric_logits=verdict.metric_logits
        )
        (loss + 0.01 * verdict.terms["balance"]).sum().backward()
        moved |= {name for name, weight in student.model.named_parameters() if weight.grad.abs().sum() > 0}
    assert {name for name, _ in student.model.named_parameters()} - moved == set()


def test_the_best_of_each_measure_is_learned_by_heart(student):
    student.model.train()
    batch = GroupCollator(student.layout, "metrics", ("bleu", "rouge"))([GROUP])
    optimizer = torch.optim.Adam(student.model.parameters(), lr=1e-3)
    torch.manual_seed(0)
    for _ in range(400):
        verdict = student.layout.verdict(student.model(**{k: batch[k] for k in student.layout.model_inputs}), batch)
        loss = ranking_loss(
            LOSSES["metric_bce"], verdict.scores, batch["labels"], batch["mask"], metric_logits=verdict.metric_logits
        )
        optimizer.zero_grad()
        (loss + 0.01 * verdict.terms["balance"]).sum().backward()
        optimizer.step()
        if loss.item() < 0.01:
            break
    student.model.eval()
    with torch.no_grad():
        outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    assert outputs["logits"].argmax(dim=0).tolist() == [2, 1]


def test_ranking_needs_no_metrics_and_keeps_nothing(student):
    reranker = Reranker(student.model, student.layout, "cpu")
    before = {name: len(value) for name, value in vars(student.model.mixture).items() if isinstance(value, list | dict)}
    first = reranker.rank(GROUP.query, list(TEXTS))
    assert reranker.rank(GROUP.query, list(TEXTS)) == first
    after = {name: len(value) for name, value in vars(student.model.mixture).items() if isinstance(value, list | dict)}
    assert after == before


def test_it_learns_from_an_order_alone_with_one_tower(bert_folder):
    student = load_student(str(bert_folder), "summa_reranker", options=LoadOptions(training=True))
    assert student.layout.settings.metrics is None
    batch = GroupCollator(student.layout)([GROUP])
    verdict = student.layout.verdict(student.model(**{k: batch[k] for k in student.layout.model_inputs}), batch)
    assert verdict.metric_logits.shape == (1, 4, 1)
    ranking_loss(LOSSES["rank_net"], verdict.scores, batch["labels"], batch["mask"]).sum().backward()


def test_names_and_towers_are_saved_and_must_agree(student, bert_folder, tmp_path):
    for part in (student.model, student.tokenizer):
        part.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    again = load_student(str(tmp_path))
    assert again.layout.settings.metrics == ("bleu", "rouge")
    assert len(again.model.mixture.towers) == 2
    with pytest.raises(InputError, match="was trained with 2 measures; got bleu"):
        load_student(str(tmp_path), settings={"metrics": ("bleu",)})
    with pytest.raises(InputError, match=r"would be random: mixture"):
        load_student(str(bert_folder), "summa_reranker")


def test_an_encoder_is_needed(t5_folder, llama_folder):
    with pytest.raises(InputError, match="summa_reranker needs an encoder"):
        load_student(str(t5_folder), "summa_reranker")
    with pytest.raises(InputError, match=r"reads \[CLS\] query \[SEP\] passage"):
        load_student(str(llama_folder), "summa_reranker")


def test_text_that_looks_like_a_marker_is_text(student):
    """LLM-Blender's markers are words of the prompt there, and crash its pair ranker when a text has them."""
    ranked = Reranker(student.model, student.layout, "cpu").rank("<|source|> one", ["<|candidate|> two", "three"])
    assert len(ranked) == 2


@pytest.mark.parametrize("architecture", ["roberta", "deberta-v2"])
@pytest.mark.parametrize("student", ["summa_reranker", "simcls"])
def test_other_encoders_will_do(architecture, student, bert_folder, tmp_path):
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    tokenizer.save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), pad_token_id=0, type_vocab_size=1, **sizes)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    options = LoadOptions(training=True)
    loaded = load_student(str(tmp_path), student, options=options)
    assert "token_type_ids" not in loaded.layout.model_inputs
    batch = GroupCollator(loaded.layout)([GROUP])
    outputs = loaded.model(**{name: batch[name] for name in loaded.layout.model_inputs})
    loaded.layout.verdict(outputs, batch).scores.sum().backward()
    for part in (loaded.model, loaded.tokenizer):
        part.save_pretrained(tmp_path / "saved")
    loaded.layout.settings.save(tmp_path / "saved")
    again = Reranker.from_pretrained(str(tmp_path / "saved"), device="cpu").rank(GROUP.query, list(TEXTS))
    assert again == Reranker(loaded.model, loaded.layout, "cpu").rank(GROUP.query, list(TEXTS))

"""Token vectors, masks and the projection of the MaxSim student."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadedStudent, LoadOptions, load_student

PASSAGES = (Passage("a", "one two three", "the title"), Passage("b", "red green blue " * 9), Passage("c", "cat"))
CANDIDATES = [Candidates("q", "what is a reranker?", PASSAGES, ())]


def scores_of(student: LoadedStudent, candidates=CANDIDATES) -> list[float]:
    batch = student.layout.collate(candidates)
    batch["mask"] = torch.ones(1, len(candidates[0].passages), dtype=torch.bool)
    student.model.eval()
    with torch.no_grad():
        outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    return student.layout.verdict(outputs, batch).scores[0].tolist()


@pytest.mark.parametrize("specials", [True, False])
def test_scores_are_those_of_a_plain_loop_over_an_encoder(bert_folder, specials):
    tokenizer, model = AutoTokenizer.from_pretrained(bert_folder), AutoModel.from_pretrained(bert_folder).eval()

    def vectors(text: str, limit: int) -> torch.Tensor:
        inputs = tokenizer(text, truncation=True, max_length=limit, return_tensors="pt")
        with torch.no_grad():
            hidden = torch.nn.functional.normalize(model(**inputs).last_hidden_state[0], dim=-1)
        return hidden if specials else hidden[1:-1]

    expected = []
    for passage in PASSAGES:
        best = vectors("what is a reranker?", 64) @ vectors(f"{passage.title} {passage.text}", 128).T
        expected.append(best.amax(dim=1).mean().item() / 0.02)
    ours = scores_of(load_student(str(bert_folder), "colbert", settings={"count_special_tokens": specials}))
    assert ours == pytest.approx(expected, abs=1e-3)


def test_texts_of_nothing_but_special_tokens_have_finite_scores(bert_folder):
    student = load_student(str(bert_folder), "colbert", settings={"count_special_tokens": False})
    only = [Candidates("q", "[CLS]", (Passage("d", "[SEP]"), Passage("e", "one")), ())]
    assert all(abs(score) < 100 for score in scores_of(student, only))


def test_lengths_are_kept_on_both_sides(bert_folder):
    student = load_student(str(bert_folder), "colbert")
    batch = student.layout.collate([Candidates("q", "red " * 500, (Passage("d", "red " * 500),), ())])
    assert batch["query_input_ids"].shape == (1, 64)
    assert batch["passage_input_ids"].shape == (1, 128)


def test_the_temperature_scales_and_never_reorders(bert_folder):
    cold = scores_of(load_student(str(bert_folder), "colbert", settings={"temperature": 0.01}))
    warm = scores_of(load_student(str(bert_folder), "colbert", settings={"temperature": 1.0}))
    assert cold == pytest.approx([score / 0.01 for score in warm], rel=1e-4)
    assert all(-1.0 <= score <= 1.0 for score in warm)


def test_a_projection_is_new_in_training_saved_and_refused_where_it_is_missing(bert_folder, tmp_path):
    with pytest.raises(InputError, match=r"would be random: linear\.weight"):
        load_student(str(bert_folder), "colbert", settings={"colbert_dim": 8})
    student = load_student(str(bert_folder), "colbert", options=LoadOptions(training=True), settings={"colbert_dim": 8})
    batch = student.layout.collate(CANDIDATES)
    outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    assert outputs.passage_vectors.shape[-1] == 8
    assert torch.allclose(outputs.passage_vectors.norm(dim=-1), torch.tensor(1.0), atol=1e-5)
    for part in (student.model, student.tokenizer):
        part.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    assert scores_of(load_student(str(tmp_path))) == scores_of(student)


def test_the_folder_opens_as_the_plain_encoder_elsewhere(bert_folder, tmp_path):
    load_student(str(bert_folder), "colbert").model.save_pretrained(tmp_path)
    plain = AutoModel.from_pretrained(tmp_path)
    assert plain.config.architectures == ["BertModel"]
    inputs = torch.tensor([[2, 5, 6, 3]])
    expected = AutoModel.from_pretrained(bert_folder).eval()(inputs).last_hidden_state
    assert torch.equal(plain.eval()(inputs).last_hidden_state, expected)


def test_the_projection_of_open_retrievals_is_read(bert_folder, tmp_path):
    AutoModel.from_pretrained(bert_folder).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
    torch.manual_seed(0)
    linear = torch.nn.Linear(32, 6)
    torch.save(linear.state_dict(), tmp_path / "colbert_linear.pt")
    student = load_student(str(tmp_path), "colbert")
    ids, mask = torch.tensor([[2, 5, 6, 3]]), torch.ones(1, 4, dtype=torch.long)
    hidden = AutoModel.from_pretrained(bert_folder).eval()(ids, attention_mask=mask).last_hidden_state
    expected = torch.nn.functional.normalize(linear(hidden), dim=-1)
    assert torch.allclose(student.model.eval().encode(ids, mask), expected, atol=1e-6)


def test_a_stray_input_is_refused(bert_folder):
    student = load_student(str(bert_folder), "colbert")
    batch = student.layout.collate(CANDIDATES)
    inputs = {name: batch[name] for name in student.layout.model_inputs}
    student.model(**inputs, inputs_embeds=None)
    with pytest.raises(TypeError, match="takes no labels"):
        student.model(**inputs, labels=torch.tensor([1]))


def test_an_encoder_decoder_is_refused(t5_folder):
    with pytest.raises(InputError, match="colbert needs an encoder"):
        load_student(str(t5_folder), "colbert")

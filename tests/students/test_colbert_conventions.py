"""Each convention of colbert against a plain implementation of what its program publishes."""

from __future__ import annotations

import json
import string

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from tevatron_distill.schema import Candidates, Group, InputError, Passage
from tevatron_distill.students import LoadedStudent, LoadOptions, LoraOptions, load_student

QUERY = "what is a reranker?"
PASSAGES = (
    Passage("a", "one two three! (four)", "the title"),
    Passage("b", "red green blue, " * 60),
    Passage("c", "cat"),
)
CANDIDATES = [Candidates("q", QUERY, PASSAGES, ())]
TEXTS = [f"{passage.title} {passage.text}".strip() for passage in PASSAGES]


def outputs_of(student: LoadedStudent, candidates):
    batch = student.layout.collate(candidates)
    sizes = torch.tensor([len(one.passages) for one in candidates])
    batch["mask"] = torch.arange(int(sizes.max())) < sizes[:, None]
    student.model.eval()
    with torch.no_grad():
        return student.model(**{name: batch[name] for name in student.layout.model_inputs}), batch


def learned_scores(student: LoadedStudent, candidates=CANDIDATES) -> torch.Tensor:
    outputs, batch = outputs_of(student, candidates)
    return student.layout.verdict(outputs, batch).scores


def ranking_scores(student: LoadedStudent) -> list[float]:
    outputs, batch = outputs_of(student, CANDIDATES)
    query, counted = outputs["query_vectors"], batch["query_counted"]
    rows = batch["row_index"][:, 2]
    return student.layout.row_scores(
        query.expand(len(rows), -1, -1),
        counted.expand(len(rows), -1),
        outputs["passage_vectors"][rows],
        batch["passage_counted"][rows],
    ).tolist()


class TestOpenRetrievals:
    @pytest.fixture
    def folder(self, bert_folder, tmp_path):
        AutoModel.from_pretrained(bert_folder).save_pretrained(tmp_path)
        AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path)
        torch.manual_seed(0)
        linear = torch.nn.Linear(32, 6)
        torch.save(linear.state_dict(), tmp_path / "colbert_linear.pt")
        return tmp_path

    @staticmethod
    def published(folder, texts: list[str], limit: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Vectors with zeros for pads, and the mask without its first place, as the published code makes them."""
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        linear = torch.nn.Linear(32, 6)
        linear.load_state_dict(torch.load(folder / "colbert_linear.pt"))
        rows = tokenizer(texts, padding="max_length", truncation=True, max_length=limit, return_tensors="pt")
        mask = rows["attention_mask"][:, 1:]
        with torch.no_grad():
            hidden = model(rows["input_ids"], attention_mask=rows["attention_mask"]).last_hidden_state
            return normalize(linear(hidden[:, 1:]) * mask[..., None], dim=-1), mask

    def test_the_folder_says_its_convention_and_scores_are_the_published_ones(self, folder):
        query, mask = self.published(folder, [QUERY] * 3, 64)
        passages, _ = self.published(folder, TEXTS, 256)
        total = torch.einsum("bsh,bth->bst", query, passages).max(2).values.sum(1)
        student = load_student(str(folder), "colbert")
        assert student.layout.settings.colbert_convention == "open_retrievals"
        assert ranking_scores(student) == pytest.approx((total / mask.sum(-1)).tolist(), abs=1e-5)
        assert learned_scores(student)[0].tolist() == pytest.approx((total / 0.02).tolist(), rel=1e-4)

    @pytest.mark.parametrize("limit", [24, 256])
    def test_pads_give_zero_and_only_where_there_are_pads(self, folder, limit):
        # a bias turns passages away from the query, so that all real cosines are negative
        student = load_student(str(folder), "colbert", settings={"passage_max_len": limit})
        similarity = student.layout.similarity
        query, passage = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[-1.0, 0.0]] * (limit - 1)])
        counted = torch.ones(1, limit - 1, dtype=torch.bool)
        everything = torch.ones(1, 1, dtype=torch.bool)
        assert similarity(query, everything, passage, counted).item() == -1.0
        counted[0, -1] = False
        assert similarity(query, everything, passage, counted).item() == 0.0

    def test_a_new_projection_has_its_width_and_bias(self, bert_folder):
        options, wishes = LoadOptions(training=True), {"colbert_convention": "open_retrievals"}
        student = load_student(str(bert_folder), "colbert", options=options, settings=wishes)
        assert student.model.linear.weight.shape == (1024, 32)
        assert student.model.linear.bias is not None

    @pytest.mark.filterwarnings("ignore:.*was not present in.*modules_to_save.*")
    def test_an_adapter_on_such_a_folder_finds_the_projection_again(self, folder, tmp_path):
        options = LoadOptions(training=True, lora=LoraOptions(r=2))
        student = load_student(str(folder), "colbert", options=options)
        student.model.save_pretrained(tmp_path / "adapter")
        student.tokenizer.save_pretrained(tmp_path / "adapter")
        student.layout.settings.save(tmp_path / "adapter")
        again = load_student(str(tmp_path / "adapter"))
        assert again.layout.settings == student.layout.settings
        assert torch.allclose(learned_scores(again), learned_scores(student), rtol=1e-4)


class TestPylate:
    DIM = 8

    @pytest.fixture
    def folder(self, bert_folder, tmp_path):
        """What PyLate saves: an encoder with two more tokens, a linear layer, and its settings."""
        tokenizer, model = AutoTokenizer.from_pretrained(bert_folder), AutoModel.from_pretrained(bert_folder)
        tokenizer.add_tokens(["[Q] ", "[D] "])
        tokenizer.pad_token = tokenizer.mask_token  # as PyLate leaves it
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        (tmp_path / "1_Dense").mkdir()
        torch.manual_seed(0)
        save_file({"linear.weight": torch.randn(self.DIM, 32)}, tmp_path / "1_Dense" / "model.safetensors")
        identity = {"activation_function": "torch.nn.modules.linear.Identity", "use_residual": False, "bias": False}
        self.write(tmp_path / "1_Dense" / "config.json", identity)
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
        ]
        self.write(tmp_path / "modules.json", modules)
        self.settings(tmp_path)
        return tmp_path

    @staticmethod
    def write(path, value):
        path.write_text(json.dumps(value))

    def settings(self, folder, **changed):
        values = {
            "query_prefix": "[Q] ",
            "document_prefix": "[D] ",
            "query_length": 12,
            "document_length": 40,
            "do_query_expansion": True,
            "attend_to_expansion_tokens": False,
            "skiplist_words": list(string.punctuation),
        }
        self.write(folder / "config_sentence_transformers.json", {**values, **changed})

    @staticmethod
    def vectors(folder, text: str, is_query: bool) -> torch.Tensor:
        """PyLate's tokenize and encode, for one text, written plainly."""
        said = json.loads((folder / "config_sentence_transformers.json").read_text())
        tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
        dense = torch.nn.Linear(32, TestPylate.DIM, bias=False)
        from safetensors.torch import load_file

        dense.weight.data = load_file(folder / "1_Dense" / "model.safetensors")["linear.weight"]
        marker, length = ("query_prefix", "query_length") if is_query else ("document_prefix", "document_length")
        marker = tokenizer.convert_tokens_to_ids(said[marker]) if said[marker] else None
        length = said[length] - (marker is not None)
        ids = tokenizer(text, truncation=True, max_length=length)["input_ids"]
        mask = [1] * len(ids)
        expands = is_query and said["do_query_expansion"]
        if expands:
            mask += [0] * (length - len(ids))
            ids += [tokenizer.mask_token_id] * (length - len(ids))
        if marker is not None:
            ids, mask = [ids[0], marker, *ids[1:]], [1, *mask]
        if expands and said["attend_to_expansion_tokens"]:
            mask = [1] * len(mask)
        with torch.no_grad():
            hidden = model(torch.tensor([ids]), attention_mask=torch.tensor([mask])).last_hidden_state
            made = normalize(dense(hidden[0]), dim=-1)
        skipped = set() if is_query else {tokenizer.convert_tokens_to_ids(word) for word in said["skiplist_words"]}
        skipped.discard(tokenizer.unk_token_id)  # whose place a word that is no token takes there
        return made[[place for place, token in enumerate(ids) if token not in skipped]]

    @pytest.mark.parametrize(
        "changed",
        [
            {},
            {"attend_to_expansion_tokens": True},
            {"do_query_expansion": False},
            {"skiplist_words": []},
            {"query_prefix": "", "document_prefix": ""},
            {"query_length": 6, "document_length": 9},
        ],
        ids=str,
    )
    def test_scores_are_the_sum_that_pylate_computes(self, folder, changed):
        self.settings(folder, **changed)
        query = self.vectors(folder, QUERY, True)
        expected = [(query @ self.vectors(folder, text, False).T).amax(dim=1).sum().item() for text in TEXTS]
        student = load_student(str(folder), "colbert")
        assert student.layout.settings.colbert_convention == "pylate"
        assert ranking_scores(student) == pytest.approx(expected, abs=1e-5)
        assert learned_scores(student)[0].tolist() == pytest.approx(expected, abs=1e-5)

    def test_the_encoder_keeps_its_own_pad(self, folder):
        student = load_student(str(folder), "colbert")
        assert student.layout.settings.pad_token_id == student.tokenizer.mask_token_id
        assert student.model.config.pad_token_id == 0  # RoBERTa counts its positions by it

    def test_every_query_has_its_full_length_and_passages_lose_their_punctuation(self, folder):
        student = load_student(str(folder), "colbert")
        row = student.layout.encode_query("cat")
        expected = ["[CLS]", "[Q] ", "cat", "[SEP]", *["[MASK]"] * 8]
        assert row.input_ids == student.tokenizer.convert_tokens_to_ids(expected)
        assert row.attended == [True] * 4 + [False] * 8
        assert all(row.counted)
        text = "one, two. [three],"
        row = student.layout.encode_passage(Passage("d", text))
        tokens = student.tokenizer.convert_ids_to_tokens(row.input_ids)
        dropped = [token for token, counted in zip(tokens, row.counted, strict=True) if not counted]
        assert dropped == [",", ".", ","]

    def test_it_is_saved_as_one_model_and_scores_as_before(self, folder, tmp_path):
        student = load_student(str(folder), "colbert", options=LoadOptions(training=True))
        for part in (student.model, student.tokenizer):
            part.save_pretrained(tmp_path / "saved")
        student.layout.settings.save(tmp_path / "saved")
        again = load_student(str(tmp_path / "saved"))
        assert again.layout.settings == student.layout.settings
        assert ranking_scores(again) == ranking_scores(load_student(str(folder), "colbert"))

    def test_more_layers_than_one_are_refused(self, folder):
        modules = json.loads((folder / "modules.json").read_text())
        self.write(folder / "modules.json", [*modules, {**modules[1], "idx": 2, "path": "1_Dense"}])
        with pytest.raises(
            InputError, match="an encoder at its top and one linear layer; got Transformer, Dense, Dense"
        ):
            load_student(str(folder), "colbert")

    def test_a_bi_encoder_with_pooling_is_taken_as_its_encoder(self, folder):
        modules = json.loads((folder / "modules.json").read_text())
        pooling = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
        self.write(folder / "modules.json", [modules[0], pooling])
        assert load_student(str(folder), "colbert").layout.settings.colbert_convention == "mean"

    def test_new_markers_need_training_and_begin_apart(self, bert_folder):
        wishes = {"colbert_convention": "pylate", "colbert_dim": 0}
        with pytest.raises(InputError, match=r"the markers '\[Q\] ', '\[D\] ' are no tokens of this model"):
            load_student(str(bert_folder), "colbert", settings=wishes)
        student = load_student(str(bert_folder), "colbert", options=LoadOptions(training=True), settings=wishes)
        query, passage = student.tokenizer.convert_tokens_to_ids(["[Q] ", "[D] "])
        weight = student.model.get_input_embeddings().weight
        assert len(weight) == len(student.tokenizer)
        assert not torch.equal(weight[query], weight[passage])


def test_an_unknown_convention_is_refused(bert_folder):
    with pytest.raises(InputError, match="--colbert_convention must be one of mean, mutual, open_retrievals, pylate"):
        load_student(str(bert_folder), "colbert", settings={"colbert_convention": "splade"})


def test_a_passage_that_queries_share_is_encoded_once_and_scores_as_alone(bert_folder):
    student = load_student(str(bert_folder), "colbert", settings={"temperature": 1.0})
    others = [Candidates(str(n), f"red {n}", PASSAGES[::-1], ()) for n in range(3)]
    batch = student.layout.collate(others)
    assert len(batch["passage_input_ids"]) == 3
    together = learned_scores(student, others)
    alone = torch.cat([learned_scores(student, [one]) for one in others])
    assert torch.allclose(together, alone, atol=1e-5)


def test_references_are_no_passages_of_colbert(bert_folder):
    group = Group("q", QUERY, PASSAGES, (0, 1, 2), 3, reference="the gold text")
    batch = load_student(str(bert_folder), "colbert").layout.collate([group])
    assert len(batch["passage_input_ids"]) == 3
    assert "gold_index" not in batch

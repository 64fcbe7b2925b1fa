"""Rows of the cross-encoder, and RankLLaMA's scores from plain transformers code."""

from __future__ import annotations

import pytest
import torch
from conftest import WORDS, build_causal
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.layouts.rows import Row
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.students.cross_encoder import JoinedRows, PairRows, join_pair

TEXT = st.lists(st.sampled_from(WORDS), min_size=1, max_size=80).map(" ".join)


@pytest.mark.parametrize(
    ("query", "passage", "prefixes", "expected"),
    [
        ("q", Passage("d", "text", "a-title"), ("", ""), "q  a title text"),
        ("q", Passage("d", "text"), ("", ""), "q   text"),
        ("q", Passage("d", "well-known"), ("query:", "document:"), "query: q document:  well-known"),
        ("q", Passage("d", "text", "t"), ("query: ", "document: "), "query:  q document:  t text"),
        ("q", Passage("d", "text"), ("query: ", "document: "), "query:  q document:   text"),
    ],
)
def test_query_and_passage_are_joined_as_tevatron_joins_them(query, passage, prefixes, expected):
    assert join_pair(query, passage, *prefixes) == expected


@pytest.fixture(scope="module")
def wordpiece(bert_folder):
    return AutoTokenizer.from_pretrained(bert_folder)


@settings(deadline=None, max_examples=60)
@given(query=TEXT, text=TEXT, limit=st.integers(8, 64))
def test_the_passage_is_cut_first_and_the_query_never_eaten(wordpiece, query, text, limit):
    [row] = PairRows(wordpiece, RerankerSettings(rerank_max_len=limit), token_types=True)(query, [Passage("d", text)])
    assert len(row.input_ids) <= limit
    query_ids = wordpiece(query, add_special_tokens=False)["input_ids"]
    text_ids = wordpiece(text, add_special_tokens=False)["input_ids"]
    kept_query = [i for i, kind in zip(row.input_ids, row.token_type_ids, strict=True) if kind == 0][1:-1]
    kept_text = [i for i, kind in zip(row.input_ids, row.token_type_ids, strict=True) if kind == 1][:-1]
    assert kept_query == query_ids[: len(kept_query)]
    assert kept_text == text_ids[: len(kept_text)]
    room = limit - 3
    assert len(kept_query) >= min(len(query_ids), room // 2)
    assert len(kept_text) >= min(len(text_ids), room // 2)
    if len(query_ids) + len(text_ids) <= room:
        assert (kept_query, kept_text) == (query_ids, text_ids)


ROWS = {"pair": "bert_folder", "joined": "llama_folder"}


@pytest.mark.parametrize("kind", ROWS)
@settings(deadline=None, max_examples=40)
@given(query=TEXT, texts=st.lists(TEXT, max_size=6), limit=st.integers(8, 64), own=st.sampled_from([None, 3, 20]))
def test_passages_tokenised_at_once_make_the_rows_that_each_makes_alone(tokenizers, kind, query, texts, limit, own):
    kept = RerankerSettings(rerank_max_len=limit, passage_max_len=own, query_max_len=own)
    make = PairRows(tokenizers[kind], kept, True) if kind == "pair" else JoinedRows(tokenizers[kind], kept)
    passages = [Passage("d", text, title) for text, title in zip(texts, ["", "red"] * 3, strict=False)]
    alone = [row for passage in passages for row in make(query, [passage])]
    assert (make(query, passages) if passages else []) == alone


@pytest.fixture(scope="module")
def tokenizers(request):
    return {kind: AutoTokenizer.from_pretrained(request.getfixturevalue(folder)) for kind, folder in ROWS.items()}


def test_own_limits_of_query_and_passage_are_kept(wordpiece):
    limits = RerankerSettings(query_max_len=2, passage_max_len=3)
    [row] = PairRows(wordpiece, limits, token_types=False)("one two three", [Passage("d", "four five six seven")])
    assert wordpiece.decode(row.input_ids) == "[CLS] one two [SEP] four five six [SEP]"
    assert row.token_type_ids is None


def test_titles_and_prefixes_stand_before_the_text(wordpiece):
    prefixes = RerankerSettings(query_prefix="question:", passage_prefix="passage:")
    [row] = PairRows(wordpiece, prefixes, token_types=False)("one", [Passage("d", "two", "red")])
    assert wordpiece.decode(row.input_ids) == "[CLS] question : one [SEP] passage : red two [SEP]"


def test_a_joined_row_is_cut_on_the_right_and_may_end_in_eos(llama_folder):
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    whole = tokenizer("one  red two three four")["input_ids"]
    passage = Passage("d", "two three four", "red")
    assert JoinedRows(tokenizer, RerankerSettings())("one", [passage]) == [Row(whole)]
    assert JoinedRows(tokenizer, RerankerSettings(rerank_max_len=5))("one", [passage]) == [Row(whole[:5])]
    [ended] = JoinedRows(tokenizer, RerankerSettings(rerank_max_len=5, append_eos_token=True))("one", [passage])
    assert ended.input_ids == [*whole[:4], tokenizer.eos_token_id]


@pytest.fixture
def rank_llama(make_folder, tmp_path):
    """A trained RankLLaMA in small: a decoder's sequence classifier with one label."""
    base = make_folder(build_causal, "llama")
    torch.manual_seed(4)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path, tokenizer, model.eval()


PASSAGES = (Passage("a", "one two three", "the-title"), Passage("b", "a much longer text " * 4), Passage("c", "cat"))


def our_logits(folder, **keywords) -> list[float]:
    student = load_student(str(folder), settings=keywords)
    batch = student.layout.collate([Candidates("q", "what is red?", PASSAGES, ())])
    student.model.eval()
    with torch.no_grad():
        outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    return student.layout.row_scores(outputs).tolist()


def test_tevatrons_reranking_is_reproduced_from_plain_transformers_code(rank_llama):
    folder, tokenizer, model = rank_llama
    expected = []
    for passage in PASSAGES:
        title = passage.title.replace("-", " ").strip()
        text = f"query:  what is red? document:  {title} {passage.text}".strip()
        ids = [*tokenizer(text, truncation=True, max_length=511)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            expected.append(model(input_ids=torch.tensor([ids])).logits[0, 0].item())
    ours = our_logits(folder, query_prefix="query: ", passage_prefix="document: ", append_eos_token=True)
    assert ours == pytest.approx(expected, abs=1e-5)


def test_the_model_cards_two_texts_are_reproduced_by_pair_encoding(rank_llama):
    folder, tokenizer, model = rank_llama
    expected = []
    for passage in PASSAGES:
        text = f"document: {passage.title} {passage.text}".replace("  ", " ").strip()
        inputs = tokenizer("query: what is red?", text, return_tensors="pt", return_token_type_ids=False)
        with torch.no_grad():
            expected.append(model(**inputs).logits[0, 0].item())
    ours = our_logits(folder, query_prefix="query:", passage_prefix="document:", pair_encoding=True)
    assert ours == pytest.approx(expected, abs=1e-5)


def test_a_text_that_ends_in_the_pad_token_is_refused_and_an_eos_helps(rank_llama):
    folder, tokenizer, _ = rank_llama
    bad = [Candidates("q7", "red", (Passage("d9", f"one two{tokenizer.pad_token}"),), ())]
    with pytest.raises(InputError, match=r'query_id "q7", docid "d9".*pad token'):
        load_student(str(folder)).layout.collate(bad)
    load_student(str(folder), settings={"append_eos_token": True}).layout.collate(bad)


def test_an_encoder_row_is_cut_to_the_positions_that_it_has(bert_classifier_folder, caplog):
    student = load_student(str(bert_classifier_folder), settings={"rerank_max_len": 4096})
    assert student.layout.settings.rerank_max_len == 512
    assert "cut to the model's 512 positions" in caplog.text
    batch = student.layout.collate([Candidates("q", "one", (Passage("d", "red " * 3000),), ())])
    assert batch["input_ids"].shape == (1, 512)
    student.model(**{name: batch[name] for name in student.layout.model_inputs})


def test_segment_ids_reach_a_bert_with_and_without_an_adapter(bert_classifier_folder):
    from tevatron_distill.students import LoraOptions

    plain = load_student(str(bert_classifier_folder))
    adapted = load_student(str(bert_classifier_folder), options=LoadOptions(training=True, lora=LoraOptions()))
    assert plain.layout.model_inputs == adapted.layout.model_inputs
    assert "token_type_ids" in plain.layout.model_inputs

"""open-retrievals' LLMRanker and further prompts of Yes-token students, against the published snippets' formulas."""

from __future__ import annotations

import pytest
import torch
from conftest import train_byte_level
from transformers import AutoModelForCausalLM, AutoTokenizer, GemmaConfig, T5ForConditionalGeneration

from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadedStudent, LoadOptions, load_student

QUERY = "what is a reranker?"
PASSAGES = (
    Passage("a", "one two three", "the title"),
    Passage("b", "a reranker orders passages by relevance " * 5),
    Passage("c", "cat"),
)
CANDIDATES = [Candidates("q", QUERY, PASSAGES, (0.0,) * 3)]
TEXTS = [f"{passage.title} {passage.text}".strip() for passage in PASSAGES]
TASK = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)


@pytest.fixture(scope="module")
def gemma_folder(tmp_path_factory):
    """The shape of bge-reranker-v2-gemma: a Gemma with its language model's head, tied, without a softcap."""
    folder = tmp_path_factory.mktemp("gemma")
    tokenizer = train_byte_level(folder, pad="<pad>")
    torch.manual_seed(0)
    config = GemmaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=8,
        intermediate_size=64,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def scores_of(student: LoadedStudent, candidates=CANDIDATES) -> list[float]:
    batch = student.layout.collate(candidates)
    student.model.eval()
    with torch.no_grad():
        outputs = student.model(**{name: batch[name] for name in student.layout.model_inputs})
    return student.layout.row_scores(outputs).tolist()


def published_ids(tokenizer, query: str, passage: str, task: str = TASK) -> list[int]:
    """The pieces of the published snippet, each tokenised by itself."""
    pieces = (f"A: {query}", "\n", f"B: {passage}", "\n", task)
    ids = [tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces]
    return [tokenizer.bos_token_id, *(token for piece in ids for token in piece)]


def yes_logits(folder, rows: list[list[int]], yes: int) -> list[float]:
    """The logit of Yes at the last token of each row, one row at a time, by the whole language model."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return [model(torch.tensor([row])).logits[0, -1, yes].item() for row in rows]


def test_scores_are_those_of_the_published_snippet(gemma_folder):
    tokenizer = AutoTokenizer.from_pretrained(gemma_folder)
    [yes] = tokenizer("Yes", add_special_tokens=False)["input_ids"]
    expected = yes_logits(gemma_folder, [published_ids(tokenizer, QUERY, text) for text in TEXTS], yes)
    student = load_student(str(gemma_folder), "llm_ranker")
    assert student.layout.settings.yes_token_id == yes
    assert student.layout.settings.no_token_id is None
    assert scores_of(student) == pytest.approx(expected, abs=2e-6)
    assert scores_of(load_student(str(gemma_folder), "yes_token", settings={"prompt": "bge_gemma"})) == scores_of(
        student
    )


def test_the_last_real_token_is_read_and_never_a_pad(gemma_folder):
    """open-retrievals pads on the right and reads the last place of the row, whatever stands there."""
    tokenizer = AutoTokenizer.from_pretrained(gemma_folder)
    student = load_student(str(gemma_folder), "llm_ranker", settings={"padding_side": "right"})
    batch = student.layout.collate(CANDIDATES)
    assert not batch["attention_mask"][0, -1]  # the shortest rows end in pads
    rows = [published_ids(tokenizer, QUERY, text) for text in TEXTS]
    expected = yes_logits(gemma_folder, rows, student.layout.settings.yes_token_id)
    assert scores_of(student) == pytest.approx(expected, abs=2e-6)
    at_pad = AutoModelForCausalLM.from_pretrained(gemma_folder).eval()(batch["input_ids"], batch["attention_mask"])
    assert abs(at_pad.logits[0, -1, student.layout.settings.yes_token_id].item() - expected[0]) > 1e-4


@pytest.mark.parametrize("limit", [90, 100, 120])
def test_only_the_passage_is_cut_never_the_task(gemma_folder, limit):
    """open-retrievals cuts what stands last: the task, and in training the answer."""
    tokenizer = AutoTokenizer.from_pretrained(gemma_folder)
    student = load_student(str(gemma_folder), "llm_ranker", settings={"rerank_max_len": limit})
    whole = published_ids(tokenizer, QUERY, "red " * 400)
    row = student.layout.encode(QUERY, [Passage("d", "red " * 400)])[0].input_ids
    tail = (
        tokenizer("\n", add_special_tokens=False)["input_ids"] + tokenizer(TASK, add_special_tokens=False)["input_ids"]
    )
    assert len(row) == limit
    assert row[-len(tail) :] == tail
    assert row[: -len(tail)] == whole[: limit - len(tail)]
    with pytest.raises(InputError, match="raise it, or cut queries by --query_max_len"):
        student.layout.encode("red " * 400, PASSAGES[:1])
    cut = load_student(str(gemma_folder), "llm_ranker", settings={"rerank_max_len": limit, "query_max_len": 5})
    assert len(cut.layout.encode("red " * 400, [PASSAGES[1]])[0].input_ids) <= limit


@pytest.mark.parametrize(
    ("template", "expected"),
    [("A: {}", "A: cat"), ("A:", "A: cat"), ("A: ", "A: cat"), ("{}", "cat"), ("Ask: {}!", "Ask: cat!")],
)
def test_an_instruction_never_loses_the_text(gemma_folder, template, expected):
    """open-retrievals formats templates, and one without braces leaves nothing but itself."""
    student = load_student(
        str(gemma_folder), "llm_ranker", settings={"query_prefix": template, "passage_prefix": template}
    )
    shown = student.tokenizer.decode(
        student.layout.encode("cat", [Passage("d", "cat")])[0].input_ids, skip_special_tokens=True
    )
    assert shown == f"{expected}\n{expected}\n{TASK}"


def test_braces_in_a_text_are_text(gemma_folder):
    student = load_student(str(gemma_folder), "llm_ranker")
    row = student.layout.encode("is {} empty?", [Passage("d", "{0} {query}")])[0]
    shown = student.tokenizer.decode(row.input_ids, skip_special_tokens=True)
    assert shown == f"A: is {{}} empty?\nB: {{0}} {{query}}\n{TASK}"


def test_the_task_is_the_callers_and_is_saved(gemma_folder, tmp_path):
    task = "Does B answer A? Yes or No?"
    student = load_student(str(gemma_folder), "llm_ranker", settings={"task_prompt": task})
    tokenizer = AutoTokenizer.from_pretrained(gemma_folder)
    rows = [published_ids(tokenizer, QUERY, text, task) for text in TEXTS]
    expected = yes_logits(gemma_folder, rows, student.layout.settings.yes_token_id)
    assert scores_of(student) == pytest.approx(expected, abs=2e-6)
    for part in (student.model, student.tokenizer):
        part.save_pretrained(tmp_path)
    student.layout.settings.save(tmp_path)
    again = load_student(str(tmp_path))
    assert again.layout.settings == student.layout.settings
    assert scores_of(again) == scores_of(student)


def test_one_passage_is_ranked_as_a_batch_is(gemma_folder):
    reranker = Reranker.from_pretrained(str(gemma_folder), "llm_ranker", device="cpu")
    scores = reranker.score_candidates(CANDIDATES)[0]
    assert [reranker.compute_score([QUERY, text]) for text in TEXTS] == pytest.approx(scores, abs=2e-6)


class TestTwoAnswers:
    """The score is the difference of two logits: the log-odds of the first answer against the second."""

    def test_qwen3_reranker(self, make_folder):
        from conftest import build_causal

        folder = make_folder(build_causal, "qwen3", tied=True)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        student = load_student(
            str(folder), "yes_token", settings={"prompt": "qwen3_reranker", "yes_token": "Yes", "no_token": "No"}
        )
        yes, no = student.layout.settings.yes_token_id, student.layout.settings.no_token_id
        assert tokenizer.convert_ids_to_tokens([yes, no]) == ["Yes", "No"]  # nothing between the frame and the answer
        model, expected = AutoModelForCausalLM.from_pretrained(folder).eval(), []
        for text in TEXTS:
            frame = (
                "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
                'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
                "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
                f"<Query>: {QUERY}\n<Document>: {text}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
            )
            ids = tokenizer(frame, add_special_tokens=False, return_tensors="pt").input_ids
            with torch.no_grad():
                pair = model(ids).logits[0, -1, [no, yes]].log_softmax(0)
            expected.append((pair[1] - pair[0]).item())
        assert scores_of(student) == pytest.approx(expected, abs=2e-5)

    def test_the_instruction_of_qwen3_reranker_can_be_another(self, llama_folder):
        wishes = {"prompt": "qwen3_reranker", "yes_token": "Yes", "no_token": "No", "task_prompt": "Find cats"}
        student = load_student(str(llama_folder), "yes_token", settings=wishes)
        shown = student.tokenizer.decode(student.layout.encode("cat", [PASSAGES[2]])[0].input_ids)
        assert "<Instruct>: Find cats\n<Query>: cat\n<Document>: cat<|im_end|>" in shown

    def test_monot5(self, t5_folder):
        tokenizer, model = (
            AutoTokenizer.from_pretrained(t5_folder),
            T5ForConditionalGeneration.from_pretrained(t5_folder),
        )
        student = load_student(str(t5_folder), "yes_token", settings={"prompt": "monot5"})
        true, false = student.layout.settings.yes_token_id, student.layout.settings.no_token_id
        assert tokenizer.convert_ids_to_tokens([true, false]) == ["▁true", "▁false"]
        expected = []
        for text in TEXTS:
            ids = tokenizer(f"Query: {QUERY} Document: {text} Relevant: ", return_tensors="pt").input_ids
            with torch.no_grad():
                logits = model.eval()(ids, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, 0]
            expected.append((logits[true] - logits[false]).item())
        assert scores_of(student) == pytest.approx(expected, abs=2e-5)

    @pytest.mark.parametrize("folder", ["llama_folder", "t5_folder"])
    def test_both_are_saved_and_score_as_before(self, folder, request, tmp_path):
        folder = str(request.getfixturevalue(folder))
        wishes = {"prompt": "llm_rankers_yes_no"}
        student = load_student(folder, "yes_token", options=LoadOptions(training=True), settings=wishes)
        assert student.layout.settings.no_token == "No"
        for part in (student.model, student.tokenizer):
            part.save_pretrained(tmp_path)
        student.layout.settings.save(tmp_path)
        again = load_student(str(tmp_path))
        assert again.layout.settings == student.layout.settings
        assert scores_of(again) == scores_of(student)
        alone = load_student(folder, "yes_token", settings={**wishes, "no_token": ""})
        assert alone.layout.settings.no_token_id is None
        assert scores_of(alone) != scores_of(student)

    def test_a_difference_of_capped_logits_is_refused(self, make_folder):
        from conftest import build_causal

        folder = str(make_folder(build_causal, "gemma2"))
        with pytest.raises(InputError, match="caps each logit"):
            load_student(folder, "yes_token", settings={"prompt": "llm_rankers_yes_no"})
        load_student(folder, "yes_token", settings={"prompt": "llm_rankers_yes_no", "no_token": ""})

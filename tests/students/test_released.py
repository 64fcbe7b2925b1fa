"""Released models, by folders of their shapes: what they load as, and that they score by their published code."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import released_folders as shapes
import torch
from safetensors.torch import load_file, save_file
from test_pair_ranker import build_backbone, pair_rm_folder, published_scores
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    T5ForConditionalGeneration,
)

from tevatron_distill.driver import rerank, teach
from tevatron_distill.formats.groups import read_groups
from tevatron_distill.formats.rerank_input import write_candidates_lines
from tevatron_distill.formats.runs import read_run
from tevatron_distill.prompts import POINT_PROMPTS
from tevatron_distill.reranker import Reranker
from tevatron_distill.schema import Candidates, InputError, Passage
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.students.released import RELEASED, named

QUERY = "what is a reranker?"
PASSAGES = (
    Passage("a", "one two three", "the title"),
    Passage("b", "a reranker orders passages by relevance to the query " * 4, "dogs-and-cats"),
    Passage("c", "the cat sat on the mat", "mat"),
)
CANDIDATES = Candidates("q", QUERY, PASSAGES, (3.0, 2.0, 1.0))
TEXTS = [f"{passage.title} {passage.text.strip()}" for passage in PASSAGES]


# ---- the published ways to score, one row at a time


def read_at(model: Any, ids: Sequence[int], **keywords: Any) -> torch.Tensor:
    """The model's logits of one row."""
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([list(ids)]), **keywords).logits[0]


def plain_classifier(folder: Path) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)


def with_adapter(folder: Path) -> tuple[Any, Any]:
    """The base model with the adapter's products added by hand, and the tokenizer."""
    config = json.loads((folder / "adapter_config.json").read_text())
    base = config["base_model_name_or_path"]
    model = plain_classifier(base)
    if (folder / "adapter_model.bin").exists():
        state = torch.load(folder / "adapter_model.bin", weights_only=True)
    else:
        state = load_file(folder / "adapter_model.safetensors")
    weights = dict(model.named_parameters())
    with torch.no_grad():
        weights["score.weight"].copy_(state["base_model.model.score.weight"])
        for name in [name for name in state if "lora_A" in name]:
            product = state[name.replace("lora_A", "lora_B")] @ state[name]
            inner = name.removeprefix("base_model.model.").replace("lora_A.", "")
            weights[inner] += config["lora_alpha"] / config["r"] * product
    return model, AutoTokenizer.from_pretrained(folder if (folder / "tokenizer.json").exists() else base)


def two_texts(model: Any, tokenizer: Any) -> list[float]:
    """Tevatron v1, examples/rankllama/data.py: both texts by themselves, each behind ``<s>``, no ``</s>``."""
    begin = tokenizer.bos_token_id

    def alone(text: str) -> list[int]:
        return [begin, *tokenizer(text, add_special_tokens=False)["input_ids"]]

    query = alone(f"query: {QUERY}")
    rows = [[*query, *alone(f"document: {text}")] for text in TEXTS]
    return [read_at(model, row).item() for row in rows]


def first_rank_llama(folder: Path) -> list[float]:
    return two_texts(*with_adapter(folder))


def merged_rank_llama(folder: Path) -> list[float]:
    return two_texts(plain_classifier(folder), AutoTokenizer.from_pretrained(folder))


def later_rank_llama(folder: Path) -> list[float]:
    """Tevatron's present program: one string with its double spaces, cut, and ``</s>``."""
    model, tokenizer = with_adapter(folder)
    rows = []
    for passage in PASSAGES:
        text = f"query:  {QUERY} document:  {passage.title.replace('-', ' ').strip()} {passage.text}".strip()
        rows.append([*tokenizer(text, truncation=True, max_length=511)["input_ids"], tokenizer.eos_token_id])
    return [read_at(model, row).item() for row in rows]


def instructdistill_prompts() -> list[str]:
    texts = [f"Title: {passage.title} Content: {passage.text}" for passage in PASSAGES]
    return [
        f"Predict whether the given passage answer the question.\n\nQuestion: {QUERY}\n\nPassage: "
        f"{' '.join(text.split()[:200])}\n\nDoes the passage answer the question?"
        for text in texts
    ]


def rank_llama_2(folder: Path) -> list[float]:
    """InstructDistill: the logit of ``▁Yes`` (3869) at the last token."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    yes = tokenizer.convert_tokens_to_ids("▁Yes")
    return [read_at(model, tokenizer(text)["input_ids"])[-1, yes].item() for text in instructdistill_prompts()]


def t5_logits(folder: Path, prompts: Sequence[str]) -> tuple[Any, list[torch.Tensor]]:
    """The logits of the first decoded token."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), T5ForConditionalGeneration.from_pretrained(folder)
    start = torch.zeros(1, 1, dtype=torch.long)
    return tokenizer, [read_at(model, tokenizer(text)["input_ids"], decoder_input_ids=start)[0] for text in prompts]


def rank_flan_t5(folder: Path) -> list[float]:
    """InstructDistill: the logit of ``▁Yes`` (2163) at the decoder's first step."""
    tokenizer, logits = t5_logits(folder, instructdistill_prompts())
    return [row[tokenizer.convert_tokens_to_ids("▁Yes")].item() for row in logits]


def mono_t5(folder: Path) -> list[float]:
    """rank_llm: the probability of ``▁true`` (1176) against ``▁false`` (6136)."""
    tokenizer, logits = t5_logits(folder, [f"Query: {QUERY} Document: {text} Relevant: " for text in TEXTS])
    true, false = tokenizer.convert_tokens_to_ids(["▁true", "▁false"])
    return [row[[false, true]].softmax(0)[1].item() for row in logits]


def cross_encoder(folder: Path) -> list[float]:
    """sentence-transformers and FlagEmbedding: the pair, encoded by the tokenizer; the raw logit."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), plain_classifier(folder)
    rows = [tokenizer(QUERY, text, truncation=True, max_length=512, return_tensors="pt") for text in TEXTS]
    with torch.no_grad():
        return [model.eval()(**row).logits.item() for row in rows]


def bge_gemma(folder: Path) -> list[float]:
    """FlagLLMReranker: pieces tokenised by themselves behind ``<bos>``; the logit of ``Yes``."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    task = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing "
        "a prediction of either 'Yes' or 'No'."
    )

    def alone(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    [yes, *_] = alone("Yes")
    line = alone("\n")
    rows = [
        [tokenizer.bos_token_id, *alone(f"A: {QUERY}"), *line, *alone(f"B: {text}"), *line, *alone(task)]
        for text in TEXTS
    ]
    return [read_at(model, row)[-1, yes].item() for row in rows]


def qwen3_rows(tokenizer: Any) -> list[list[int]]:
    """The card of Qwen3-Reranker: prefix, pair and suffix tokenised apart."""
    before = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    behind = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    task = "Given a web search query, retrieve relevant passages that answer the query"
    texts = [f"<Instruct>: {task}\n<Query>: {QUERY}\n<Document>: {text}" for text in TEXTS]
    return [
        [token for part in (before, text, behind) for token in tokenizer.encode(part, add_special_tokens=False)]
        for text in texts
    ]


def qwen3_reranker(folder: Path) -> list[float]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    no, yes = tokenizer.convert_tokens_to_ids("no"), tokenizer.convert_tokens_to_ids("yes")
    rows = [read_at(model, row)[-1] for row in qwen3_rows(tokenizer)]
    return [torch.stack([row[no], row[yes]]).log_softmax(0)[1].exp().item() for row in rows]


def qwen3_classifier(folder: Path) -> list[float]:
    model = plain_classifier(folder)
    return [read_at(model, row).item() for row in qwen3_rows(AutoTokenizer.from_pretrained(folder))]


def pair_rm(folder: Path) -> list[float]:
    """LLM-Blender: both orders of all pairs; ``(M - M.T).mean(1)``."""
    if "ranker_type" in json.loads((folder / "config.json").read_text()):
        folder = folder.with_name("its-weights")
    count = len(TEXTS)
    logits = [[0.0] * count for _ in TEXTS]
    for one in range(count):
        for other in range(count):
            if one != other:
                left, right = published_scores(folder, QUERY, TEXTS[one], TEXTS[other], 2048)
                logits[one][other] = left - right
    return [sum(logits[one][other] - logits[other][one] for other in range(count)) / count for one in range(count)]


def window(identifiers: str, example: str, kind: str) -> list[dict[str, str]]:
    """RankLLM's listwise prompt."""
    shown = "".join(f"[{name}] {text}\n" for name, text in zip(identifiers, TEXTS, strict=False))
    user = (
        f"I will provide you with 3 passages, each indicated by {kind} identifier []. Rank the passages based on their "
        f"relevance to the search query: {QUERY}.\n\n{shown}Search Query: {QUERY}.\nRank the 3 passages above based on "
        "their relevance to the search query. All the passages should be included and listed using identifiers, in "
        f"descending order of relevance. The output format should be [] > [], e.g., {example}, Answer concisely and "
        "directly and only respond with the ranking results, do not say any word or explain."
    )
    system = "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def rank_zephyr(folder: Path) -> list[float]:
    """RankLLM: the tokenizer puts ``<s>`` before the template's text; greedy; numbers are read, gaps are filled."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    messages = window("123", "[2] > [1]", "a numerical")
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text)["input_ids"]
    assert ids[:2].count(tokenizer.bos_token_id) == 1
    room = len(tokenizer("[1] > [2] > [3]", add_special_tokens=False)["input_ids"])
    for _ in range(room):
        ids.append(int(read_at(model, ids)[-1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    answer = tokenizer.decode(ids[-room:], skip_special_tokens=True)
    found = [int(number) - 1 for number in re.findall(r"\d+", answer)]
    order = list(dict.fromkeys([place for place in found if 0 <= place < 3] + [0, 1, 2]))
    return [1 / (1 + order.index(place)) for place in range(3)]


def first_mistral(folder: Path) -> list[float]:
    """RankLLM: without a system turn in the template it stands before the user's words; logits behind ``[``."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    system, user = window("ABC", "[B] > [A]", "an alphabetical")
    user["content"] = f"{system['content']}\n {user['content']}"
    text = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True) + "["
    logits = read_at(model, tokenizer(text, add_special_tokens=False)["input_ids"])[-1]
    return logits[tokenizer.convert_tokens_to_ids(["A", "B", "C"])].log_softmax(0).tolist()


def pair_rm_hf(folder: Path, tokenizer: Any = None) -> Path:
    """The weights as large as trained ones, so that markers see the texts."""
    folder.mkdir(parents=True, exist_ok=True)
    pair_rm_folder(folder, tokenizer)
    state = load_file(folder / "model.safetensors")
    state = {name: weight * (10 if weight.ndim > 1 and "head" not in name else 1) for name, weight in state.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def pair_rm_own(folder: Path) -> Path:
    """A checkpoint of LLM-Blender's program: its flags, its module's state, its tokenizer."""
    backbone, weights = folder.with_name("deberta-v3-large"), folder.with_name("its-weights")
    for path in (folder, backbone, weights):
        path.mkdir(parents=True, exist_ok=True)
    build_backbone(backbone, "deberta")
    pair_rm_hf(weights, AutoTokenizer.from_pretrained(backbone))
    flags = {"ranker_type": "pairranker", "model_type": "deberta", "model_name": str(backbone), "n_tasks": 1}
    flags |= {"source_maxlength": 1224, "candidate_maxlength": 412, "loss_type": "open_instruct_BCE"}
    (folder / "config.json").write_text(json.dumps(flags))
    torch.save(load_file(weights / "model.safetensors"), folder / "pytorch_model.bin")
    return folder


# ---- the table


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


class Model(NamedTuple):
    """A released model.

    Attributes:
        build: makes a folder of its shape.
        published: its scores by its own code.
        student: what it is loaded as.
        elsewhere: flags that a folder of another name needs.
        flags: flags that it needs in any case.
        shown: what its code makes of the score.
    """

    build: Callable[[Path], Path]
    published: Callable[[Path], list[float]]
    student: str
    elsewhere: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    shown: Callable[[float], float] = float


V1 = ("--pair_encoding", "true", "--query_prefix", "query:", "--passage_prefix", "document:")
LATER = ("--query_prefix", "query: ", "--passage_prefix", "document: ", "--append_eos_token")
INSTRUCT = ("--student", "yes_token")
QWEN = ("--student", "yes_token", "--prompt", "qwen3_reranker")
ZEPHYR = ("--student", "listwise", "--prompt", "rank_zephyr", "--decode", "generation")

MODELS: dict[str, Model] = {
    "castorini/rankllama-v1-7b-lora-passage": Model(shapes.rank_llama_first, first_rank_llama, "cross_encoder"),
    "Tevatron/rankllama-later": Model(shapes.rank_llama_later, later_rank_llama, "cross_encoder", flags=LATER),
    "someone/rankllama-7b-merged": Model(shapes.rank_llama_merged, merged_rank_llama, "cross_encoder", V1),
    "liuqi6777/rank-llama-2-7b": Model(shapes.rank_llama_2, rank_llama_2, "yes_token", INSTRUCT),
    "liuqi6777/rank-flan-t5-xl": Model(shapes.rank_flan_t5, rank_flan_t5, "yes_token", INSTRUCT),
    "castorini/monot5-base-msmarco": Model(
        shapes.mono_t5, mono_t5, "yes_token", ("--student", "yes_token", "--prompt", "monot5"), shown=sigmoid
    ),
    "BAAI/bge-reranker-base": Model(shapes.bge_reranker_base, cross_encoder, "cross_encoder"),
    "BAAI/bge-reranker-v2-m3": Model(shapes.bge_reranker_v2_m3, cross_encoder, "cross_encoder"),
    "BAAI/bge-reranker-v2-gemma": Model(shapes.bge_gemma, bge_gemma, "llm_ranker", ("--student", "llm_ranker")),
    "cross-encoder/ms-marco-MiniLM-L6-v2": Model(shapes.mini_lm, cross_encoder, "cross_encoder"),
    "Qwen/Qwen3-Reranker-0.6B": Model(shapes.qwen3_reranker, qwen3_reranker, "yes_token", QWEN, shown=sigmoid),
    "Qwen/Qwen3-Reranker-4B": Model(shapes.qwen3_reranker_with_roles, qwen3_reranker, "yes_token", shown=sigmoid),
    "tomaarsen/Qwen3-Reranker-0.6B-seq-cls": Model(
        shapes.qwen3_reranker_classifier, qwen3_classifier, "yes_token", QWEN
    ),
    "llm-blender/PairRM": Model(pair_rm_own, pair_rm, "pair_ranker"),
    "llm-blender/PairRM-hf": Model(pair_rm_hf, pair_rm, "pair_ranker"),
    "castorini/rank_zephyr_7b_v1_full": Model(shapes.rank_zephyr, rank_zephyr, "listwise", ZEPHYR),
    "castorini/first_mistral": Model(shapes.first_mistral, first_mistral, "listwise", ("--student", "listwise")),
}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """The folder of a released model, built once, under the last part of its name."""
    built: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in built:
            built[name] = MODELS[name].build(tmp_path_factory.mktemp("released") / name.rpartition("/")[2])
        return built[name]

    return make


@pytest.fixture
def ranked(tmp_path):
    """Rank the passages through the driver: scores in the order of the passages."""
    rows = tmp_path / "rerank_input.jsonl"
    rows.write_text("".join(f"{line}\n" for line in write_candidates_lines([CANDIDATES])))

    def run(folder: Path, *flags: str) -> list[float]:
        rerank.main(
            [
                *("--model_name_or_path", str(folder), "--dataset_path", str(rows), "--use_cpu"),
                *("--rerank_output_path", str(tmp_path / "run.tsv"), "--output_dir", str(tmp_path / "temp")),
                *("--overwrite_output_dir", *flags),
            ]
        )
        found = read_run(tmp_path / "run.tsv")["q"]
        return [found[passage.docid] for passage in PASSAGES]

    return run


def close_to(expected: Sequence[float]) -> Any:
    """Equal to 1e-5 of the largest score; small ones are differences of larger logits."""
    return pytest.approx(list(expected), rel=1e-5, abs=max(2e-6, 1e-5 * max(map(abs, expected))))


@pytest.mark.parametrize("name", MODELS)
def test_a_released_model_ranks_by_its_name_and_scores_as_published(name, folder_of, ranked):
    model, folder = MODELS[name], folder_of(name)
    expected = model.published(folder)
    assert max(expected) - min(expected) > 1e-3  # what is compared depends on the passages
    assert [model.shown(score) for score in ranked(folder, *model.flags)] == close_to(expected)


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_of_another_name_needs_its_signs_or_the_documented_flags(name, folder_of, ranked, tmp_path):
    model = MODELS[name]
    folder = tmp_path / "model"
    shutil.copytree(folder_of(name), folder)
    again = ranked(folder, *model.flags, *model.elsewhere)
    assert again == ranked(folder_of(name), *model.flags)
    if not model.elsewhere:
        assert load_student(str(folder)).layout.settings.student == model.student


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if not model.flags])
def test_a_released_model_is_a_teacher(name, folder_of, ranked, tmp_path):
    folder = folder_of(name)
    scores = ranked(folder)
    flags = ["--teacher", "student", "--model_name_or_path", str(folder)]
    rows = tmp_path / "rerank_input.jsonl"
    teach.main(["--dataset_path", str(rows), "--output_path", str(tmp_path / "groups.jsonl"), *flags])
    [group] = read_groups(tmp_path / "groups.jsonl")
    assert group.scores == close_to(scores)
    assert list(group.permutation) == sorted(range(3), key=lambda place: -scores[place])


ASKED = {
    "castorini/monot5-base-msmarco": ("pointwise", "monot5"),
    "Qwen/Qwen3-Reranker-0.6B": ("pointwise", "qwen3_reranker"),
    "BAAI/bge-reranker-v2-gemma": ("pointwise", "bge_gemma"),
    "castorini/rank_zephyr_7b_v1_full": ("listwise", "rank_zephyr"),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_teacher_that_asks_takes_the_released_models_own_prompt(name, folder_of, ranked, tmp_path):
    teacher, prompt = ASKED[name]
    scores = ranked(folder_of(name))
    flags = ["--teacher", teacher, "--model_name_or_path", str(folder_of(name)), "--max_unparsed", "1"]
    rows = tmp_path / "rerank_input.jsonl"
    teach.main(["--dataset_path", str(rows), "--output_path", str(tmp_path / "groups.jsonl"), *flags])
    [group] = read_groups(tmp_path / "groups.jsonl")
    assert group.teacher["prompt"] == prompt
    assert list(group.permutation) == sorted(range(3), key=lambda place: -scores[place])
    if teacher == "pointwise":
        assert list(group.scores) == close_to(MODELS[name].published(folder_of(name)))


def test_either_generation_of_rank_llamas_prompt_can_be_asked_of_an_adapter(folder_of, ranked, caplog):
    folder = folder_of("castorini/rankllama-v1-7b-lora-passage")
    ours = ranked(folder, *LATER, "--pair_encoding", "false")
    assert ours == close_to(later_rank_llama(folder))
    assert "--append_eos_token changes nothing" not in caplog.text
    ranked(folder, "--append_eos_token")
    assert "--append_eos_token changes nothing where the tokenizer joins query and passage" in caplog.text


# ---- other programs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["BAAI/bge-reranker-base", "cross-encoder/ms-marco-MiniLM-L6-v2"])
def test_sentence_transformers_gives_the_same_scores(name, folder_of):
    library = pytest.importorskip("sentence_transformers")
    model = library.CrossEncoder(str(folder_of(name)), device="cpu")
    expected = model.predict([(QUERY, text) for text in TEXTS], activation_fn=torch.nn.Identity()).tolist()
    reranker = Reranker.from_pretrained(str(folder_of(name)), device="cpu")
    assert reranker.score_candidates([CANDIDATES])[0] == close_to(expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["BAAI/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-gemma"])
def test_flag_embedding_gives_the_same_scores(name, folder_of):
    library = pytest.importorskip("FlagEmbedding")
    made = library.FlagLLMReranker if "gemma" in name else library.FlagReranker
    other = made(str(folder_of(name)), use_fp16=False, devices="cpu")
    expected = other.compute_score([(QUERY, text) for text in TEXTS])
    reranker = Reranker.from_pretrained(str(folder_of(name)), device="cpu")
    assert reranker.score_candidates([CANDIDATES])[0] == close_to(expected)


# ---- lengths


LONG_QUERY, LONG = "what is a dog and a cat " * 12, Passage("d", "the cat sat on the mat and looked at the dog " * 90)


def cut_by_the_tokenizer(tokenizer: Any, query: str, limit: int) -> list[int]:
    """FlagEmbedding (``only_second``) and sentence-transformers (``longest_first``) agree where the query is short."""
    text = LONG.text.strip()
    found = [
        tokenizer(query, text, truncation=rule, max_length=limit)["input_ids"]
        for rule in ("only_second", "longest_first")
    ]
    assert found[0] == found[1]
    return list(found[0])


def cut_as_rank_llama_first(tokenizer: Any, query: str, limit: int) -> list[int]:
    """Tevatron v1: 32 tokens of the query and 161 of the passage, with the words before them."""
    texts = ((f"query: {query}", 32), (f"document: {LONG.text.strip()}", 161))
    parts = [tokenizer(text, add_special_tokens=False)["input_ids"][:most] for text, most in texts]
    return [token for part in parts for token in (tokenizer.bos_token_id, *part)]


def cut_as_rank_llama_later(tokenizer: Any, query: str, limit: int) -> list[int]:
    text = f"query:  {query} document:   {LONG.text}".strip()
    return [*tokenizer(text, truncation=True, max_length=limit - 1)["input_ids"], tokenizer.eos_token_id]


def cut_as_qwen3(tokenizer: Any, query: str, limit: int) -> list[int]:
    """The pair is cut on the right to what prefix and suffix leave."""
    [frame, *_] = qwen3_rows(tokenizer)
    behind = tokenizer.encode("<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", add_special_tokens=False)
    prefix = tokenizer.encode(tokenizer.decode(frame).partition("<Instruct>")[0], add_special_tokens=False)
    task = "Given a web search query, retrieve relevant passages that answer the query"
    pair = f"<Instruct>: {task}\n<Query>: {query}\n<Document>: {LONG.text.strip()}"
    room = limit - len(prefix) - len(behind)
    return [*prefix, *tokenizer(pair, truncation=True, max_length=room)["input_ids"], *behind]


@pytest.mark.parametrize(
    ("name", "query", "published", "settings"),
    [
        ("BAAI/bge-reranker-base", QUERY, cut_by_the_tokenizer, {}),
        ("cross-encoder/ms-marco-MiniLM-L6-v2", QUERY, cut_by_the_tokenizer, {}),
        (
            "castorini/rankllama-v1-7b-lora-passage",
            LONG_QUERY,
            cut_as_rank_llama_first,
            {"query_max_len": 32, "passage_max_len": 161},
        ),
        (
            "Tevatron/rankllama-later",
            QUERY,
            cut_as_rank_llama_later,
            {"query_prefix": "query: ", "passage_prefix": "document: ", "append_eos_token": True},
        ),
        ("Qwen/Qwen3-Reranker-0.6B", QUERY, cut_as_qwen3, {"rerank_max_len": 512}),
    ],
)
def test_rows_are_cut_where_the_published_code_cuts_them(name, query, published, settings, folder_of):
    student = load_student(str(folder_of(name)), settings=settings)
    [row] = student.layout.encode(query.strip(), [LONG])
    assert row.input_ids == published(student.tokenizer, query.strip(), 512)


def test_xlm_roberta_has_two_positions_less_than_its_config_says(folder_of):
    reranker = Reranker.from_pretrained(str(folder_of("BAAI/bge-reranker-base")), device="cpu", rerank_max_len=514)
    assert reranker.layout.settings.rerank_max_len == 512
    assert math.isfinite(reranker.compute_score([QUERY, "cat " * 900]))


@pytest.mark.parametrize(
    ("name", "length"),
    [("liuqi6777/rank-flan-t5-xl", 1024), ("BAAI/bge-reranker-v2-gemma", 1024), ("Qwen/Qwen3-Reranker-0.6B", 8192)],
)
def test_rows_are_as_long_as_published(name, length, folder_of):
    assert load_student(str(folder_of(name))).layout.settings.rerank_max_len == length


@pytest.mark.parametrize("prompt", ["qwen3_reranker", "bge_gemma", "monot5"])
def test_a_prompt_without_a_cut_shows_the_passage_as_it_is_written(prompt):
    text = "first line\n\n  second  line " + "word " * 500
    assert POINT_PROMPTS[prompt].passage_text(Passage("d", text)) == text.strip()


# ---- names


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("castorini/rankllama-v1-13b-lora-doc", "rankllama"),
        ("hub/models--Qwen--Qwen3-Reranker-8B/snapshots/0af3", "qwen3_reranker"),
        ("castorini/monot5-3b-msmarco-10k", "monot5"),
        ("castorini/rank_vicuna_7b_v1", "rank_vicuna"),
        ("unicamp-dl/mt5-base-mmarco-v2", None),  # answers yes and no
        ("Qwen/Qwen3-0.6B", None),
        ("BAAI/bge-reranker-v2-m3", None),
        ("monot5-runs/model", None),
        ("", None),
    ],
)
def test_a_name_belongs_to_one_family_at_most(name, key):
    assert named(name) == key


def test_every_family_is_in_the_table():
    assert {named(name) for name in MODELS} - {None} == set(RELEASED) - {"rank_vicuna"}


def test_a_copy_that_transformers_4_saved_remembers_its_name(folder_of, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(folder_of("castorini/monot5-base-msmarco"), folder)
    shapes.change_config(folder, _name_or_path="castorini/monot5-base-msmarco")
    assert load_student(str(folder)).layout.settings.prompt == "monot5"


def test_what_the_caller_says_counts_more_than_a_name(folder_of):
    folder = str(folder_of("castorini/monot5-base-msmarco"))
    settings = load_student(folder, settings={"no_token": "", "rerank_max_len": 99}).layout.settings
    assert (settings.student, settings.no_token_id, settings.rerank_max_len) == ("yes_token", None, 99)
    flan = str(folder_of("liuqi6777/rank-flan-t5-xl"))
    assert load_student(flan, settings={"prompt": "monot5"}).layout.settings.prompt == "monot5"
    assert load_student(folder, "yes_token").layout.settings.prompt == "monot5"
    zephyr = str(folder_of("castorini/rank_zephyr_7b_v1_full"))
    assert load_student(zephyr, "yes_token").layout.settings.prompt == "instructdistill"


def test_training_goes_on_from_a_released_model_by_its_own_prompt(folder_of):
    student = load_student(str(folder_of("Qwen/Qwen3-Reranker-0.6B")), options=LoadOptions(training=True))
    assert student.layout.settings.prompt == "qwen3_reranker"


def put_into_cache(cache: Path, name: str, folder: Path) -> None:
    """A folder as huggingface_hub keeps what it has downloaded."""
    kept = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, kept / "snapshots" / "0af3")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("0af3")


@pytest.mark.parametrize("name", ["castorini/rankllama-v1-7b-lora-passage", "castorini/monot5-base-msmarco"])
def test_a_model_is_loaded_by_its_name_on_the_hub(name, folder_of, ranked, tmp_path):
    cache, folder = tmp_path / "hub", tmp_path / "model"
    shutil.copytree(folder_of(name), folder)
    if (folder / "adapter_config.json").exists():
        values, base = json.loads((folder / "adapter_config.json").read_text()), "meta-llama/Llama-2-7b-hf"
        put_into_cache(cache, base, Path(values["base_model_name_or_path"]))
        shapes.write_json(folder, "adapter_config.json", values | {"base_model_name_or_path": base})
    put_into_cache(cache, name, folder)
    assert ranked(Path(name), "--cache_dir", str(cache)) == ranked(folder_of(name))


# ---- what can go wrong


def test_an_adapter_whose_base_is_out_of_reach_says_what_to_do(folder_of, tmp_path, ranked):
    name = "castorini/rankllama-v1-7b-lora-passage"
    folder = tmp_path / "rankllama-v1-7b-lora-passage"
    shutil.copytree(folder_of(name), folder)
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    for lost in ("meta-llama/Llama-2-7b-hf", "/mnt/elsewhere/models/Llama-2-7b-hf"):
        values = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(values | {"base_model_name_or_path": lost}))
        with pytest.raises(InputError, match=rf"adapter on {lost}, which cannot be read.*--lora_name_or_path"):
            load_student(str(folder))
    by_flag = ranked(Path(base), "--lora_name_or_path", str(folder))
    assert by_flag == ranked(folder_of(name))


def test_an_adapter_without_a_head_is_refused(folder_of, tmp_path):
    folder = tmp_path / "adapter"
    shutil.copytree(folder_of("castorini/rankllama-v1-7b-lora-passage"), folder)
    state = torch.load(folder / "adapter_model.bin", weights_only=True)
    state.pop("base_model.model.score.weight")
    torch.save(state, folder / "adapter_model.bin")
    with pytest.raises(InputError, match=r"missing and would be random: score\.weight"):
        load_student(str(folder))


def test_a_broken_config_is_an_error_of_the_input(folder_of, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(folder_of("BAAI/bge-reranker-base"), folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=str(folder)):
        load_student(str(folder))


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cross-encoder/ms-marco-MiniLM-L6-v2", "pytorch_model.bin"),
        ("castorini/rankllama-v1-7b-lora-passage", "adapter_model.bin"),
        ("llm-blender/PairRM", "pytorch_model.bin"),
    ],
)
def test_no_code_in_old_weights_runs(name, file, folder_of, tmp_path):
    folder = tmp_path / name.rpartition("/")[2]
    shutil.copytree(folder_of(name), folder)
    torch.save({"weight": Trap(tmp_path / "sprung")}, folder / file)
    with pytest.raises(InputError, match="weights"):
        load_student(str(folder))
    assert not (tmp_path / "sprung").exists()

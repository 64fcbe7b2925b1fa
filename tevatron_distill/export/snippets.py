"""How an exported folder is loaded, for each library that it fits: code to paste, which the tests run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tevatron_distill.export.template import QUERY
from tevatron_distill.export.vector_rows import read_vector_rows
from tevatron_distill.export.vector_snippets import folder_rows, numpy_code, sentence_code, torch_code
from tevatron_distill.formats.output import read_record
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.prompts.text import WHOLE
from tevatron_distill.reranker.onnx import MODEL_FILE, RECORD_FILE
from tevatron_distill.students.loading import ADAPTER_FILE
from tevatron_distill.students.yes_prompts import student_prompt, words_around

PAIRS = """\
query = "what is a reranker?"
passages = ["A reranker orders passages by their relevance to a query.", "The weather was fine."]"""
"""What every snippet scores."""

CLASSIFIER, CAUSAL, SEQ2SEQ = (f"AutoModelFor{head}" for head in ("SequenceClassification", "CausalLM", "Seq2SeqLM"))
ENCODERS = ("simcls", "colbert")
ON_OUR_BACKEND = ("cross_encoder", "yes_token", "llm_ranker", "colbert", "simcls")
"""Students that ``backend="onnx"`` runs."""

OWN = """\
from tevatron_distill import Reranker

reranker = Reranker.from_pretrained("{name}"{more})
{scores}"""
PAIR_SCORES = "scores = reranker.compute_score([[query, passage] for passage in passages])"
LIST_SCORES = "ranked = reranker.rank(query, passages)  # best first: [(passage, score), …]"
CROSS_ENCODER = """\
from sentence_transformers import CrossEncoder

model = CrossEncoder("{name}")
scores = model.predict([(query, passage) for passage in passages]).tolist()"""
SEQ2SEQ_CROSS_ENCODER = """\
from tevatron_distill import load_cross_encoder

model = load_cross_encoder("{name}")  # a CrossEncoder, which knows no T5 by itself
scores = model.predict([(query, passage) for passage in passages]).tolist()"""
LANGCHAIN = """\
from langchain_community.cross_encoders import HuggingFaceCrossEncoder

model = HuggingFaceCrossEncoder(model_name="{name}")
scores = [float(score) for score in model.score([(query, passage) for passage in passages])]"""
OTHERS = "LlamaIndex, Haystack and mteb open it by sentence-transformers, too."
VLLM = """\
from vllm import LLM

model = LLM("{name}", runner="pooling")
scores = [output.outputs.score for output in model.score(query, passages)]"""
TRANSFORMERS = """\
import torch
{imports}

tokenizer = AutoTokenizer.from_pretrained("{name}"{left})
{model}
{rows}
with torch.inference_mode():
    {scores}"""
ONNX = """\
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder = {folder}
tokenizer = Tokenizer.from_file(f"{{folder}}/tokenizer.json")
session = onnxruntime.InferenceSession(f"{{folder}}/{file}")
rows = tokenizer.encode_batch({rows})
{inputs}
[logits] = session.run(None, inputs)
scores = {scores}.tolist()"""


class Snippet(NamedTuple):
    """How one library loads the folder.

    Attributes:
        library: its name.
        code: what is pasted behind `PAIRS`; leaves numbers in ``scores``, or the order in ``ranked``.
        note: what to know of it.
    """

    library: str
    code: str
    note: str = ""


def snippets(folder: Path, format: str, name: str, on_hub: bool = False) -> list[Snippet]:
    """The libraries that a folder fits.

    Args:
        folder: the exported folder, whole but for the card.
        format: key of ``EXPORTS``.
        name: where its reader finds it: a name on the hub, or a path.
        on_hub: which of the two; both look alike.
    """
    settings = RerankerSettings.read(folder) or RerankerSettings()
    if format == "onnx":
        return onnx_snippets(folder, name, on_hub)
    found = []
    if settings.student in ENCODERS and format == "hub":
        found += encoder_snippets(folder, settings, name, on_hub)
    elif format in ("hub", "adapter", "causal_lm", "seq2seq_lm"):
        found += language_model_snippets(folder, format, settings, name)
    found.append(Snippet("tevatron_distill", own(settings, name)))
    if settings.student in ON_OUR_BACKEND and format in ("hub", "merged", "seq2seq_lm"):
        note = '`onnx_dtype="int8"` is faster and rounds.'
        found.append(Snippet("onnxruntime, by tevatron_distill", own(settings, name, ', backend="onnx"'), note))
    return found


def own(settings: RerankerSettings, name: str, more: str = "") -> str:
    """Our own class."""
    scores = LIST_SCORES if settings.student in ("pair_ranker", "listwise") else PAIR_SCORES
    return OWN.format(name=name, more=more, scores=scores)


def encoder_snippets(folder: Path, settings: RerankerSettings, name: str, on_hub: bool) -> list[Snippet]:
    """SimCLS and ColBERT."""
    rows = folder_rows(folder, settings)
    return [
        Snippet("sentence-transformers", sentence_code(rows, name)),
        Snippet("transformers", torch_code(rows, folder, name, on_hub)),
    ]


def language_model_snippets(folder: Path, format: str, settings: RerankerSettings, name: str) -> list[Snippet]:
    """Classifiers and language models, in transformers and in what is built on sentence-transformers."""
    config, adapter = read_record(folder / "config.json"), read_record(folder / ADAPTER_FILE)
    kind = model_class(format, [*config.get("architectures", ()), f"For{adapter.get('task_type')}"])
    if kind is None:
        return []
    found = [
        Snippet("transformers" + (" and peft" if adapter else ""), transformers_code(folder, kind, settings, name))
    ]
    if kind == SEQ2SEQ:
        return [*found, Snippet("sentence-transformers", SEQ2SEQ_CROSS_ENCODER.format(name=name))]
    if kind == CLASSIFIER or (folder / "modules.json").is_file():
        found.append(Snippet("sentence-transformers", CROSS_ENCODER.format(name=name)))
        found.append(Snippet("LangChain", LANGCHAIN.format(name=name), OTHERS))
    if format == "hub":
        found.append(Snippet("vLLM", VLLM.format(name=name), "Written after the source of vLLM 0.33, and not run."))
    return found


def model_class(format: str, names: list[str]) -> str | None:
    """The class of transformers that opens a folder; None for none.

    Args:
        format: key of ``EXPORTS``.
        names: what the config calls the architecture, and the adapter its task.
    """
    if any("Seq2Seq" in name or "SEQ_2_SEQ" in name or "ConditionalGeneration" in name for name in names):
        return SEQ2SEQ
    if format == "causal_lm":
        return CAUSAL
    return CLASSIFIER if any(name.endswith(("ForSequenceClassification", "SEQ_CLS")) for name in names) else None


def transformers_code(folder: Path, kind: str, settings: RerankerSettings, name: str) -> str:
    """Load by transformers, with peft where the folder is an adapter's."""
    adapter = read_record(folder / ADAPTER_FILE)
    config = read_record(folder / "config.json")
    imports, model = (
        f"from transformers import {kind}, AutoTokenizer",
        f'model = {kind}.from_pretrained("{name}").eval()',
    )
    if adapter:
        base, more = adapter["base_model_name_or_path"], ""
        if kind == CLASSIFIER:
            more = f", num_labels=1, pad_token_id={settings.pad_token_id}"
        imports = f"from peft import PeftModel\n{imports}"
        model = (
            f'base = {kind}.from_pretrained("{base}"{more})\nmodel = PeftModel.from_pretrained(base, "{name}").eval()'
        )
    if kind == CLASSIFIER:
        scores = "scores = model(**inputs).logits[:, 0].tolist()"
    elif kind == CAUSAL:
        scores = (
            "positions = (inputs.attention_mask.cumsum(dim=1) - 1).clamp(min=0)\n"
            "    logits = model(**inputs, position_ids=positions, logits_to_keep=1).logits[:, -1]\n"
            f"scores = {answer(settings)}.tolist()"
        )
    else:
        start = config.get("decoder_start_token_id") or 0
        scores = (
            f"start = torch.full((len(passages), 1), {start})\n"
            "    logits = model(**inputs, decoder_input_ids=start).logits[:, 0]\n"
            f"scores = {answer(settings)}.tolist()"
        )
    left = ', padding_side="left"' if kind == CAUSAL else ""
    return TRANSFORMERS.format(
        imports=imports, name=name, left=left, model=model, rows=row_code(folder, settings), scores=scores
    )


def answer(settings: RerankerSettings) -> str:
    """The score among the logits of all tokens."""
    yes = f"logits[:, {settings.yes_token_id}]"
    return yes if settings.no_token_id is None else f"({yes} - logits[:, {settings.no_token_id}])"


def row_code(folder: Path, settings: RerankerSettings) -> str:
    """How query and passages become token rows: by the chat template, the student's prompt, or as pairs."""
    if (folder / "chat_template.jinja").is_file():
        return (
            "pairs = [\n"
            '    [{"role": "query", "content": query}, {"role": "document", "content": passage}]\n'
            "    for passage in passages\n"
            "]\n"
            'inputs = tokenizer.apply_chat_template(pairs, padding=True, return_dict=True, return_tensors="pt")'
        )
    if settings.yes_token_id is not None:
        return f'texts = {prompt_code(settings)}\ninputs = tokenizer(texts, padding=True, return_tensors="pt")'
    return (
        "inputs = tokenizer(\n"
        '    [query] * len(passages), passages, padding=True, truncation="only_second", return_tensors="pt"\n'
        ")"
    )


def prompt_code(settings: RerankerSettings) -> str:
    """The texts that a Yes-token student reads, as an expression."""
    prompt = student_prompt(settings.prompt)
    passage = "passage" if prompt.max_words == WHOLE else f'" ".join(passage.split()[:{prompt.max_words}])'
    if settings.passage_prefix:
        passage = f"{literal(settings.passage_prefix.strip() + ' ')} + {passage}"
    head, tail = (
        " + query + ".join(literal(part) for part in words.split(QUERY))
        for words in words_around(QUERY, prompt, settings)
    )
    return f"[\n    {head} + {passage} + {tail}\n    for passage in passages\n]"


def onnx_snippets(folder: Path, name: str, on_hub: bool) -> list[Snippet]:
    """onnxruntime with tokenizers, neither torch nor transformers; none where rows are not one text or pair."""
    record = read_record(folder / RECORD_FILE)
    place = {"folder": f'snapshot_download("{name}")' if on_hub else f'"{name}"', "file": MODEL_FILE}
    load = "from huggingface_hub import snapshot_download\n" if on_hub else ""
    if "vectors" in record:
        return [
            Snippet("onnxruntime", load + numpy_code(read_vector_rows(record["vectors"]), place["folder"], MODEL_FILE))
        ]
    if "text" not in record:
        return []
    code = {
        "input_ids": "np.array([row.ids for row in rows])",
        "attention_mask": "np.array([row.attention_mask for row in rows])",
        "token_type_ids": "np.array([row.type_ids for row in rows])",
        "position_ids": "np.array([row.attention_mask for row in rows]).cumsum(axis=1).clip(min=1) - 1",
    }
    inputs = "\n".join(["inputs = {", *(f'    "{one}": {code[one]},' for one in record["inputs"]), "}"])
    cap = record.get("softcap")
    scores = "logits[:, 0]" if cap is None else f"({cap} * np.tanh(logits[:, 0] / {cap}))"
    text = ONNX.format(rows=text_code(record["text"]), inputs=inputs, scores=scores, **place)
    return [Snippet("onnxruntime", load + text)]


def text_code(text: dict[str, Any] | None) -> str:
    """The rows of `RowText` as an expression; None stands for pairs."""
    if text is None:
        return "[(query, passage) for passage in passages]"
    query = "query.rstrip()" if text["query_stripped"] else "query"
    passage = "passage.strip()" if text["document_stripped"] else "passage"
    if text["max_words"] is not None:
        passage = f'" ".join(passage.split()[:{text["max_words"]}])'
    parts = [literal(text["before"]), query, literal(text["between"]), passage, literal(text["behind"])]
    row = " + ".join(part for part in parts if part != '""')
    row = f"({row}).strip()" if text["stripped"] else row
    around = [literal(text["opening"]), row, literal(text["closing"])]
    return f"[\n    {' + '.join(part for part in around if part != chr(34) * 2)}\n    for passage in passages\n]"


def literal(text: str) -> str:
    """A string of Python's."""
    return json.dumps(text, ensure_ascii=False)

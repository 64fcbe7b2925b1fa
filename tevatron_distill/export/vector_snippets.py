"""Code to paste that makes token vectors and joins them to scores, by transformers, sentence-transformers or ONNX."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoTokenizer

from tevatron_distill.export.multi_vector import DENSE_FOLDER, encoder_keywords
from tevatron_distill.export.vector_rows import Side, VectorRows, vector_rows
from tevatron_distill.layouts import RerankerSettings
from tevatron_distill.students import colbert, simcls

LAYOUTS = {"colbert": colbert.layout, "simcls": simcls.layout}
IS_QUERY = "is_query"
BI_ENCODER = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}")
similarity = (model.encode_query([query]) @ model.encode_document({passages}).T)[0]
scores = {scores}.tolist()"""
MULTI_VECTOR = """\
from sentence_transformers import MultiVectorEncoder

model = MultiVectorEncoder("{name}")
similarity = model.similarity(model.encode_query([query]), model.encode_document({passages}))[0]
scores = {scores}.tolist()"""
TORCH = """\
import torch
{imports}

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModel.from_pretrained("{name}"{keywords}).eval()
{linear}

def encode(texts, max_length{query}):
    rows = tokenizer(
        texts, padding={padding}, truncation=True, max_length=max_length, return_tensors="pt"
    )
    ids, mask = rows.input_ids, rows.attention_mask
    counted = mask.bool()
{counting}    with torch.inference_mode():
        vectors = model(input_ids=ids, attention_mask=mask).last_hidden_state
{projection}    vectors = torch.nn.functional.normalize(vectors, dim=-1)
    return [one[counts] for one, counts in zip(vectors, counted)]


{scores}"""
NUMPY = """\
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

folder = {folder}
tokenizer = Tokenizer.from_file(f"{{folder}}/tokenizer.json")
session = onnxruntime.InferenceSession(f"{{folder}}/{file}")


def encode(texts, max_length{query}):
    tokenizer.enable_truncation(max_length)
{padding}    rows = tokenizer.encode_batch(texts)
    ids, mask = np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows])
    counted = mask == 1
{counting}    [vectors] = session.run(None, {{"input_ids": ids, "attention_mask": mask}})
    vectors = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return [one[counts] for one, counts in zip(vectors, counted)]


{scores}"""


def folder_rows(folder: Path, settings: RerankerSettings) -> VectorRows:
    """How an exported folder's rows are made."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return vector_rows(LAYOUTS[settings.student](tokenizer, None, settings), tokenizer)


def sentence_code(rows: VectorRows, name: str) -> str:
    """By sentence-transformers, whose folder says all but the temperature."""
    side = rows.passage._replace(before="", behind="", stripped=False)
    passages = "passages" if plain(side) else f"[{text_code(side, 'passage')} for passage in passages]"
    code = BI_ENCODER if rows.pooling == "first" else MULTI_VECTOR
    divided = f" / {rows.temperature}" if rows.temperature != 1.0 else ""
    return code.format(name=name, passages=passages, scores=f"(similarity{divided})" if divided else "similarity")


def torch_code(rows: VectorRows, folder: Path, name: str, on_hub: bool) -> str:
    """By transformers."""
    imports, linear, projection = "from transformers import AutoModel, AutoTokenizer", "", ""
    if (folder / DENSE_FOLDER).is_dir():
        file, place = f"{DENSE_FOLDER}/model.safetensors", f'"{name}/{DENSE_FOLDER}/model.safetensors"'
        imports = f"from safetensors.torch import load_file\n{imports}"
        if on_hub:
            imports, place = (
                f"from huggingface_hub import hf_hub_download\n{imports}",
                f'hf_hub_download("{name}", "{file}")',
            )
        linear = f"linear = load_file({place})\n"
        projection = (
            "        vectors = torch.nn.functional.linear"
            '(vectors, linear["linear.weight"], linear.get("linear.bias"))\n'
        )
    counting = counting_code(rows, "torch.ones_like(counted)", "~torch.isin(ids, torch.tensor({}))", "counted.long()")
    number = "({}).item()" if rows.pooling == "first" or rows.temperature != 1.0 else "{}.item()"
    padding = "True" if rows.query.filler is None else '"max_length" if is_query else True'
    return TORCH.format(
        imports=imports,
        name=name,
        keywords="".join(f", {key}={value}" for key, value in encoder_keywords(folder).items()),
        linear=linear,
        query=", is_query=False" if IS_QUERY in counting else "",
        padding=padding,
        counting=counting,
        projection=projection,
        scores=score_code(rows, number, ".amax(dim=1)", IS_QUERY in counting),
    )


def numpy_code(rows: VectorRows, place: str, file: str) -> str:
    """By onnxruntime, tokenizers and numpy."""
    counting = counting_code(rows, "np.ones_like(counted)", "~np.isin(ids, {})", "counted.astype(mask.dtype)")
    padding = "tokenizer.enable_padding(length=max_length if is_query else None)"
    largest = ".max(axis=1)"
    if rows.zeros_below is not None:
        largest = f".max(axis=1, initial=0 if len(one) < {rows.zeros_below} else -2)"
    return NUMPY.format(
        folder=place,
        file=file,
        query=", is_query=False" if IS_QUERY in counting else "",
        padding="" if rows.query.filler is None else f"    {padding}\n",
        counting=counting,
        scores=score_code(rows, "float({})", largest, IS_QUERY in counting),
    )


def counting_code(rows: VectorRows, ones: str, but: str, attended: str) -> str:
    """Lines that say which vectors count, where those of padding alone do not.

    Args:
        rows: what counts.
        ones: an expression in which all count.
        but: one in which all but the ids ``{}`` count.
        attended: the mask by which all are attended to.
    """
    lines, query, passage = [], rows.query, rows.passage
    if query.filler is not None:
        lines += ["if is_query:", f"    ids[~counted] = {query.filler}", f"    counted = {ones}"]
        lines += [f"    mask = {attended}"] if query.attended else []
    skipped = f"counted &= {but.format(passage.skipped)}"
    if passage.skipped and query.skipped:
        lines.append(skipped)
    elif passage.skipped:
        lines += ["if not is_query:" if query.filler is None else "else:", f"    {skipped}"]
    if passage.start:
        lines.append(f"counted[:, :{passage.start}] = False")
    return "".join(f"    {line}\n" for line in lines)


def score_code(rows: VectorRows, number: str, largest: str, told: bool) -> str:
    """Lines that encode a query and passages and join them.

    Args:
        rows: the texts and how they are joined.
        number: a number of Python's of the expression ``{}``.
        largest: what takes the largest product of each of the query's tokens.
        told: ``encode`` must know which is the query.
    """
    query, passage = text_code(rows.query, "query"), text_code(rows.passage, "passage")
    passages = "passages" if plain(rows.passage) else f"[{passage} for passage in passages]"
    joined = "asked[0] @ one[0]" if rows.pooling == "first" else f"(asked @ one.T){largest}.{rows.pooling}()"
    joined += f" / {rows.temperature}" if rows.temperature != 1.0 else ""
    return (
        f"[asked] = encode([{query}], {rows.query.max_length}{', is_query=True' if told else ''})\n"
        f"found = encode({passages}, {rows.passage.max_length})\n"
        f"scores = [{number.format(joined)} for one in found]"
    )


def text_code(side: Side, name: str) -> str:
    """The text of a row as an expression."""
    text = f'" ".join({name}.split())' if side.folded else f"{name}.rstrip()" if side.stripped else name
    before, behind = (json.dumps(words, ensure_ascii=False) for words in (side.before, side.behind))
    return " + ".join(part for part in (before, text, behind) if part != '""')


def plain(side: Side) -> bool:
    """Whether a row is the text as it is."""
    return not (side.before or side.behind or side.stripped or side.folded)

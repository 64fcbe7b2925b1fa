"""Small trained students of every kind that is exported, with the tokenizers that make trouble."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from conftest import SENTENCES, build_bert, build_causal, build_t5, train_byte_level

from tevatron_distill.reranker import Reranker
from tevatron_distill.students import LoadOptions, LoraOptions, load_student

QUERY = "what is red?"
DOCUMENTS = [
    "red is a colour",
    "The cat sat on the mat. " * 80,
    " two  spaces,\nand a line \n",
    "one",
    "Žluťoučký kůň 東京",
]
"""Of all lengths, so that what is cut and what is padded is scored, too."""

ROW = 224
"""Tokens of a row; the second document does not fit."""


def train_metaspace(folder: Path) -> Any:
    """As Llama 2's and Mistral's: a text begins with a space, nothing else does, ``<s>`` stands first, no pad token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
    )
    tokenizer.train_from_iterator([*SENTENCES, *["the Yes", "? Yes", "in No"] * 30] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    wrapped.save_pretrained(folder)
    return wrapped


def build_mistral(folder: Path) -> Path:
    """A Mistral with Llama 2's kind of tokenizer."""
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = train_metaspace(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    MistralForCausalLM(
        MistralConfig(vocab_size=len(tokenizer), **sizes, num_key_value_heads=2, head_dim=8, eos_token_id=2)
    ).save_pretrained(folder)
    return folder


def build_long_rope(folder: Path) -> Path:
    """A Qwen3 whose angles have another base than transformers' default, pad and eos the same, and a chat template."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    tokenizer = train_byte_level(folder, pad="</s>", bos=None)
    tokenizer.chat_template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        **sizes,
        num_key_value_heads=2,
        head_dim=8,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def build_pad_is_eos(folder: Path) -> Path:
    """A Llama whose tokenizer pads with the token that ends a sequence."""
    build_causal(folder, "llama", pad=None)
    train_byte_level(folder, pad="</s>")
    return folder


def build_roberta(folder: Path, model: str = "xlm-roberta") -> Path:
    """An encoder without segments: XLM-R's kind (``<s> A </s></s> B </s>``) or ModernBERT."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = train_byte_level(folder, pad="<pad>")
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ids
    )
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    special = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    config = AutoConfig.for_model(model, vocab_size=len(tokenizer), **sizes, **special, num_labels=1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    return folder


class Kind(NamedTuple):
    """A student: its name, how its base is built, and what is asked for."""

    student: str
    build: Callable[..., Path]
    arguments: tuple[object, ...] = ()
    settings: dict[str, object] = {}  # noqa: RUF012
    lora: bool = False


RANK_LLAMA: dict[str, object] = {
    "query_prefix": "query: ",
    "passage_prefix": "document: ",
    "append_eos_token": True,
}
TEMPLATES: dict[str, object] = {"query_prefix": "A: {}", "passage_prefix": "B: {}"}
KINDS: dict[str, Kind] = {
    "llama yes": Kind("yes_token", build_causal, ("llama",)),
    "llama yes with prefixes": Kind(
        "yes_token", build_causal, ("llama",), {"query_prefix": "web:", "passage_prefix": "text: {}"}
    ),
    "mistral yes": Kind("yes_token", build_mistral),
    "qwen3 yes": Kind("yes_token", build_long_rope),
    "qwen3 as published": Kind(
        "yes_token", build_long_rope, (), {"prompt": "qwen3_reranker", "yes_token": "Yes", "no_token": "No"}
    ),
    "gemma2 yes": Kind("yes_token", build_causal, ("gemma2",)),
    "llama with lora": Kind("yes_token", build_causal, ("llama",), {}, lora=True),
    "llama by lines": Kind("llm_ranker", build_causal, ("llama",)),
    "rankllama": Kind("cross_encoder", build_causal, ("llama",), RANK_LLAMA),
    "rankllama, mistral": Kind("cross_encoder", build_mistral, (), RANK_LLAMA),
    "rankllama, pad is eos": Kind("cross_encoder", build_pad_is_eos, (), RANK_LLAMA),
    "rankllama by templates": Kind("cross_encoder", build_causal, ("llama",), TEMPLATES),
    "rankllama by pairs": Kind("cross_encoder", build_mistral, (), {**RANK_LLAMA, "pair_encoding": True}),
    "bert": Kind("cross_encoder", build_bert),
    "xlm-r": Kind("cross_encoder", build_roberta),
    "xlm-r with prefixes": Kind("cross_encoder", build_roberta, (), {"query_prefix": "q:", "passage_prefix": "p:"}),
    "modernbert": Kind("cross_encoder", build_roberta, ("modernbert",)),
    "t5 yes": Kind("yes_token", build_t5),
    "t5 true - false": Kind("yes_token", build_t5, (), {"prompt": "monot5"}),
    "passage first": Kind("yes_token", build_causal, ("llama",), {"prompt": "llm_rankers_yes_no"}),
    "t5 with lora": Kind("yes_token", build_t5, (), {}, lora=True),
    "bert with lora": Kind("cross_encoder", build_bert, (), {}, lora=True),
    "simcls": Kind("simcls", build_bert, (), {"query_max_len": 64, "passage_max_len": 64}),
    "pairs": Kind("pair_ranker", build_bert),
    "pairs, llama": Kind("pair_ranker", build_causal, ("llama",)),
    "colbert": Kind("colbert", build_bert),
    "colbert of pylate": Kind(
        "colbert",
        build_bert,
        (),
        {"colbert_convention": "pylate", "colbert_dim": 16, "query_max_len": 24, "passage_max_len": 64},
    ),
    "colbert of open-retrievals": Kind(
        "colbert", build_bert, (), {"colbert_convention": "open_retrievals", "colbert_dim": 16}
    ),
    "summa": Kind("summa_reranker", build_bert, (), {"metrics": ("bleu",)}),
    "listwise": Kind("listwise", build_causal, ("llama",)),
}
POINTWISE = [name for name, kind in KINDS.items() if kind.student in ("cross_encoder", "yes_token", "llm_ranker")]
_made: dict[str, Path] = {}


def trained(name: str, make_folder: Callable[..., Path], tmp_path_factory: Any) -> Path:
    """A student's folder as training leaves it, with scores that differ; made once."""
    if name in _made:
        return _made[name]
    kind = KINDS[name]
    base = make_folder(kind.build, *kind.arguments)
    torch.manual_seed(3)
    length = 1000 if kind.student == "listwise" else 400 if kind.settings.get("prompt") == "qwen3_reranker" else ROW
    loaded = load_student(
        str(base),
        kind.student,
        options=LoadOptions(training=True, lora=LoraOptions(r=4) if kind.lora else None),
        settings={"rerank_max_len": length, **kind.settings},
    )
    with torch.no_grad():
        for weight in loaded.model.parameters():
            if weight.requires_grad:
                weight += (0.03 if name == "gemma2 yes" else 0.1) * torch.randn_like(weight)
    folder = tmp_path_factory.mktemp("student")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    loaded.layout.settings.save(folder)
    return _made.setdefault(name, folder)


def our_scores(folder: Path) -> list[float]:
    """What the student says of the documents, by our own reranker."""
    reranker = Reranker.from_pretrained(str(folder), device="cpu")
    scores: list[float] = reranker.compute_score([[QUERY, text] for text in DOCUMENTS])
    return scores

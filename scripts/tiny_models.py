"""Tiny models and rows to rerank, made on the spot, for the scripts that measure the tool and not a model."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

WORDS = [
    *("red", "green", "blue", "yellow", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("cat", "dog", "mat", "sat", "looked", "at", "the"),
]


def train_tokenizer(folder: Path, texts: Sequence[str] = (" ".join(WORDS),), vocab_size: int = 500) -> int:
    """Save a byte-level tokenizer that has the labels of the prompts as tokens; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    labels = ["the Yes", "the No", "in A", "in B", "Passage A: Passage B: document: query: relevant"] * 20
    tokenizer.train_from_iterator([*texts, *labels] * 4, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=1024
    )
    wrapped.save_pretrained(folder)
    return len(wrapped)


def build_llama(folder: Path, *, head: bool = False, hidden_size: int = 32, num_layers: int = 2) -> Path:
    """A Llama with attention dropout; with ``head`` a sequence classifier of one label, else a causal LM."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=train_tokenizer(folder),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=1024,
        attention_dropout=0.1,
        tie_word_embeddings=False,
        num_labels=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    (LlamaForSequenceClassification(config) if head else LlamaForCausalLM(config)).save_pretrained(folder)
    return folder


def build_encoder(folder: Path, *, hidden_size: int = 16, num_layers: int = 1) -> Path:
    """The smallest BERT that scores pairs or encodes texts."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=train_tokenizer(folder),
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=4096,
        num_labels=1,
        pad_token_id=0,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def rerank_lines(num_queries: int, depth: int, seed: int = 0, words: tuple[int, int] = (3, 12)) -> Iterator[str]:
    """Rows ``{query_id, query, docid, title, text, score}``, best first within a query, of so many words."""
    draw = random.Random(seed)
    for number in range(num_queries):
        query = f"{draw.choice(WORDS)} {draw.choice(WORDS)} {number}"
        for place in range(depth):
            text = " ".join(draw.choices(WORDS, k=draw.randint(*words)))
            row = {"query_id": f"q{number}", "query": query, "docid": f"d{number}-{place}", "title": "", "text": text}
            yield json.dumps({**row, "score": float(depth - place)})


def group_lines(num_groups: int, depth: int, seed: int = 0) -> Iterator[str]:
    """Groups in our own format, in an order drawn by the seed."""
    draw = random.Random(seed)
    for number in range(num_groups):
        passages = [
            {"docid": f"d{number}-{place}", "text": " ".join(draw.choices(WORDS, k=draw.randint(3, 12)))}
            for place in range(depth)
        ]
        order = draw.sample(range(depth), depth)
        yield json.dumps(
            {"query_id": f"q{number}", "query": draw.choice(WORDS), "passages": passages, "permutation": order}
        )

"""What the reproductions compute: the shapes of their models, and the rows of their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


def t5(width: int, inner: int, layers: int, heads: int) -> tuple[str, dict[str, Any]]:
    """FLAN-T5 and T5 v1.1."""
    numbers = {"d_model": width, "d_ff": inner, "num_layers": layers, "num_heads": heads}
    return "t5", {**numbers, "d_kv": 64, "vocab_size": 32128, "feed_forward_proj": "gated-gelu"}


def encoder(kind: str, width: int, inner: int, layers: int, heads: int, **more: int) -> tuple[str, dict[str, Any]]:
    """ELECTRA and ModernBERT."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return kind, {**dict(zip(names, (width, inner, layers, heads), strict=True)), **more}


MISTRAL = encoder("mistral", 4096, 14336, 32, 32, num_key_value_heads=8, vocab_size=32000)
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "t5-base": t5(768, 2048, 12, 12),
    "t5-large": t5(1024, 2816, 24, 16),
    "t5-xl": t5(2048, 5120, 24, 32),
    "llama-2-7b": encoder("llama", 4096, 11008, 32, 32, num_key_value_heads=32, vocab_size=32000),
    "mistral-7b": MISTRAL,
    "electra-base": encoder("electra", 768, 3072, 12, 12, embedding_size=768),
    "electra-large": encoder("electra", 1024, 4096, 24, 16, embedding_size=1024),
    "ettin-17m": encoder("modernbert", 256, 384, 7, 4, vocab_size=50368),
    "ettin-32m": encoder("modernbert", 384, 576, 10, 6, vocab_size=50368),
    "ettin-68m": encoder("modernbert", 512, 768, 19, 8, vocab_size=50368),
    "ettin-150m": encoder("modernbert", 768, 1152, 22, 12, vocab_size=50368),
    "ettin-400m": encoder("modernbert", 1024, 2624, 28, 16, vocab_size=50368),
    "ettin-1b": encoder("modernbert", 1792, 3840, 28, 28, vocab_size=50368),
}
"""Kind and numbers of the models' published configs."""
LAYERS = {"t5": "num_layers"}
"""What a kind calls the number of its layers, where it is not num_hidden_layers."""


@dataclass(frozen=True)
class Work:
    """A part of a recipe.

    Attributes:
        what: teach, train or rank.
        rows: rows that go through the model, in the whole recipe.
        tokens: of a row, on average.
        batch: rows of a step on one GPU, for its memory.
        adapter: only a LoRA adapter is trained.
        checkpointed: activations are computed twice.
        stage: of ZeRO; None for none.
    """

    what: str
    rows: int
    tokens: int
    batch: int = 64
    adapter: bool = False
    checkpointed: bool = False
    stage: int | None = None


class Recipe(NamedTuple):
    """A reproduction.

    Attributes:
        shape: key of `SHAPES`.
        gpus: that its script is written for.
        work: its parts.
    """

    shape: str
    gpus: int
    work: tuple[Work, ...]


# Tokens: MS MARCO's passages have 85, its queries 7 (WordPiece; 3,000 passages and 54 queries of TREC DL), BEIR's
# abstracts cut to 200 words 277; InstructDistill's prompts about 50 (pairs) and 20 (points) more.
PASSAGE, QUERY = 85, 7
MSMARCO_QUERIES = 400_000
BEIR_AND_DL = 43 + 54 + 50 + 323 + 49 + 400 + 300 + 97 + 57 + 249  # queries of InstructDistill's ten sets
DL = 43 + 54


def instruct_distill(shape: str) -> Recipe:
    """10,000 queries: 380 prompts each, then 8 rows in each of 3 epochs; 100 candidates on ten sets."""
    row = QUERY + PASSAGE + 20
    return Recipe(
        shape,
        4,
        (
            Work("teach", 10_000 * 380, QUERY + 2 * PASSAGE + 50),
            Work("train", 3 * 10_000 * 8, row, batch=2 * 8, checkpointed=True, stage=2),
            Work("rank", BEIR_AND_DL * 100, 277 + QUERY + 20),
        ),
    )


def listwise(batch: int, windows: int) -> Recipe:
    """40,000 rows of 2 to 20 passages (11 on average) in each of 3 epochs; 9 windows a query, 80 tokens written."""
    return Recipe(
        "mistral-7b",
        4,
        (
            Work("train", 3 * 40_000, 150 + 11 * PASSAGE, batch=batch, checkpointed=True, stage=3),
            Work("rank", windows, 150 + 20 * (PASSAGE + 4) + 80, batch=8),
        ),
    )


def rank_t5(shape: str) -> Recipe:
    """Lists of 31 (one relevant passage and Tevatron's 30), one epoch; TREC's top 1000."""
    row = QUERY + PASSAGE + 8
    train = Work("train", MSMARCO_QUERIES * 31, row, batch=2 * 31, checkpointed=True, stage=2)
    return Recipe(shape, 4, (train, Work("rank", DL * 1000, row)))


def mono_electra(shape: str) -> Recipe:
    """20,000 steps of 32 × 8 rows, then 10,000 × 100 in each of 3 epochs."""
    row = QUERY + PASSAGE + 3
    first = Work("train", 20_000 * 32 * 8, row, batch=16 * 8)
    return Recipe(shape, 1, (first, Work("train", 3 * 10_000 * 100, row, batch=100), Work("rank", DL * 1100, row)))


def ettin(shape: str) -> Recipe:
    """16 rows of each of 500,000 queries, one epoch (how many MS MARCO's part has is assumed); NanoBEIR's 649."""
    row = QUERY + PASSAGE + 3
    return Recipe(shape, 1, (Work("train", 500_000 * 16, row, batch=4 * 16), Work("rank", 649 * 100, 200)))


RECIPES: dict[str, Recipe] = {
    **{f"instruct_distill-{size}": instruct_distill(f"t5-{size}") for size in ("base", "large", "xl")},
    "rankllama": Recipe(
        "llama-2-7b",
        4,
        (
            Work("train", MSMARCO_QUERIES * 16, 100, batch=8 * 16, adapter=True, checkpointed=True, stage=3),
            Work("rank", 43 * 200, 100),
        ),
    ),
    "rankzephyr": listwise(4, 2 * DL * 9),
    "first_mistral": listwise(8, (DL + 54) * 9),
    **{f"rankt5-{size}": rank_t5(f"t5-{size}") for size in ("base", "large")},
    "rankt5-3b": rank_t5("t5-xl"),
    **{f"monoelectra-{size}": mono_electra(f"electra-{size}") for size in ("base", "large")},
    **{shape: ettin(shape) for shape in SHAPES if shape.startswith("ettin")},
}
"""By the names in `published.json`."""

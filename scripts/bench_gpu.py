"""bench.py's rows on a GPU: bf16 against sentence-transformers' bf16, at several sizes."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import bench_inputs
import torch
from bench_measure import MissingError, Outcome, Setting, compared, in_turn, largest_difference

from tevatron_distill.reranker import Reranker

ROUNDING = 0.1
"""How far bf16 scores may be apart; in float32 the rows on the CPU compare them."""

SHAPES: dict[str, dict[str, Any]] = {
    "22m": {},
    "150m": {"hidden_size": 768, "num_hidden_layers": 16, "intermediate_size": 2304},
    "1b": {"hidden_size": 2048, "num_hidden_layers": 20, "intermediate_size": 6144},
    "7b": {"hidden_size": 4096, "num_hidden_layers": 36, "intermediate_size": 11008},
}
"""MiniLM's, and decoders of Qwen3's kind."""


def versus_sentence_transformers(setting: Setting, shape: str, device: str = "cuda") -> Outcome:
    """`CrossEncoder.predict` in bf16 with sdpa, against ours in bf16.

    Raises:
        MissingError: if there is no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise MissingError("no GPU")
    from sentence_transformers import CrossEncoder

    path = classifier(setting.folder, shape)
    lists = bench_inputs.mixed(40, 100)
    pairs = bench_inputs.as_pairs(lists)
    model = CrossEncoder(
        str(path),
        device=device,
        max_length=512,
        activation_fn=torch.nn.Identity(),
        model_kwargs={"dtype": torch.bfloat16, "attn_implementation": "sdpa"},
    )
    ours = Reranker.from_pretrained(str(path), "cross_encoder", device=device, dtype="bfloat16", pair_encoding=True)
    timed = in_turn(
        {
            "sentence-transformers": lambda: model.predict(pairs, show_progress_bar=False).tolist(),
            "ours": lambda: list(chain(*ours.score_candidates(lists))),
        },
        setting.repeats,
    )
    found = largest_difference(timed["ours"].result, timed["sentence-transformers"].result)
    outcome = compared(
        timed, setting, 1.5, {} if found <= ROUNDING else {"scores": found}, real_share=ours.batcher.count.real_share
    )
    outcome.measured += f", {len(pairs) / timed['ours'].best(setting.clock):.0f} pairs/s"
    outcome.raw["difference"] = found
    return outcome


def classifier(folder: Path, shape: str) -> Path:
    """A sequence classifier of one label of a shape, with a head that is drawn."""
    if not SHAPES[shape]:
        return bench_inputs.cross_encoder(folder)
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForSequenceClassification

    path = folder / shape
    if not (path / "config.json").exists():
        base = bench_inputs.causal(folder, "small_head")
        sizes = SHAPES[shape]
        config = Qwen3Config.from_pretrained(base)
        config.update(
            {
                **sizes,
                "num_attention_heads": sizes["hidden_size"] // 128,
                "num_key_value_heads": sizes["hidden_size"] // 256,
                "head_dim": 128,
                "layer_types": ["full_attention"] * sizes["num_hidden_layers"],
                "num_labels": 1,
                "dtype": "bfloat16",
            }
        )
        torch.manual_seed(5)
        Qwen3ForSequenceClassification(config).to(torch.bfloat16).save_pretrained(path)
        AutoTokenizer.from_pretrained(base).save_pretrained(path)
    return path

"""The files by which sentence-transformers 6, and vLLM after them, know how a folder scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tevatron_distill.export.folder import write_json

IDENTITY = "torch.nn.modules.linear.Identity"
ACTIVATION = {"sentence_transformers": {"activation_fn": IDENTITY}}
"""The key of ``config.json`` without which sentence-transformers and vLLM put a sigmoid on the score."""

TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
LOGIT_SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"
POOLING = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
DENSE = "sentence_transformers.base.modules.dense.Dense"
MASK = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
NORMALIZE = "sentence_transformers.base.modules.normalize.Normalize"


def write_modules(folder: Path, *modules: tuple[str, dict[str, Any]]) -> None:
    """Write ``modules.json``, and for each module behind the transformer at the top a folder with its config.

    Args:
        folder: of the model.
        modules: class and config of the modules behind the transformer, in their order; a config that is empty is not
            written.
    """
    listed = [(TRANSFORMER, ""), *((kind, f"{n}_{kind.rpartition('.')[2]}") for n, (kind, _) in enumerate(modules, 1))]
    write_json(
        folder / "modules.json",
        [{"idx": n, "name": str(n), "path": path, "type": kind} for n, (kind, path) in enumerate(listed)],
    )
    for (_, path), (_, config) in zip(listed[1:], modules, strict=True):
        (folder / path).mkdir(exist_ok=True)
        if config:
            write_json(folder / path / "config.json", config)


def write_cross_encoder_files(
    folder: Path,
    *,
    message: bool = True,
    logits: tuple[int, int | None] | None = None,
    config: dict[str, Any] | None = None,
    in_float32: Sequence[str] = (),
) -> None:
    """Write ``modules.json`` and what belongs to it.

    Args:
        folder: of the model.
        message: pairs are rendered by the chat template; False encodes them as pairs.
        logits: a language model's tokens for yes, and for no; None for a sequence classifier.
        config: keys for the config of a base model that lies elsewhere.
        in_float32: linear layers of the model that are computed in float32 whatever the model is in, for half precision
            would make equal scores of unequal ones.
    """
    modules = []
    if logits is not None:
        tokens = {"true_token_id": logits[0], "false_token_id": logits[1], "module_input_name": "causal_logits"}
        modules = [(LOGIT_SCORE, tokens)]
    write_modules(folder, *modules)
    method = {"method": "forward", "method_output_name": "logits"}
    write_json(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "sequence-classification" if logits is None else "text-generation",
            "modality_config": {"text": method, **({"message": {**method, "format": "flat"}} if message else {})},
            "module_output_name": "scores" if logits is None else "causal_logits",
            **({"config_kwargs": config} if config else {}),
        },
    )
    write_json(
        folder / "config_sentence_transformers.json",
        {
            "model_type": "CrossEncoder",
            "activation_fn": IDENTITY,
            "prompts": {},
            "default_prompt_name": None,
            **({"keep_in_fp32_modules": [f"0.model.{name}" for name in in_float32]} if in_float32 else {}),
        },
    )

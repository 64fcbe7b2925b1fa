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
    modules = [{"idx": 0, "name": "0", "path": "", "type": TRANSFORMER}]
    if logits is not None:
        modules.append({"idx": 1, "name": "1", "path": "1_LogitScore", "type": LOGIT_SCORE})
        (folder / "1_LogitScore").mkdir()
        write_json(
            folder / "1_LogitScore" / "config.json",
            {"true_token_id": logits[0], "false_token_id": logits[1], "module_input_name": "causal_logits"},
        )
    write_json(folder / "modules.json", modules)
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

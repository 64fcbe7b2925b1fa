"""A checkpoint of training as a plain folder: whole, or put together from DeepSpeed's or FSDP's parts."""

from __future__ import annotations

import shutil
from pathlib import Path

from accelerate.utils import merge_fsdp_weights

from tevatron_distill.export.card import CardOptions, write_card
from tevatron_distill.export.folder import new_folder
from tevatron_distill.export.rescoring import check, scores
from tevatron_distill.extras import require_package
from tevatron_distill.layouts.settings import SETTINGS_FILE
from tevatron_distill.schema import InputError
from tevatron_distill.students import LoadOptions, load_student
from tevatron_distill.students.loading import ADAPTER_FILE

FSDP_WEIGHTS = "pytorch_model_fsdp_0"
WEIGHTS = ("model*.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
STATE = ("trainer_state.json", "run_config.json", "model.safetensors.index.json")
"""What a checkpoint holds beside the model, and must not stand in its folder."""


def export_checkpoint(
    checkpoint: str | Path, output: str | Path, overwrite: bool = False, card: CardOptions | None = None
) -> float | None:
    """Make a plain folder of a training's checkpoint: weights, config, tokenizer and ``reranker_config.json``.

    Args:
        checkpoint: a folder ``checkpoint-N``; its weights are whole, or parted by DeepSpeed or FSDP. An adapter is
            copied as it is.
        output: the new folder.
        overwrite: replace it where it exists.
        card: what the model card says that no record holds.

    Returns:
        The largest difference of scores on a sample to those of the whole weights in the checkpoint; None where it
        holds parts alone. Those of a training in half precision are compared in that precision.

    Raises:
        InputError: if the folder is no such checkpoint, or the scores differ by more than `TOLERANCE`.
    """
    checkpoint = Path(checkpoint)
    whole = any(checkpoint.glob("model*.safetensors")) or (checkpoint / "adapter_model.safetensors").is_file()
    with new_folder(output, overwrite) as folder:
        copy_descriptions(checkpoint, folder)
        write_weights(checkpoint, folder)
        difference = compare(str(checkpoint), str(folder)) if whole else None
        if difference is None:
            scores(load_student(str(folder)))
        write_card(folder, str(checkpoint), "plain", name=str(output), options=card)
    return difference


def copy_descriptions(checkpoint: Path, folder: Path) -> None:
    """Config, tokenizer and settings; what the checkpoint lacks is taken from the training's output folder.

    Raises:
        InputError: if neither has them.
    """
    if not checkpoint.is_dir():
        raise InputError(f"{checkpoint}: --checkpoint must be a folder checkpoint-N of driver.train; found none")
    for place in (checkpoint.parent, checkpoint):
        if place == checkpoint.parent and (checkpoint / SETTINGS_FILE).is_file():
            continue
        for path in place.iterdir():
            if path.suffix in (".json", ".txt", ".model", ".jinja") and path.name not in STATE:
                shutil.copy(path, folder / path.name)
    described = "config.json" if not (folder / ADAPTER_FILE).is_file() else ADAPTER_FILE
    missing = [name for name in (SETTINGS_FILE, described) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{checkpoint}: must hold {' and '.join(missing)}, as a checkpoint of driver.train or its output folder "
            "does; found none; name the folder checkpoint-N that training left"
        )


def write_weights(checkpoint: Path, folder: Path) -> None:
    """The weights, whole: put together by DeepSpeed's own program or accelerate's, or copied.

    Raises:
        InputError: if there are none, or an adapter's lie in parts.
    """
    adapter = (folder / ADAPTER_FILE).is_file()
    if any(checkpoint.glob("global_step*/*zero_pp_rank*")) and not adapter:
        require_package("deepspeed", f"{checkpoint} (weights that ZeRO parted)")
        from deepspeed.utils.zero_to_fp32 import convert_zero_checkpoint_to_fp32_state_dict

        convert_zero_checkpoint_to_fp32_state_dict(str(checkpoint), str(folder), safe_serialization=True)
        return
    if (checkpoint / FSDP_WEIGHTS).is_dir() and not adapter:
        merge_fsdp_weights(str(checkpoint / FSDP_WEIGHTS), str(folder))
        return
    found = [path for pattern in WEIGHTS for path in checkpoint.glob(pattern)]
    if not found:
        raise InputError(
            f"{checkpoint}: must hold weights, whole or in DeepSpeed's or FSDP's parts (an adapter's whole: with "
            '"stage3_gather_16bit_weights_on_model_save": true, or FSDP\'s FULL_STATE_DICT); found none'
        )
    for path in found:
        shutil.copy(path, folder / path.name)


def compare(source: str, exported: str) -> float:
    """The largest difference of two folders' scores, in the source's precision.

    Raises:
        InputError: if it is more than `TOLERANCE`.
    """
    loaded = load_student(source, options=LoadOptions(dtype="auto"))
    options = LoadOptions(dtype=str(loaded.model.dtype).removeprefix("torch."))
    return check(source, scores(loaded), scores(load_student(exported, options=options)))

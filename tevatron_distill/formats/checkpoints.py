"""Checkpoints of HF's Trainer that a kill has not torn."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.formats.output import read_record
from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

NAME = re.compile(r"checkpoint-(\d+)")
STATE = "trainer_state.json"  # the last file that Trainer writes
TORCH_WRITER = ("inline_container", "PytorchStreamWriter", "iostream")  # in the messages of torch.save
TORCH_SUFFIXES = {".pt", ".pth", ".bin"}


@contextmanager
def saving(folder: str | Path) -> Iterator[None]:
    """Turn what the disk refuses torch and safetensors into one clear error.

    Raises:
        InputError: where weights or a checkpoint cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(name in str(error) for name in TORCH_WRITER):
            raise
        raise InputError(
            f"{folder}: the disk has no room for weights and checkpoints, or refuses them ({error}); free some and "
            "give the same command again: training goes on from the last whole checkpoint"
        ) from error


def whole_checkpoints(folder: str | Path, rank: int = 0, num_ranks: int = 1) -> set[int]:
    """Steps of the checkpoints that training can go on from as if it had never stopped; says which are passed over.

    Args:
        folder: an output folder of training; it need not exist.
        rank: of this process, whose random state must be there.
        num_ranks: number of processes.
    """
    random_state = "rng_state.pth" if num_ranks == 1 else f"rng_state_{rank}.pth"
    whole = set()
    for path in sorted(Path(folder).glob("checkpoint-*")):
        if not (name := NAME.fullmatch(path.name)):
            continue
        if torn := whats_torn(path) or (None if (path / random_state).exists() else random_state):
            logger.warning("%s is passed over: its %s is missing or torn (a run was killed there)", path, torn)
        else:
            whole.add(int(name[1]))
    return whole


def check_whole(folder: str | Path) -> None:
    """Refuse to go on from a torn checkpoint.

    Raises:
        InputError: naming the file that is missing or torn.
    """
    if torn := whats_torn(Path(folder)):
        raise InputError(
            f"{folder}: training can only go on from a whole checkpoint; {torn} is missing or torn; name another, or "
            "leave --resume_from_checkpoint out to go on from the last whole one"
        )


def whats_torn(folder: Path) -> str | None:
    """The first file of a checkpoint that is missing or not whole; None for a checkpoint to go on from.

    HF's Trainer takes the folder with the highest number, whatever it holds, and goes on without the optimizer where
    its file is missing.
    """
    try:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        for path in files:
            if not is_whole(path):
                return path.name
    except FileNotFoundError:  # another process is removing it
        return STATE
    names = {path.relative_to(folder).as_posix() for path in files}
    if STATE not in names:
        return STATE
    if not any(name.startswith(("optimizer", "global_step")) for name in names):
        return "optimizer.pt"
    if not any(name.startswith("global_step") for name in names) and "scheduler.pt" not in names:
        return "scheduler.pt"
    return missing_weights(folder, names)


def missing_weights(folder: Path, names: set[str]) -> str | None:
    """The weights that are not there, of those that an index names or of any kind."""
    for index in sorted(name for name in names if name.endswith(".index.json")):
        named = read_record(folder / index).get("weight_map")
        if not isinstance(named, dict):
            return index
        if absent := sorted(set(map(str, named.values())) - names):
            return absent[0]
    kinds = ("model", "adapter_model", "pytorch_model", "global_step")
    return None if any(name.startswith(kinds) for name in names) else "model.safetensors"


def is_whole(path: Path) -> bool:
    """Whether a file ends where its format says that it ends; files of other formats count as whole."""
    if path.suffix == ".json":
        return is_json(path)
    if path.suffix == ".safetensors":
        return path.stat().st_size == safetensors_size(path)
    return path.suffix not in TORCH_SUFFIXES or zipfile.is_zipfile(path)


def is_json(path: Path) -> bool:
    """Whether a file holds one JSON value."""
    try:
        parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def safetensors_size(path: Path) -> int:
    """Bytes that a safetensors file must have by its header; -1 where the header itself is torn."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = parse_json(file.read(min(length, path.stat().st_size)))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
            return -1
    return 8 + length + max(ends, default=0)

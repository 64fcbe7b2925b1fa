"""A folder of output that is finished, or resumed by the same command, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from tevatron_distill.formats.disk import lock, replace_text, writing
from tevatron_distill.formats.output import as_json, describe_run, differing_keys, read_record
from tevatron_distill.schema import InputError

SAFETENSORS_TMP = ".tmp??????"  # what a kill leaves of weights that were being written


class FolderRecord:
    """The ``run_config.json`` of a folder that training fills with checkpoints and, at the end, the model.

    In a with-block the folder is held against other processes from `begin` on.

    Args:
        folder: the output folder; it need not exist.
        arguments: what the output depends on, name to JSON value.
        inputs: files whose content the output depends on.
        overwrite: start anew over whatever is there.

    Attributes:
        resumes: the folder holds unfinished work of the same command.

    Raises:
        InputError: if the folder holds a finished model, another command's unfinished work, or other files.
    """

    def __init__(
        self, folder: str | Path, arguments: Mapping[str, object], inputs: Sequence[str | Path], overwrite: bool = False
    ) -> None:
        self.folder = Path(folder)
        self._file = self.folder / "run_config.json"
        self._config: dict[str, Any] = json.loads(as_json({**describe_run(arguments, inputs), "complete": False}))
        self._overwrite = overwrite
        self._held: BinaryIO | None = None
        self.resumes = False
        self._lock = self.folder / (self._file.name + ".lock")
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: the output must be a folder; got a file; choose another path")
        begun = {self._lock.name, self._file.name + ".tmp"}  # what a run that was killed in its first write leaves
        if overwrite or not self.folder.exists() or {path.name for path in self.folder.iterdir()} <= begun:
            return
        if not self._file.exists():
            raise InputError(
                f"{self.folder}: the output folder must be new or empty; it holds files that are not this tool's; "
                "choose another folder or give --overwrite_output_dir"
            )
        old = read_record(self._file)
        if old.get("complete"):
            raise InputError(
                f"{self.folder}: holds a finished model; choose another folder or give --overwrite_output_dir"
            )
        differing = differing_keys(old, self._config)
        if differing:
            raise InputError(
                f"{self.folder}: holds unfinished work of another command, which differs in {', '.join(differing)}; "
                "repeat that command, choose another folder or give --overwrite_output_dir"
            )
        self.resumes = True

    def begin(self) -> None:
        """Record the run as unfinished; an overwritten folder loses its old checkpoints.

        Raises:
            InputError: if another process is at work in the folder, or it cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._held = open(self._lock, "wb")  # noqa: SIM115  held as long as the with-block
        lock(self._held, self.folder)
        if self._overwrite:
            for checkpoint in self.folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        for torn in self.folder.rglob(SAFETENSORS_TMP):
            torn.unlink()
        replace_text(self._file, as_json(self._config))

    def finish(self, report: Mapping[str, object]) -> None:
        """Record that the folder is whole, with figures of the run."""
        self._lock.unlink(missing_ok=True)
        replace_text(self._file, as_json({**self._config, "complete": True, "report": dict(report)}))

    def __enter__(self) -> FolderRecord:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._held is not None:
            self._held.close()

"""A folder of output that is finished, or resumed by the same command, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tevatron_distill.formats.disk import replace_text
from tevatron_distill.formats.output import as_json, describe_run, differing_keys
from tevatron_distill.schema import InputError


class FolderRecord:
    """The ``run_config.json`` of a folder that training fills with checkpoints and, at the end, the model.

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
        self.resumes = False
        fresh = self._file.name + ".tmp"  # of a run that was killed in its first write
        if overwrite or not self.folder.exists() or {path.name for path in self.folder.iterdir()} <= {fresh}:
            return
        if not self._file.exists():
            raise InputError(
                f"{self.folder}: the output folder must be new or empty; it holds files that are not this tool's; "
                "choose another folder or give --overwrite_output_dir"
            )
        old = json.loads(self._file.read_text(encoding="utf-8"))
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
        """Record the run as unfinished; an overwritten folder loses its old checkpoints."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._overwrite:
            for checkpoint in self.folder.glob("checkpoint-*"):
                shutil.rmtree(checkpoint)
        replace_text(self._file, as_json(self._config))

    def finish(self, report: Mapping[str, object]) -> None:
        """Record that the folder is whole, with figures of the run."""
        replace_text(self._file, as_json({**self._config, "complete": True, "report": dict(report)}))

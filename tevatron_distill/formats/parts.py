"""Parts of an output that several processes write: finished blocks of queries, found by their number.

A part is a text file: a head with the run's record, then for each block a line with its number, how many lines and
bytes follow and their CRC-32, and these lines; at the end, when the process has nothing left, its report.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tevatron_distill.formats.disk import AppendedFile, corrupt
from tevatron_distill.formats.jsonl import parse_json
from tevatron_distill.formats.output import check_same_run
from tevatron_distill.schema import InputError
from tevatron_distill.sharing import Share

ENDING = ".part"
ENTRIES: tuple[Mapping[str, type], ...] = (
    {"run": dict, "share": list},
    {"block": int, "bytes": int, "crc32": int},
    {"end": int, "report": dict},
)
"""Keys of the kinds of entries, with the types of their values; the first key tells the kind."""


class Place(NamedTuple):
    """Where a block's lines stand."""

    path: Path
    offset: int
    size: int


@dataclass
class Part:
    """What stands in one part.

    Attributes:
        path: the file.
        share: whose it is.
        config: the run's record.
        blocks: the finished blocks.
        num_blocks: of the whole input, where the process has come to its end; else None.
        report: what that process said.
        size: bytes up to the end of the last whole entry.
    """

    path: Path
    share: Share
    config: dict[str, Any]
    blocks: dict[int, Place] = field(default_factory=dict)
    num_blocks: int | None = None
    report: dict[str, Any] = field(default_factory=dict)
    size: int = 0


class PartWriter:
    """The part of one share; a torn last block is cut off.

    Args:
        folder: of the parts.
        share: whose part it is.
        config: the run's record.

    Raises:
        InputError: if another process writes it, or the disk refuses it.
    """

    def __init__(self, folder: Path, share: Share, config: Mapping[str, Any]) -> None:
        path = part_path(folder, share)
        self._file = AppendedFile(path)
        self.blocks: dict[int, Place] = {}
        try:
            part = read_part(path)
            self._file.truncate(0 if part is None else part.size)
            if part is None:
                self._file.append(_line({"share": [share.index, share.count], "run": config}))
            else:
                self.blocks = part.blocks
        except BaseException:
            self._file.close()
            raise

    def append(self, block: int, lines: Sequence[str]) -> None:
        """Write a block's lines (without newlines), and see them on the disk before returning."""
        data = "".join(f"{line}\n" for line in lines).encode()
        head = {"block": block, "lines": len(lines), "bytes": len(data), "crc32": zlib.crc32(data)}
        self._file.append(_line(head) + data)

    def finish(self, num_blocks: int, report: Mapping[str, object]) -> None:
        """Say that the share is done, and of how many blocks the input has it is a part."""
        self._file.append(_line({"end": num_blocks, "report": dict(report)}))

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class Parts:
    """All parts of an output.

    Args:
        folder: of the parts; need not exist.
        config: the record of this run; parts of another are refused. None takes what the first part says.

    Attributes:
        parts: in the order of their names.
        blocks: where each finished block stands.
        config: the run's record.

    Raises:
        InputError: if a part is corrupt or of another run, or a block stands in two of them.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any] | None = None) -> None:
        self.folder = folder
        found = (read_part(path) for path in sorted(folder.glob(f"*{ENDING}")))
        self.parts = [part for part in found if part is not None]
        self.config = dict(config or (self.parts[0].config if self.parts else {}))
        self.blocks: dict[int, Place] = {}
        for part in self.parts:
            check_same_run(part.path, part.config, self.config)
            for block, place in part.blocks.items():
                if block in self.blocks:
                    raise InputError(
                        f"{part.path}: shards must not overlap; block {block} stands in {self.blocks[block].path} too; "
                        "remove one of them"
                    )
                self.blocks[block] = place

    def lines(self, block: int) -> list[str]:
        """The lines of a finished block."""
        place = self.blocks[block]
        with open(place.path, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size).decode("utf-8").split("\n")[:-1]

    def remove(self) -> None:
        """Throw the parts away."""
        shutil.rmtree(self.folder, ignore_errors=True)


def parts_folder(output: Path) -> Path:
    """Where the parts of an output lie."""
    return output.with_name(output.name + ".parts")


def part_path(folder: Path, share: Share) -> Path:
    """The part of a share.

    >>> part_path(Path("run.tsv.parts"), Share(2, 8)).name
    '00002-of-00008.part'
    """
    return folder / f"{share.index:05d}-of-{share.count:05d}{ENDING}"


def read_part(path: Path) -> Part | None:
    """What stands in a part, which its process may still be writing; None where it has not begun.

    Raises:
        InputError: at an entry that is corrupt; one that is torn at the end of the file is left out.
    """
    with open(path, "rb") as file:
        part: Part | None = None
        for number, entry in enumerate(_entries(path, file), start=1):
            if part is None:
                share = entry.get("share", [])
                if [type(value) for value in share] != [int, int]:
                    raise corrupt(f"{path}: entry {number}", "no head of a part")
                part = Part(path, Share(*share), entry["run"])
            elif "end" in entry:
                part.num_blocks, part.report = entry["end"], entry["report"]
            elif "block" in entry:
                place = Place(path, entry["offset"], entry["bytes"])
                if entry["block"] in part.blocks:
                    raise corrupt(f"{path}: entry {number}", f"block {entry['block']} a second time")
                part.blocks[entry["block"]] = place
            else:
                raise corrupt(f"{path}: entry {number}", "a second head")
            part.size = file.tell()
    return part


def _entries(path: Path, file: BinaryIO) -> Iterator[dict[str, Any]]:
    number, size = 0, path.stat().st_size
    while (line := file.readline()).endswith(b"\n"):
        number += 1
        place = f"{path}: entry {number} (byte {file.tell() - len(line)})"
        try:
            entry = parse_json(line)
        except ValueError as error:
            raise corrupt(place, f"{line[:40]!r}") from error
        kinds = [kind for kind in ENTRIES if isinstance(entry, dict) and next(iter(kind)) in entry]
        if len(kinds) != 1 or not _has(entry, kinds[0]):
            raise corrupt(place, f"{line[:40]!r}")
        if "block" in entry:
            entry["offset"] = file.tell()
            if size - file.tell() < entry["bytes"]:
                return  # torn
            data = file.read(entry["bytes"])
            if zlib.crc32(data) != entry["crc32"]:
                raise corrupt(place, "lines that differ from their check sum")
        yield entry


def _has(entry: Mapping[str, object], kinds: Mapping[str, type]) -> bool:
    """Whether an entry has these keys, with values of these types, and numbers that count something."""
    values = [(entry.get(key), kind) for key, kind in kinds.items()]
    return all(type(value) is kind and (not isinstance(value, int) or value >= 0) for value, kind in values)


def _line(entry: Mapping[str, object]) -> bytes:
    return (json.dumps(entry, ensure_ascii=False, default=str) + "\n").encode()

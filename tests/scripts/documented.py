"""The commands that the documentation shows, as a shell sees them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAMS = ("python", "pip", "bash", "deepspeed", "torchrun", "vllm", "tevatron-distill", "jupyter")
STUB = """#!{python}
import json, sys
with open({log!r}, "a") as file:
    file.write(json.dumps([{name!r}, *sys.argv[1:]]) + "\\n")
"""


@dataclass(frozen=True)
class Block:
    """A piece of shell or Python in a document.

    Attributes:
        place: file and line.
        section: the heading above it, of the second level.
        language: ``bash`` or ``python``.
        text: what stands in it.
    """

    place: str
    section: str
    language: str
    text: str


def blocks(path: Path) -> list[Block]:
    """Fenced blocks, and indented lines that call Python, of a Markdown file."""
    found = []
    section = language = ""
    lines: list[str] = []
    began = 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            if language:
                found.append(Block(f"{path.name}:{began}", section, language, "\n".join(lines)))
            language, lines, began = ("" if language else line[3:] or "text"), [], number
        elif language:
            lines.append(line)
        elif line.startswith("## "):
            section = line[3:]
        elif line.startswith("    python "):
            found.append(Block(f"{path.name}:{number}", section, "bash", line.strip()))
    return [block for block in found if block.language in ("bash", "python")]


def comments(path: Path) -> list[Block]:
    """Our command lines in the comments at the top of a recipe."""
    text = "\n".join(re.findall(r"^# ?(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    commands = re.findall(r"^ +(tevatron-distill (?:.*\\\n)*.*)$", text, re.MULTILINE)
    return [Block(path.name, "", "bash", command) for command in commands]


def commands(text: str, folder: Path) -> list[list[str]]:
    """Words of every command that a piece of shell runs; nothing but the shell itself is run.

    Args:
        text: the shell's.
        folder: an empty one, for programs that only say how they were called.
    """
    programs, log = folder / "bin", folder / "log.jsonl"
    programs.mkdir(parents=True)
    log.touch()
    for name in PROGRAMS:
        path = programs / name
        path.write_text(STUB.format(python=sys.executable, log=str(log), name=name))
        path.chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": "3"}
    subprocess.run(["/bin/bash", "-euc", text], cwd=folder, check=True, env=environment, timeout=60)
    return [json.loads(line) for line in log.read_text().splitlines()]


def driver_call(words: list[str]) -> tuple[str, list[str]] | None:
    """Verb and flags of a command that is one of ours, however it is launched; None for another program."""
    if words[0] == "tevatron-distill":
        return words[1], words[2:]
    places = [place for place, word in enumerate(words) if word.startswith("tevatron_distill.driver.")]
    return (words[places[0]].rpartition(".")[2], words[places[0] + 1 :]) if places else None


def filled_in(words: list[str], needed: dict[str, str]) -> list[str]:
    """A command line whose ``…`` stand for flags that are needed, or for a value."""
    kept = [
        "given" if word == "…" else word
        for place, word in enumerate(words)
        if word != "…" or (place and words[place - 1].startswith("--"))
    ]
    if len(kept) == len(words) and "given" not in kept:
        return kept
    return kept + [word for flag, value in needed.items() if flag not in kept for word in (flag, value)]

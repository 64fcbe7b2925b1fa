"""Say what is here, what is missing and how to get it: ``python -m tevatron_distill.driver.doctor``.

It reads the flags by argparse itself, for it must speak where transformers is missing too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tevatron_distill.driver.common import run_main
from tevatron_distill.extras import PACKAGES, is_installed, pip_command
from tevatron_distill.retrieval.java import OLDEST, find_java

OURS = "tevatron-distill"
GIB = 1 << 30
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        section: where it is shown.
        name: what it is.
        state: ``ok``; ``note``, to be known; ``missing``, an extra that is not installed; ``wrong``, the core does
            not work.
        value: what was found.
        advice: what it means, or the command that changes it; empty where there is nothing to do.
    """

    section: str
    name: str
    state: str
    value: str
    advice: str = ""


def main(argv: Sequence[str] | None = None) -> None:
    """Look at everything, print it, and end with status 0 if the core works.

    Raises:
        SystemExit: with status 1 if it does not.
    """
    parser = argparse.ArgumentParser(prog="doctor", usage="tevatron-distill doctor [flags]", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    args = parser.parse_args(None if argv is None else list(argv))
    findings = [*versions(), *devices(), *java(), *extras(), *folders(), *hub()]
    works = all(finding.state != "wrong" for finding in findings)
    print(as_json(findings, works) if args.json else as_table(findings, works))
    if not works:
        raise SystemExit(1)


def versions() -> Iterator[Finding]:
    """Python, and what the package cannot do without: whether it is there, in the range, and as tested."""
    tested = pinned_versions()
    ours = importlib.metadata.metadata(OURS)
    yield Finding("versions", OURS, "ok", f"{ours['Version']} in {Path(__file__).resolve().parents[1]}")
    wanted = SpecifierSet(ours["Requires-Python"] or "")
    state = "ok" if wanted.contains(platform.python_version()) else "wrong"
    yield Finding(
        "versions", "Python", state, f"{platform.python_version()} in {sys.prefix}", f"needs {wanted}" * (state != "ok")
    )
    for requirement in requirements():
        found = version_of(requirement.name)
        if found is not None and requirement.specifier.contains(found, prereleases=True):
            pinned = tested.get(plain(requirement.name), found)
            advice = "" if found.partition("+")[0] == pinned else f"tested with {pinned}"
            yield Finding("versions", requirement.name, "note" if advice else "ok", found, advice)
        else:
            command = f'needs {requirement.specifier}: pip install "{requirement}"'
            yield Finding("versions", requirement.name, "wrong", found or "not installed", command)


def devices() -> Iterator[Finding]:
    """Cores, memory and GPUs; torch is asked last, for it takes seconds to import."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / GIB:.0f} GiB" if os.name == "posix" else ""
    yield Finding("devices", "CPU", "ok", f"{cores} cores{memory} of memory" if memory else f"{cores} cores")
    if version_of("torch") is None:
        return
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        yield Finding("devices", "torch", "wrong", f"cannot be imported: {error}", "install it anew: pytorch.org")
        return
    yield from gpus(torch)


def gpus(torch: Any) -> Iterator[Finding]:
    """What torch computes on beside the CPU.

    Args:
        torch: the library.
    """
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        half = "bfloat16" if torch.cuda.get_device_capability(index) >= (8, 0) else "float16, no bfloat16"
        what = f"{torch.cuda.get_device_name(index)}, {total / GIB:.0f} GiB, {free / GIB:.0f} GiB free, {half}"
        yield Finding("devices", f"cuda:{index}", "ok", what)
    if torch.backends.mps.is_available():
        yield Finding("devices", "mps", "ok", "Apple GPU", "float32; --bf16 is for newer systems")
    if torch.version.cuda and not torch.cuda.is_available():
        advice = "no driver, or CUDA_VISIBLE_DEVICES hides it" if "CUDA_VISIBLE_DEVICES" in os.environ else "no driver"
        yield Finding("devices", "GPU", "note", f"torch is built for CUDA {torch.version.cuda} and sees none", advice)
    elif not torch.version.cuda and not torch.version.hip and not torch.backends.mps.is_available():
        yield Finding("devices", "GPU", "note", "none: this torch computes on the CPU alone")


def java() -> Iterator[Finding]:
    """The Java machines at hand; ``--retriever lucene`` needs one."""
    at_hand = find_java()
    for found in at_hand:
        what = f"{found.version or 'of unknown version'} in {found.home}"
        reason = "older than Lucene needs" if found.major < OLDEST else "" if found.has_library else "has no libjvm"
        yield Finding("Java", found.found, "note" if reason else "ok", what, reason)
    if not any(found.can_run_lucene for found in at_hand):
        advice = f"--retriever lucene needs Java {OLDEST}: {pip_command('jdk')}, or set JAVA_HOME"
        yield Finding("Java", f"Java {OLDEST}", "missing", "not found", advice)


def extras() -> Iterator[Finding]:
    """Each extra of the package: what of it is installed, and the command that brings the rest."""
    for extra in importlib.metadata.metadata(OURS).get_all("Provides-Extra") or []:
        wanted = list(requirements(extra))
        rows = {module: row for module, row in PACKAGES.items() if row.extra == extra}
        missing = [one for one in wanted if not is_satisfied(one)]
        if len(wanted) == 1 and missing and any(is_installed(module) for module in rows):
            missing = []  # by a distribution of another name, faiss-gpu say
        if not missing:
            what = ", ".join(f"{one.name} {version_of(one.name) or ''}".rstrip() for one in wanted)
            yield Finding("extras", extra, "ok", what)
            continue
        what = ", ".join(f"{one.name} {version_of(one.name) or 'is missing'}" for one in missing)
        advice = "; ".join([pip_command(extra), *dict.fromkeys(row.advice for row in rows.values() if row.advice)])
        yield Finding("extras", extra, "missing", what, advice)


def folders() -> Iterator[Finding]:
    """Folders that answer to the name of a library that is not installed."""
    for module, row in PACKAGES.items():
        spec = None if is_installed(module) else importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations:
            place = next(iter(spec.submodule_search_locations))
            yield Finding(
                *("folders", module, "note", f"`import {module}` finds the folder {place}"),
                f"it is not {row.title}, which is not installed; harmless here",
            )


def hub() -> Iterator[Finding]:
    """Where models come from and are kept, and whether there is a token; never the token."""
    if version_of("huggingface_hub") is None:
        return
    constants = importlib.import_module("huggingface_hub.constants")
    cache = Path(constants.HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    space = f"{shutil.disk_usage(there).free / GIB:.0f} GiB free"
    if os.access(there, os.W_OK):
        yield Finding("Hugging Face", "cache", "ok", f"{cache}, {space}")
    else:
        yield Finding("Hugging Face", "cache", "note", f"{cache} cannot be written", "set HF_HOME to a folder of yours")
    offline = [name for name in OFFLINE if os.environ.get(name, "").lower() in ("1", "true", "yes", "on")]
    said = f"{', '.join(offline)}: only what is in the cache is loaded" if offline else "no"
    yield Finding("Hugging Face", "offline", "note" if offline else "ok", said)
    if "HF_ENDPOINT" in os.environ:
        yield Finding("Hugging Face", "endpoint", "note", constants.ENDPOINT, "HF_ENDPOINT is set")
    token = importlib.import_module("huggingface_hub").get_token() is not None
    advice = "" if token else "for gated models and --push_to_hub: hf auth login, or HF_TOKEN"
    yield Finding("Hugging Face", "token", "ok" if token else "note", "present" if token else "none", advice)


def requirements(extra: str = "") -> Iterator[Requirement]:
    """What the package, or an extra of it, asks for on this machine."""
    for line in importlib.metadata.requires(OURS) or []:
        requirement = Requirement(line)
        marker = requirement.marker
        of_extra = marker is not None and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": extra})
        of_core = marker is None or marker.evaluate({"extra": ""})
        if of_extra if extra else of_core:
            requirement.marker = None
            yield requirement


def version_of(distribution: str) -> str | None:
    """The installed version; None where there is none."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def is_satisfied(requirement: Requirement) -> bool:
    """Whether a requirement's distribution is installed in a version of its range."""
    found = version_of(requirement.name)
    return found is not None and requirement.specifier.contains(found, prereleases=True)


def pinned_versions() -> dict[str, str]:
    """What the tests run on, by ``constraints.txt`` of a checkout; empty for an installed wheel."""
    path = Path(__file__).resolve().parents[2] / "constraints.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {plain(name): version for name, _, version in (line.partition("==") for line in lines) if version}


def plain(name: str) -> str:
    """A distribution's name as it is compared.

    >>> plain("Ray_Data")
    'ray-data'
    """
    return name.lower().replace("_", "-").replace(".", "-")


def as_table(findings: Sequence[Finding], works: bool) -> str:
    """Sections of aligned lines, and a last line that says what it comes to."""
    names = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            lines += ["", section] if lines else [section]
        advice = f"  ({finding.advice})" if finding.advice else ""
        lines.append(f"  {finding.state.ljust(7)}  {finding.name.ljust(names)}  {finding.value}{advice}")
    wrong = [finding.name for finding in findings if finding.state == "wrong"]
    return "\n".join([*lines, "", "the core works" if works else f"the core does not work: {', '.join(wrong)}"])


def as_json(findings: Sequence[Finding], works: bool) -> str:
    """One object: ``{"works": …, section: {name: {"state", "value", "advice"}}}``."""
    found: dict[str, Any] = {"works": works}
    for finding in findings:
        section: dict[str, Mapping[str, str]] = found.setdefault(finding.section, {})
        section[finding.name] = {"state": finding.state, "value": finding.value, "advice": finding.advice}
    return json.dumps(found, indent=2, ensure_ascii=False)


if __name__ == "__main__":
    run_main(main)

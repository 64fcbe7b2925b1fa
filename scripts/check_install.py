"""Builds sdist and wheel, installs the wheel into an environment of its own, and tests it there.

    python scripts/check_install.py --python 3.12 --resolution highest --torch torch==2.13.0 tests/losses tests/students

Needs uv on the path. Versions: ``tested`` are constraints.txt's; ``lowest`` the lower ends of the ranges in setup.py,
``highest`` the newest to be had, as wheels alone. torch is named apart, as many indexes have its builds for CUDA only:
with ``--stand_ins`` such a build is installed without the GPU's libraries (`gpu_stand_ins`). Paths behind the flags are
tests to run against the installed package; smoke.py always runs. Prints a row for scripts/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

import gpu_stand_ins

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("lora", "openai", "ray", "onnx", "plot", "st", "t5", "ir", "faiss", "quickstart")
"""Extras that install anywhere; the others need a GPU, a Java or a compiler."""
TOOLS = ("hypothesis", "ipykernel", "nbclient", "nbformat", "pytest", "pytest-timeout", "pytest-xdist")
"""What the tests need of the extra dev."""
SHOWN = ("torch", "transformers", "datasets", "accelerate", "huggingface-hub", "numpy", "scipy", "peft")
GPU = re.compile(r"(nvidia|cuda|triton)[-=]")


def main() -> None:
    """Build, install, try, test; the environment is deleted afterwards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="version or path")
    parser.add_argument("--resolution", choices=("tested", "lowest", "highest"), default="tested")
    parser.add_argument("--torch", default="torch==2.13.0", help="requirement, or path of a wheel")
    parser.add_argument("--stand_ins", action="store_true", help="torch without the libraries of the GPU")
    parser.add_argument("tests", nargs="*")
    args = parser.parse_args()
    os.environ.setdefault("UV_FIND_LINKS", os.environ.get("PIP_FIND_LINKS", ""))
    with tempfile.TemporaryDirectory(prefix="check_install-") as folder:
        place = Path(folder)
        wheel = build(place)
        python = install(place, wheel, args)
        (place / "away").mkdir()
        quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        subprocess.run([python, str(ROOT / "scripts/smoke.py")], cwd=place / "away", env=quiet, check=True)
        said = "smoke.py" + (f", {run_tests(python, args.tests, quiet)}" if args.tests else "")
        frozen = subprocess.run(["uv", "pip", "freeze", "-q", "--python", python], capture_output=True, text=True)
    shown = [line.replace("==", " ") for line in frozen.stdout.splitlines() if line.partition("==")[0] in SHOWN]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    version = subprocess.run([python, "--version"], capture_output=True, text=True).stdout.split()[-1]
    cells = (datetime.date.today(), commit.stdout.strip(), version, args.resolution, ", ".join(shown), said)
    print("| " + " | ".join(map(str, cells)) + " |")


def build(place: Path) -> Path:
    """The wheel, made of the sdist that is made of the files under version control."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / "source" / name)
    subprocess.run(["uv", "build", "-q", "--out-dir", place / "dist", place / "source"], check=True)
    return next((place / "dist").glob("*.whl"))


def install(place: Path, wheel: Path, args: argparse.Namespace) -> str:
    """Its environment's Python."""
    python = str(place / "environment/bin/python")
    subprocess.run(["uv", "venv", "-q", "--python", args.python, place / "environment"], check=True)
    pip = ["uv", "pip", "install", "-q", "--python", python, "--no-deps"]
    subprocess.run([*pip, args.torch], check=True)
    version = "import importlib.metadata as m; print(m.version('torch'))"
    torch = subprocess.run([python, "-c", version], capture_output=True, text=True, check=True).stdout.strip()
    (place / "torch.txt").write_text(f"torch=={torch}\n")
    (place / "wanted.txt").write_text("\n".join(ranges(wheel)))
    limits = ["-c", place / "torch.txt", *(["-c", ROOT / "constraints.txt"] if args.resolution == "tested" else [])]
    words = ["uv", "pip", "compile", "-q", "--python", python, "--no-header", "--no-annotate", "--only-binary", ":all:"]
    kind = "lowest-direct" if args.resolution == "lowest" else "highest"
    found = subprocess.run(
        [*words, "--resolution", kind, *limits, place / "wanted.txt"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    left_out = [line for line in found if line.startswith("torch==") or (args.stand_ins and GPU.match(line))]
    (place / "found.txt").write_text("\n".join(line for line in found if line not in left_out))
    subprocess.run([*pip, "-r", place / "found.txt", wheel], check=True)
    if args.stand_ins:
        subprocess.run([*pip, *(line for line in left_out if "cuda-runtime" in line)], check=True)
        gpu_stand_ins.main(next((place / "environment").glob("lib/python*/site-packages/torch/lib")))
    return python


def ranges(wheel: Path) -> list[str]:
    """What the wheel asks for, with our extras and the tools of the tests."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    found = set()
    for line in metadata.get_all("Requires-Dist", []):
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        extra = "".join(re.findall(r'extra == "(.*?)"', marker))
        named = re.split(r"[^\w-]", requirement)[0]
        if extra in ("", *EXTRAS) or (extra == "dev" and named in TOOLS):
            found.add(requirement)
    return sorted(found)


def run_tests(python: str, tests: list[str], env: dict[str, str]) -> str:
    """Pytest's last line; warnings of other versions are no errors."""
    words = ["-q", "-W", "default", "-p", "no:cacheprovider", "-p", "no:xdist"]
    pytest = Path(python).with_name("pytest")  # the program, so that the repository's own package is not on the path
    done = subprocess.run([pytest, *words, *tests], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    return done.stdout.strip().splitlines()[-1].strip("= ")


if __name__ == "__main__":
    main()

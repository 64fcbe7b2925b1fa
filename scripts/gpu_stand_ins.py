"""Lets a CUDA build of torch start without the libraries of the GPU (3 GB), to test it on a CPU.

    python scripts/gpu_stand_ins.py ENVIRONMENT/lib/python3.12/site-packages/torch/lib

Every library that torch asks for and does not find gets a stand-in with the names and versions that it wants, whose
functions return 1, an error. CUDA's small runtime must be the real one (nvidia-cuda-runtime, installed beside), as
torch asks it how many GPUs there are. Needs gcc and binutils.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

OF_THE_GPU = re.compile(r"lib(cu|nccl|nvrtc|nvshmem|nvToolsExt|nvJit|cupti)")
PREFIXES = {
    "libcublasLt": "cublasLt",
    "libcublas": "cublas",
    "libcudart": "cuda",
    "libcudnn": "cudnn",
    "libcuda": "cu",
    "libcufft": "cufft",
    "libcufile": "cuFile",
    "libcupti": "cupti",
    "libcurand": "curand",
    "libcusolver": "cusolver",
    "libcusparseLt": "cusparseLt",
    "libcusparse": "cusparse",
    "libcudss": "cudss",
    "libnccl": "nccl",
    "libnvrtc": "nvrtc",
    "libnvshmem": "nvshmem",
    "libnvJit": "nvJit",
}
"""Library → how its functions' names begin, for those without versions."""


def main(folder: Path) -> None:
    """Put a stand-in, or a link to the real one, beside torch's libraries for each that is missing."""
    site = folder.parent.parent
    real = {path.name: path for path in (site / "nvidia").rglob("*.so*")}
    own = [path for path in folder.glob("*.so*") if not OF_THE_GPU.match(path.name)]
    needed = {name for path in own for name in re.findall(r"NEEDED.*\[(.*?)\]", said("readelf", "-dW", path))}
    versions, names = defaultdict(set), defaultdict(set)
    for path in own:
        library = ""
        for line in said("readelf", "-VW", path).splitlines():
            library = "".join(re.findall(r"File: (\S+)", line)) or library
            versions[library].update(re.findall(r"Name: (\S+)\s+Flags", line))
        for line in said("nm", "-D", "--undefined-only", path).splitlines():
            name, _, version = line.split()[-1].partition("@")
            names[version.lstrip("@")].add(name)
    for library in sorted(filter(OF_THE_GPU.match, needed)):
        (folder / library).unlink(missing_ok=True)
        if library in real:
            (folder / library).symlink_to(real[library])
            continue
        begins = PREFIXES[max((key for key in PREFIXES if library.startswith(key)), key=len)]
        bare = {name for name in names[""] if name.startswith(begins)}
        build(folder / library, {version: names[version] for version in versions[library]}, bare)
        print(f"stand-in: {library}")


def build(path: Path, versioned: dict[str, set[str]], bare: set[str]) -> None:
    """Compile functions that do nothing, under their versions."""
    functions = sorted(bare.union(*versioned.values()))
    with tempfile.TemporaryDirectory() as place:
        code, script = Path(place, "code.c"), Path(place, "versions.map")
        code.write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in functions) or "int nothing;\n")
        nodes = {version: "; ".join(sorted(found)) or "nothing" for version, found in versioned.items()}
        script.write_text("".join(f"{version} {{ global: {found}; }};\n" for version, found in nodes.items()))
        linked = [f"-Wl,-soname,{path.name}", *([f"-Wl,--version-script={script}"] if nodes else [])]
        words = ["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", *linked, "-o", str(path), str(code)]
        subprocess.run(words, check=True)


def said(*words: object) -> str:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""The most memory that this process has held, on the machine and on its GPU."""

from __future__ import annotations

import resource
import sys

MIB = 1 << 20


def peak_memory() -> dict[str, float]:
    """Peaks since the process began, in MiB: ``peak_memory_mib``, and ``peak_gpu_memory_mib`` where a GPU was used."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in KiB elsewhere
    found = {"peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB, 1)}
    torch = sys.modules.get("torch")  # drivers that need no model work without it
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        found["peak_gpu_memory_mib"] = round(torch.cuda.max_memory_allocated() / MIB, 1)
    return found

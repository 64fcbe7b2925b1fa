"""What is on record of a student, in the words of its card; what is not, is left out or said to be unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import safe_open

from tevatron_distill.export.results import Measured, Results
from tevatron_distill.formats.output import read_record
from tevatron_distill.layouts.settings import RerankerSettings
from tevatron_distill.students.loading import ADAPTER_FILE

FLAGS = (
    *("loss", "objective", "ranking_weight", "labels", "teacher_temp", "student_temp"),
    *("train_group_size", "group_sampling", "pair_sampling", "min_group_size", "use_inbatch_negative"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "weight_decay", "num_train_epochs", "max_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "neftune_noise_alpha", "bf16", "fp16", "seed"),
)
LORA_FLAGS = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules")
SETTINGS = (
    *("prompt", "yes_token", "no_token", "task_prompt", "query_prefix", "passage_prefix", "append_eos_token"),
    *("rerank_max_len", "query_max_len", "passage_max_len", "softcap", "temperature", "colbert_convention"),
    *("window_size", "step_size", "inference_mode", "metrics"),
)
KINDS = {
    "cross_encoder": "a cross-encoder",
    "yes_token": "a language model that answers Yes",
    "llm_ranker": "a language model that answers Yes",
    "summa_reranker": "a mixture of experts with a tower for each metric",
    "colbert": "a late-interaction encoder (MaxSim)",
    "simcls": "a bi-encoder",
    "pair_ranker": "a model that compares two passages",
    "listwise": "a language model that orders a window of passages",
}


def training_record(source: str) -> dict[str, Any]:
    """What ``driver.train`` has recorded of a student, or of a checkpoint's training; empty where nothing."""
    records = [read_record(place / "run_config.json") for place in places_of(source)]
    return next((record for record in records if "loss" in (record.get("arguments") or {})), {})


def places_of(source: str) -> list[Path]:
    """Folders that tell of a student: its own, and of a checkpoint that of its training."""
    folder = Path(source)
    return [folder, folder.parent] if folder.name.startswith("checkpoint-") else [folder]


def summary_of(folder: Path, format: str, record: Mapping[str, Any], settings: RerankerSettings) -> str:
    """The first sentence."""
    base = (record.get("arguments") or {}).get("model_name_or_path")
    taught = (record.get("report") or {}).get("data", {}).get("teachers") or [{}]
    teachers = {str(one.get("model") or one.get("name") or "") for one in taught} - {""}
    count, what = parameters(folder), "parameters of an adapter" if (folder / ADAPTER_FILE).is_file() else "parameters"
    words = f"A reranker, {KINDS.get(settings.student, settings.student)}"
    words += f" of {count / 1e6:.3g} million {what}" if count else ""
    words += f", which began as {code(public(base))}" if base else ""
    shown = " and ".join(code(public(teacher)) for teacher in sorted(teachers))
    words += f" and learned its order of passages from {shown}" if 0 < len(teachers) < 4 else ""
    unknown = "" if record else " How it was trained is not known: its folder holds no record of `driver.train`."
    return f"{words}, by tevatron_distill (format `{format}`).{unknown}"


def facts_of(record: Mapping[str, Any], settings: RerankerSettings) -> dict[str, str]:
    """What is recorded of the training, by name; what is not recorded is left out, or said to be unknown."""
    arguments, report = record.get("arguments") or {}, record.get("report") or {}
    data, versions = report.get("data") or {}, record.get("versions") or {}
    base, revision = arguments.get("model_name_or_path"), report.get("base_revision")
    facts = {
        "student": settings.student,
        "began as": (public(base) + (f" at {revision}" if revision else "")) if base else "unknown",
        "settings": listed({name: getattr(settings, name) for name in SETTINGS}),
        "learned from": f"{data['groups']} queries, {data['passages']} passages" if data else "unknown",
        "training": listed({name: arguments.get(name) for name in FLAGS}) or "unknown",
        "LoRA": listed({name: arguments.get(name) for name in LORA_FLAGS}) if arguments.get("lora") else "",
        "versions": listed({name: versions.get(name) for name in ("tevatron-distill", "transformers", "torch")}),
        "commit": str(record.get("commit") or ""),
        "time": str(record.get("time") or ""),
    }
    return {name: value for name, value in facts.items() if value}


def teachers_of(record: Mapping[str, Any]) -> list[str]:
    """A line for each teacher, and one for what asking them took."""
    data = (record.get("report") or {}).get("data") or {}
    lines = []
    for teacher in data.get("teachers") or ():
        counts = {name: teacher[name] for name in ("groups", "answers", "malformed") if name in teacher}
        words = [f"{name} {code(public(value))}" for name, value in teacher.items() if name not in counts]
        words.append(f"{counts['groups']} queries")
        if "malformed" in counts:
            words.append(f"{counts['malformed']} of {counts.get('answers', 0)} generated answers had to be repaired")
        lines.append(", ".join(words).removeprefix("name "))
    for path, report in (data.get("taught") or {}).items():
        asked, cached = report.get("asked"), report.get("cached") or 0
        if asked is None:
            continue
        words = [f"for {code(Path(path).name)}: {asked + cached} questions asked"]
        words += [f"{cached} of them answered by a cache"] if cached else []
        words += [f"{report['tokens']} tokens"] if report.get("tokens") else []
        lines.append(", ".join(words))
    return lines


def speed_of(run: Measured, results: Results) -> list[str]:
    """How fast the model ranked, and on what."""
    if run.seconds is None:
        return []
    report, arguments = run.record.get("report") or {}, run.record.get("arguments") or {}
    words = [f"{results.dataset}: {1000 * run.seconds:.3g} ms a query"]
    queries, pairs = report.get("queries"), report.get("pairs")
    if queries and pairs:
        words.append(f"{pairs / queries:.3g} passages each")
    device = report.get("device") or next((one.get("device") for one in report.get("processes", ())), None)
    words.append(f"on {device}" if device else "on a machine that is not recorded")
    kind = arguments.get("onnx_dtype") if arguments.get("backend") == "onnx" else arguments.get("dtype")
    words.append(
        " ".join(str(one) for one in ("in", kind, *(["by onnxruntime"] * (arguments.get("backend") == "onnx"))))
    )
    return [cell(", ".join(words))]


def limits_of(settings: RerankerSettings, results: Sequence[Results], notes: Sequence[str]) -> list[str]:
    """What the model cannot do, as far as it is known."""
    lines = [
        "Scores order the passages of one query; they are no probabilities, and those of two queries do not compare.",
        "It repeats the mistakes and leanings of what it learned from.",
        "Language and domain are those of what it learned from"
        + (
            "; it was measured on nothing but the collections above." if results else "; it was not measured on others."
        ),
    ]
    longest = settings.passage_max_len if settings.student in ("colbert", "simcls") else settings.rerank_max_len
    if longest:
        lines.append(f"It reads {longest} tokens at most, and the end of a longer passage is cut.")
    return [*lines, *(f"{cell(note[:1].upper() + note[1:]).rstrip('.')}." for note in notes)]


def licence_of(license: str | None) -> str:
    """What is known of the licence."""
    if license:
        return f"{code(license)}, as given by whoever exported the model."
    return (
        "Nobody has said (`driver.export --license`). Those of the model that it began as, of its teacher and of the "
        "data may bind."
    )


def parameters(folder: Path) -> int:
    """How many numbers the weights are; 0 where they are no safetensors."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118  no mapping
                size = 1
                for length in weights.get_slice(name).get_shape():
                    size *= length
                total += size
    return total


def public(path: object) -> str:
    """A model's name, or a folder's without the way to it, which is nobody's business.

    >>> public("google/flan-t5-xl"), public("/home/me/models/minilm"), public("../minilm")
    ('google/flan-t5-xl', 'minilm', 'minilm')
    """
    text = str(path)
    return Path(text).name if text.startswith(("/", ".", "~")) else text


def listed(values: Mapping[str, Any]) -> str:
    """Names with their values, without those that say nothing.

    >>> listed({"loss": "rank_net", "bf16": False, "prompt": None, "max_steps": -1})
    'loss rank_net'
    """
    said = {name: value for name, value in values.items() if value not in (None, False, "", -1, -1.0)}
    return ", ".join(f"{name} {'' if value is True else public(value)}".strip() for name, value in said.items())


def cell(value: object) -> str:
    """A text in a table or a line, where it must not break either.

    >>> cell("a|b\\nc <d>")
    'a\\\\|b c &lt;d>'
    """
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def code(value: object) -> str:
    """A text as code, in a table or a line.

    >>> code("a|b`c")
    '`` a\\\\|b`c ``'
    """
    text = " ".join(str(value).split()).replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"

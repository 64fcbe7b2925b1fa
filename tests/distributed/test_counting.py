"""The same training counted differently gives the same weights."""

from __future__ import annotations

import pytest
import torch
from launching import KINDS, Workshop, difference
from safetensors.torch import load_file

from tevatron_distill.export import export_checkpoint, merge_adapter
from tevatron_distill.formats.runs import read_run

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(700)]

CLOSE = 2e-6
ZERO = "deepspeed/ds_zero{}_config.json"


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def alone(workshop):
    """Every student trained by one process, and some runs that count the same otherwise."""
    lora = ("--lora", "--lora_r", "4", "--lora_dropout", "0")
    workshop.run(
        "alone",
        [
            *[workshop.command("alone", kind) for kind in KINDS],
            workshop.command("alone", "cross_encoder; 2x2", batch=2, accumulation=2),
            workshop.command("alone", "yes_token; checkpointing", "--gradient_checkpointing"),
            workshop.command("alone", "yes_token; LoRA", *lora),
            workshop.command("alone", "colbert; chunks", *workshop.evaluation()),
        ],
    )
    return "alone"


@pytest.fixture(scope="session")
def ddp(workshop):
    """The same by two processes under torchrun, each with half of the batch."""
    resumed = ("--optim", "adamw_torch", "--learning_rate", "1e-2", "--num_train_epochs", "3")
    resumed = (*resumed, "--save_strategy", "steps", "--save_steps", "4")
    first = workshop.output("ddp", "yes_token; whole") / "checkpoint-4"
    workshop.run(
        "ddp",
        [
            *[workshop.command("ddp", kind, batch=2) for kind in KINDS],
            workshop.command("ddp", "cross_encoder; 1x2", batch=1, accumulation=2),
            workshop.command("ddp", "cross_encoder; chunks", "--row_chunk_size", "2", batch=2),
            workshop.command("ddp", "colbert; chunks", *workshop.evaluation(), "--row_chunk_size", "2", batch=2),
            workshop.command("ddp", "yes_token; LoRA", "--lora", "--lora_r", "4", "--lora_dropout", "0", batch=2),
            workshop.command("ddp", "yes_token; whole", *resumed, batch=2),
            workshop.command("ddp", "yes_token; resumed", *resumed, "--resume_from_checkpoint", str(first), batch=2),
        ],
        "torchrun",
    )
    return "ddp"


def train_sharded(workshop, stage, *further):
    run = f"zero{stage}"
    config = ("--deepspeed", ZERO.format(stage))
    workshop.run(
        run,
        [*[workshop.command(run, kind, *config, batch=2) for kind in KINDS], *further],
        "deepspeed",
    )
    return run


@pytest.fixture(scope="session")
def zero2(workshop):
    """Every student under DeepSpeed's ZeRO-2, with which optimizer states are parted."""
    config = ("--deepspeed", ZERO.format(2))
    accumulated = workshop.command("zero2", "cross_encoder; 1x2", *config, batch=1, accumulation=2)
    zero0 = workshop.command("zero2", "cross_encoder; zero0", "--deepspeed", ZERO.format(0), batch=2)
    lora = ("--lora", "--lora_r", "4", "--lora_dropout", "0")
    return train_sharded(
        workshop, 2, accumulated, zero0, workshop.command("zero2", "yes_token; LoRA", *config, *lora, batch=2)
    )


@pytest.fixture(scope="session")
def zero3(workshop):
    """Every student under ZeRO-3, with which weights are parted, too."""
    config = ("--deepspeed", ZERO.format(3))
    resumed = ("--optim", "adamw_torch", "--learning_rate", "1e-2", "--num_train_epochs", "3")
    resumed = (*config, *resumed, "--save_strategy", "steps", "--save_steps", "4")
    first = workshop.output("zero3", "yes_token; whole") / "checkpoint-4"
    evaluated = workshop.evaluation()
    tested = ("--test_dataset_path", str(workshop.groups))
    return train_sharded(
        workshop,
        3,
        workshop.command("zero3", "cross_encoder; chunks", *config, "--row_chunk_size", "2", *tested, batch=2),
        workshop.command("zero3", "yes_token, T5; chunks", *config, "--row_chunk_size", "2", *evaluated, batch=2),
        workshop.command("zero3", "colbert; chunks", *config, "--row_chunk_size", "2", *evaluated, batch=2),
        workshop.command("zero3", "listwise; evaluated", *config, *evaluated, batch=2),
        workshop.command(
            "zero3", "yes_token; LoRA", *config, "--lora", "--lora_r", "4", "--lora_dropout", "0", batch=2
        ),
        workshop.command("zero3", "yes_token; whole", *resumed, batch=2),
        workshop.command("zero3", "yes_token; resumed", *resumed, "--resume_from_checkpoint", str(first), batch=2),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_learns_though_the_epoch_ends_raggedly(kind, workshop, alone, ddp):
    assert difference(workshop.weights(ddp, kind), workshop.weights(alone, kind)) < CLOSE


@pytest.mark.parametrize("kind", KINDS)
def test_zero2_learns_what_one_process_learns(kind, workshop, alone, zero2):
    assert difference(workshop.weights(zero2, kind), workshop.weights(alone, kind)) < CLOSE


@pytest.mark.parametrize("kind", KINDS)
def test_zero3_learns_what_one_process_learns(kind, workshop, alone, zero3):
    assert difference(workshop.weights(zero3, kind), workshop.weights(alone, kind)) < CLOSE


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_compared_was_learned(kind, workshop, alone):
    if kind == "cross_encoder, causal":
        pytest.skip("its head starts anew")
    before = difference_to_base(workshop, kind)
    assert before > 25 * CLOSE


def difference_to_base(workshop, kind):
    base = load_file(workshop.models[KINDS[kind][0]] / "model.safetensors")
    after = workshop.weights("alone", kind)
    named = {name.removeprefix("bert."): value for name, value in after.items()}
    shared = [name for name in base if name in named and base[name].shape == named[name].shape]
    return max(float((base[name] - named[name]).abs().max()) for name in shared)


@pytest.mark.parametrize(
    ("run", "variant"),
    [
        ("alone", "cross_encoder; 2x2"),
        ("ddp", "cross_encoder; 1x2"),
        ("zero2", "cross_encoder; 1x2"),
        ("zero2", "cross_encoder; zero0"),
        ("alone", "yes_token; checkpointing"),
        ("ddp", "cross_encoder; chunks"),
        ("zero3", "cross_encoder; chunks"),
        ("zero3", "yes_token, T5; chunks"),
        ("zero3", "colbert; chunks"),
        ("zero3", "listwise; evaluated"),
    ],
)
def test_accumulation_checkpointing_and_chunks_change_nothing(run, variant, workshop, alone, request):
    request.getfixturevalue(run)
    kind = variant.partition("; ")[0]
    assert difference(workshop.weights(run, variant), workshop.weights(alone, kind)) < CLOSE


def optimizer_tensors(folder):
    """Every tensor of the optimizer's state in a checkpoint."""
    found = {}

    def walk(value, name):
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}")
        elif isinstance(value, (list, tuple)):
            for place, inner in enumerate(value):
                walk(inner, f"{name}.{place}")

    paths = [*folder.glob("optimizer.pt"), *folder.glob("global_step*/*optim_states.pt")]
    for path in paths:
        walk(torch.load(path, map_location="cpu", weights_only=False), path.name)
    return found


@pytest.mark.parametrize("run", ["ddp", "zero3"])
def test_a_resumed_training_ends_with_the_weights_and_the_optimizer_of_an_uninterrupted_one(run, workshop, request):
    request.getfixturevalue(run)
    # nine updates of three epochs; the fifth, with which the resumed run begins, lies within the second
    whole, resumed = "yes_token; whole", "yes_token; resumed"
    assert difference(workshop.weights(run, resumed), workshop.weights(run, whole)) < 1e-7
    one, other = (optimizer_tensors(workshop.output(run, kind) / "checkpoint-8") for kind in (whole, resumed))
    assert one
    assert difference(one, other) < 1e-7


@pytest.mark.parametrize("run", ["ddp", "zero2", "zero3"])
def test_an_adapter_is_saved_in_pefts_format_with_its_score_head(run, workshop, alone, tmp_path, request):
    request.getfixturevalue(run)
    weights = workshop.weights(run, "yes_token; LoRA")
    assert [name for name in weights if "score" in name]
    assert all(value.numel() for value in weights.values())
    assert not (workshop.output(run, "yes_token; LoRA") / "model.safetensors").exists()
    assert difference(weights, workshop.weights(alone, "yes_token; LoRA")) < 1e-4
    merge_adapter(str(workshop.output(run, "yes_token; LoRA")), tmp_path / "merged")  # compares scores


@pytest.mark.parametrize("run", ["ddp", "zero3"])
def test_a_checkpoint_becomes_a_plain_folder_of_the_same_scores(run, workshop, tmp_path, request):
    request.getfixturevalue(run)
    checkpoint = workshop.output(run, "yes_token; whole") / "checkpoint-9"
    difference_of_scores = export_checkpoint(checkpoint, tmp_path / "plain")
    assert difference_of_scores is not None
    assert difference_of_scores < 1e-6
    for path in checkpoint.glob("*.safetensors"):  # as without stage3_gather_16bit_weights_on_model_save
        path.unlink()
    if run == "zero3":
        assert export_checkpoint(checkpoint, tmp_path / "parts") is None
        exported = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "parts"))
        assert difference(*exported) == 0


def test_one_process_ranks_the_test_rows_by_weights_that_were_parted(workshop, zero3):
    run = read_run(workshop.output(zero3, "cross_encoder; chunks") / "run.tsv")
    assert len(run) == 11


@pytest.mark.parametrize("run", ["ddp", "zero3"])
def test_two_processes_evaluate_as_one_does(run, workshop, alone, request):
    request.getfixturevalue(run)
    expected, got = (workshop.evaluated(name, "colbert; chunks") for name in (alone, run))
    assert len(expected) == len(got) == 2
    for one, other in zip(expected, got, strict=True):
        assert other == pytest.approx(one, abs=1e-5)

"""Hours and memory of the reproductions: ``python scripts/estimate.py [RECIPE …] [--measure]``.

Derived, without a GPU and without weights: floating-point operations of every step, counted by torch on models of the
true shape that hold no numbers (FlopCounterMode on the meta device), times the rows of the recipe; memory from the
number of parameters and from the tensors that a forward pass keeps. Measured: `--measure` runs steps of the true shape
with random weights on this machine (forward, backward, AdamW; 20 of them on a GPU, 2 on a CPU), which gives the
throughput that turns operations into hours. Without it, hours stand for a throughput that is assumed.

    hours = PFLOP of the work / (TFLOP/s reached × GPUs) / 3.6

Not counted: reading, tokenising, the loss, AdamW, what several GPUs say to each other, padding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from estimate_recipes import LAYERS, RECIPES, SHAPES, Work
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

GIB = 2**30
ASSUMED_TFLOPS = 100.0
CPU_STEPS, GPU_STEPS = 2, 20
CPU_LIMIT = 450e6
"""Parameters of the largest model whose training step is measured on a CPU."""


class Counted(NamedTuple):
    """What one row of a work costs.

    Attributes:
        flops: operations of its step.
        kept: bytes that its forward pass keeps for the backward pass.
        parameters: numbers of the model, its head left out.
    """

    flops: int
    kept: int
    parameters: int


def build(shape: str, device: str, dtype: torch.dtype, layers: int | None = None) -> Any:
    """The model with random weights; on the device ``meta`` with none.

    Args:
        shape: key of `SHAPES`.
        device: where.
        dtype: of its weights.
        layers: in the place of the shape's own number.
    """
    kind, numbers = SHAPES[shape]
    changes = {} if layers is None else {LAYERS.get(kind, "num_hidden_layers"): layers}
    config = AutoConfig.for_model(kind, **{**numbers, **changes})
    with torch.device(device):
        return AutoModel.from_config(config).to(dtype)


def forward(model: Any, rows: int, tokens: int, adapter: bool = False) -> Tensor:
    """One pass; T5 has one decoder step, and with an adapter the weights get no gradients."""
    device = next(model.parameters()).device
    ids = torch.ones(rows, tokens, dtype=torch.long, device=device)
    if adapter:
        model.requires_grad_(False)
        given: dict[str, Any] = {"inputs_embeds": model.get_input_embeddings()(ids).requires_grad_()}
    else:
        given = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = ids[:, :1]
    vectors: Tensor = model(**given)[0]
    return vectors


def count(shape: str, work: Work, layers: int | None = None, rows: int = 1) -> Counted:
    """What so many rows of a work cost.

    All layers of a model are alike, so two and three of them are counted, and the others follow; with ``layers`` that
    many are counted. What is kept is an upper bound: attention's probabilities are counted, which a fused attention
    does not keep. With checkpointing it is each layer's input, and all of one layer.
    """
    if layers is None:
        two, three = (count(shape, work, number, rows) for number in (2, 3))
        more = SHAPES[shape][1][LAYERS.get(SHAPES[shape][0], "num_hidden_layers")] - 2
        return Counted(*(low + more * (high - low) for low, high in zip(two, three, strict=True)))
    model = build(shape, "meta", torch.bfloat16, layers)
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    number = sum(parameter.numel() for parameter in model.parameters())
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = tensor
        return tensor

    training = work.what == "train"
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter:
        with torch.set_grad_enabled(training), hooks:
            vectors = forward(model, rows, work.tokens, work.adapter)
        once = counter.get_total_flops()
        total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
        if training:
            vectors.float().sum().backward()
    if not work.checkpointed:
        return Counted(counter.get_total_flops(), total, number)
    inputs = layers * rows * work.tokens * model.config.hidden_size * 2
    return Counted(counter.get_total_flops() + once, inputs + total // layers, number)


def state_bytes(number: int, work: Work, gpus: int) -> float:
    """Weights, gradients and AdamW's states of one GPU.

    bfloat16 weights alone where nothing is trained (2 bytes a number); with ZeRO 2 + 2 bytes and 12 of the optimizer
    (float32 weights and two moments), parted over the GPUs, under stage 2 but for the weights; without it float32
    weights, gradients and moments, 16.
    """
    if work.what != "train":
        return 2 * number
    if work.adapter:  # the adapter itself is left out
        return 2 * number / gpus if work.stage == 3 else 2 * number
    if work.stage is None:
        return 16 * number
    parted = (2 + 12) * number / gpus
    return parted + (2 * number / gpus if work.stage == 3 else 2 * number)


def table(names: Sequence[str], tflops: dict[str, float]) -> str:
    """What each part of the recipes costs, as Markdown.

    Args:
        names: of recipes.
        tflops: measured throughput of a shape, on one GPU.
    """
    head = ["recipe", "part", "rows", "tokens", "PFLOP", "GPUs", "hours", "at TFLOP/s a GPU", "states GiB", "kept GiB"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for name in names:
        recipe = RECIPES[name]
        for work in recipe.work:
            one = count(recipe.shape, work)
            operations = one.flops * work.rows
            reached = tflops.get(recipe.shape)
            speed = ASSUMED_TFLOPS if reached is None else reached
            kept = one.kept * work.batch / GIB if work.what == "train" else None
            cells = [
                name,
                work.what,
                f"{work.rows:,}",
                str(work.tokens),
                f"{operations / 1e15:,.1f}",
                str(recipe.gpus),
                f"{operations / (speed * 1e12 * recipe.gpus) / 3600:,.2f}",
                f"{speed:.3g} {'assumed' if reached is None else 'measured'}",
                f"{state_bytes(one.parameters, work, recipe.gpus) / GIB:.1f}",
                "" if kept is None else f"{kept:.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


class Measured(NamedTuple):
    """Steps of one shape on this machine.

    Attributes:
        gflop: counted, of a step.
        seconds: of the fastest step; on a CPU computing time of one thread, so that other work does not count.
    """

    gflop: float
    seconds: float

    @property
    def gflops(self) -> float:
        """Throughput, GFLOP/s."""
        return self.gflop / self.seconds


def measure(shape: str, rows: int, tokens: int, device: str) -> Measured:
    """Train so many rows, again and again; the first step is left out."""
    gpu = device != "cpu"
    model = build(shape, device, torch.bfloat16 if gpu else torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    seconds = []
    for _ in range(1 + (GPU_STEPS if gpu else CPU_STEPS)):
        began = _clock(gpu)
        forward(model, rows, tokens).float().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(_clock(gpu) - began)
    return Measured(count(shape, Work("train", rows, tokens), rows=rows).flops / 1e9, min(seconds[1:]))


def _clock(gpu: bool) -> float:
    if gpu:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measurements(shapes: Sequence[str], device: str, rows: int) -> dict[str, list[Measured]]:
    """Two sizes of each shape: the second says how well the first foretells it."""
    found = {}
    for shape in dict.fromkeys(shapes):
        number = count(shape, Work("rank", 1, 1)).parameters
        if device == "cpu" and number > CPU_LIMIT:
            print(f"{shape}: not measured, {number / 1e6:,.0f}M numbers are too many for a step on a CPU")
            continue
        try:
            found[shape] = [measure(shape, rows, 96, device), measure(shape, 2 * rows, 128, device)]
            print(
                f"{shape}: {', '.join(f'{one.gflop:,.0f} GFLOP in {one.seconds:.2f} s' for one in found[shape])}",
                flush=True,
            )
        except torch.OutOfMemoryError:
            print(f"{shape}: not measured, its training step does not fit; give fewer --rows")
    return found


def measured_table(found: dict[str, list[Measured]]) -> str:
    """What was measured, and how near the second size is to what the first says of it."""
    head = ["shape", "GFLOP", "seconds", "GFLOP/s", "GFLOP, twice as large", "seconds", "foretold", "off by"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for shape, (small, large) in found.items():
        foretold = large.gflop / small.gflops
        cells = [f"{small.gflop:,.1f}", f"{small.seconds:.3f}", f"{small.gflops:.1f}", f"{large.gflop:,.1f}"]
        cells += [f"{large.seconds:.3f}", f"{foretold:.3f}", f"{foretold / large.seconds - 1:+.0%}"]
        lines.append(f"| {shape} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print what the recipes cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(RECIPES)} (default: all)")
    parser.add_argument("--measure", action="store_true", help="run steps on this machine first")
    parser.add_argument("--rows", type=int, help="rows of a measured step (default: 2 on a CPU, 64 on a GPU)")
    arguments = parser.parse_args(argv)
    names = arguments.recipes or list(RECIPES)
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        parser.error(f"no recipe {unknown[0]}; known are {', '.join(RECIPES)}")
    tflops: dict[str, float] = {}
    if arguments.measure:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        where = torch.cuda.get_device_name() if device == "cuda" else "one thread of a CPU, float32, computing time"
        if device == "cpu":
            torch.set_num_threads(1)
        rows = arguments.rows or (64 if device == "cuda" else 2)
        found = measurements([RECIPES[name].shape for name in names], device, rows)
        print(f"\nMeasured: a training step of {rows} × 96 tokens, then {2 * rows} × 128; {where}\n")
        print(measured_table(found))
        tflops = {shape: max(one.gflops for one in sizes) / 1000 for shape, sizes in found.items()}
    else:
        print(f"Derived: nothing was measured; hours if each GPU reaches {ASSUMED_TFLOPS:g} TFLOP/s, which is assumed")
    print(f"\nDerived: operations, memory, and hours from them\n\n{table(names, tflops)}")


if __name__ == "__main__":
    main()

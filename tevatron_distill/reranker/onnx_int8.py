"""Which products of a student are rounded to int8, and what is done about the activations that rounding would spoil.

onnxruntime gives the activations of a batch one scale. Two places of a transformer have values far above the others: a
few features of what enters the feed-forward layers, and a few tokens of what leaves the first of them.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WHOLE_LAYERS = 3
"""So many of the first feed-forward layers hand back their result in float32 where the rest is int8."""
STRENGTH = 0.7
"""Where the range of a feature goes: 0 leaves it to the activations, 1 moves it into the weights."""
LARGE = 2**30
"""Bytes beyond which weights lie beside the graph; a file of ONNX holds 2 GiB at most."""


@contextmanager
def smoothed(graph: nn.Module, batches: Sequence[Mapping[str, Tensor]], hidden_size: int) -> Iterator[None]:
    """Within it what enters the feed-forward layers is divided, and their weights multiplied, by a factor a feature.

    Scores stay what they were; the activations' range becomes even, as measured on ``batches``.

    Args:
        graph: what is exported, not training.
        batches: its inputs, int64 ``[R, T]`` each, in their order.
        hidden_size: the model's width.

    Source:
        Xiao et al. 2023 (SmoothQuant, arXiv 2211.10438), with the division left in the graph, because what enters
        BERT's feed-forward layers goes around them too.
    """
    layers = [
        layer
        for layer in graph.modules()
        if isinstance(layer, nn.Linear) and layer.in_features == hidden_size < layer.out_features
    ]
    largest = _largest_inputs(graph, layers, batches)
    handles, weights = [], [layer.weight.detach().clone() for layer in layers]
    try:
        for layer in layers:
            if layer in largest:
                in_weights = layer.weight.abs().amax(dim=0).clamp(min=1e-5)
                factor = largest[layer].clamp(min=1e-5) ** STRENGTH / in_weights ** (1 - STRENGTH)
                factor = (factor / factor.log().mean().exp()).detach()  # [hidden_size]
                layer.weight.data.mul_(factor)
                handles.append(layer.register_forward_pre_hook(_dividing(factor)))
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.data.copy_(weight)


def _dividing(factor: Tensor) -> Any:
    return lambda _, inputs: (inputs[0] * (1 / factor),)


def _largest_inputs(
    graph: nn.Module, layers: Sequence[nn.Linear], batches: Sequence[Mapping[str, Tensor]]
) -> dict[nn.Linear, Tensor]:
    """The largest absolute value of every input feature, float ``[in_features]`` of each layer that was computed."""
    found: dict[nn.Linear, Tensor] = {}

    def see(layer: nn.Linear, inputs: tuple[Tensor, ...]) -> None:
        largest = inputs[0].detach().abs().flatten(0, -2).amax(dim=0)
        found[layer] = torch.maximum(found.get(layer, largest), largest)

    handles = [layer.register_forward_pre_hook(see) for layer in layers]
    try:
        for batch in batches:
            with torch.no_grad():
                graph(*batch.values())
    finally:
        for handle in handles:
            handle.remove()
    return found


def write_int8(source: Path, target: Path, hidden_size: int) -> None:
    """Round the weights of a float32 graph: matrices of one constant factor, a scale for each output.

    What the first layers' feed-forward hands back stays in float32: a few of its tokens are far larger than the others.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(str(source))
    del graph.graph.value_info[:]  # torch 2.13 writes shapes of transposed weights that onnx 1.23 finds contradictory
    with quiet():
        quantize_dynamic(
            graph,
            str(target),
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=narrow(),
            weight_type=QuantType.QInt8,
            nodes_to_exclude=ways_back(graph, hidden_size)[:WHOLE_LAYERS],
            use_external_data_format=sum(file.stat().st_size for file in source.parent.iterdir()) > LARGE,
            extra_options={"MatMulConstBOnly": True},
        )


def ways_back(graph: Any, hidden_size: int) -> list[str]:
    """The products with a constant matrix from a greater width to the model's own, in the order of computation."""
    narrowing = {
        weight.name
        for weight in graph.graph.initializer
        if len(weight.dims) == 2 and weight.dims[0] > weight.dims[1] == hidden_size
    }
    return [node.name for node in graph.graph.node if node.op_type == "MatMul" and node.input[1] in narrowing]


def narrow() -> bool:
    """Whether weights keep seven bits: without VNNI, sums of products of eight bits overflow on x86."""
    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512") and not torch.cpu._is_vnni_supported()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' warnings about themselves, and their advice to run other programs first."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

"""Run in each of two processes: rows in chunks through weights that FSDP2 has parted, as through whole ones."""

from __future__ import annotations

import copy

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForSequenceClassification

from tevatron_distill.students.parted import weights_are_parted
from tevatron_distill.students.row_chunks import chunk_rows

ROWS = (5, 2)
"""Rows of the two processes: three chunks of two, and one."""


def gradients(model: torch.nn.Module, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    model(input_ids=rows, attention_mask=torch.ones_like(rows)).logits.sum().backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return {name: getattr(grad, "full_tensor", lambda grad=grad: grad)() for name, grad in found.items()}


def main(folder: str) -> None:
    distributed.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    whole = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    parted = copy.deepcopy(whole)
    for layer in parted.bert.encoder.layer:
        fully_shard(layer, mesh=mesh)
    fully_shard(parted, mesh=mesh)
    if not weights_are_parted(parted) or weights_are_parted(whole):
        raise AssertionError("FSDP is not seen")
    chunk_rows(parted, "forward", 2)
    torch.manual_seed(0)
    rows = torch.randint(5, 100, (sum(ROWS), 7)).split(ROWS)
    expected = gradients(whole, torch.cat(rows))
    for name, grad in gradients(parted, rows[distributed.get_rank()]).items():
        torch.testing.assert_close(grad * 2, expected[name], atol=1e-5, rtol=1e-4)  # FSDP takes the mean
    parted.zero_grad()
    mask = torch.tensor([[1] * 7, [1] * 3 + [0] * 4, [1] * 5 + [0] * 2, [1] * 2 + [0] * 5, [1] * 6 + [0]])
    mask = mask[: len(rows[distributed.get_rank()])]
    chunk_rows(parted, "forward", None, 7)  # by length, a row at a time: five chunks and two
    parted(input_ids=rows[distributed.get_rank()], attention_mask=mask).logits.sum().backward()
    with torch.no_grad():
        parted(input_ids=rows[distributed.get_rank()], attention_mask=None)
    distributed.barrier()
    distributed.destroy_process_group()

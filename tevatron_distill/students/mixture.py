"""SummaReranker's head: experts that all measures share, a gate and a tower for each measure."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

NOISE_FLOOR = 0.01
"""Added to the learned deviation of the gates' noise."""


class Layer(nn.Linear):
    """A linear layer that begins as torch's own, whatever its width; encoders begin theirs smaller."""


class Nothing(Layer):
    """A linear layer without a bias that begins at zero."""

    def __init__(self, size: int, out: int) -> None:
        super().__init__(size, out, bias=False)

    def reset_parameters(self) -> None:
        """All zero."""
        nn.init.zeros_(self.weight)


class Expert(nn.Module):
    """Two layers with a ReLU between."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.fc1 = Layer(size, size)
        self.fc2 = Layer(size, size)

    def forward(self, rows: Tensor) -> Tensor:
        """``[R, D]`` to ``[R, D]``."""
        out: Tensor = self.fc2(functional.relu(self.fc1(rows)))
        return out


class Gate(nn.Module):
    """Noisy top-k gating: which experts a row is sent to, and how much each counts.

    Args:
        size: D.
        num_experts: E.
        top_k: experts of a row, fewer than E.

    Source:
        Shazeer et al. 2017, arXiv 1701.06538. Noise in training only.
    """

    def __init__(self, size: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        # linear layers and no bare parameters, which from_pretrained would leave uninitialised
        self.clean = Nothing(size, num_experts)
        self.noise = Nothing(size, num_experts)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Gates and load.

        Args:
            rows: float ``[R, D]``.

        Returns:
            ``gates`` float32 ``[R, E]``, a softmax over the ``top_k`` largest, 0 elsewhere; and ``load`` float32
            ``[R, E]``: in training the chance, over new noise for one expert, that the row is sent to it; else 1 where
            it is.
        """
        clean = self.clean(rows).float()
        deviation = functional.softplus(self.noise(rows).float()) + NOISE_FLOOR
        logits = clean + torch.randn_like(clean) * deviation if self.training else clean
        top, places = logits.topk(self.top_k + 1, dim=-1)
        gates = torch.zeros_like(logits).scatter(-1, places[:, :-1], top[:, :-1].softmax(dim=-1))
        if not self.training:
            return gates, (gates > 0).float()
        last_in, first_out = top[:, -2, None], top[:, -1, None]
        threshold = torch.where(logits > first_out, first_out, last_in)  # what it has to beat: the k-th of the others
        return gates, torch.special.ndtr((clean - threshold) / deviation)


class MetricHead(nn.Module):
    """Bottom layers, a mixture of experts and a tower for each measure.

    Args:
        size: D, the encoder's width.
        num_metrics: M; there are 2 M experts, of which each gate chooses M.

    Source:
        Ravaut et al. 2022 (SummaReranker, arXiv 2203.06569), in the form of LLM-Blender, whose experts are joined as
        ``log(Σ gate · exp(expert))``. It also collects the gates of every row it ever evaluates; this keeps nothing.
    """

    def __init__(self, size: int, num_metrics: int) -> None:
        super().__init__()
        self.fc1 = Layer(size, size)
        self.fc2 = Layer(size, size)
        self.experts = nn.ModuleList([Expert(size) for _ in range(2 * num_metrics)])
        self.gates = nn.ModuleList([Gate(size, 2 * num_metrics, num_metrics) for _ in range(num_metrics)])
        self.towers = nn.ModuleList([Layer(size, 1) for _ in range(num_metrics)])

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score rows.

        Args:
            rows: vectors of ``[CLS]``, float ``[R, D]``.

        Returns:
            ``logits`` ``[R, M]``, ``importance`` (gates) and ``load`` float32 ``[R, M, E]``.
        """
        rows = self.fc2(functional.relu(self.fc1(rows)))
        # every row through every expert: twice what the gates need, but once for all measures
        experts = torch.stack([expert(rows) for expert in self.experts], dim=1).float()  # [R, E, D]
        logits, importance, load = [], [], []
        for gate, tower in zip(self.gates, self.towers, strict=True):
            gates, chance = gate(rows)
            chosen = gates > 0
            weights = gates.masked_fill(~chosen, 1).log().masked_fill(~chosen, -torch.inf)
            mixed = (experts + weights[:, :, None]).logsumexp(dim=1)  # [R, D]
            logits.append(tower(mixed.to(rows.dtype)))
            importance.append(gates)
            load.append(chance)
        return torch.cat(logits, dim=-1), torch.stack(importance, dim=1), torch.stack(load, dim=1)

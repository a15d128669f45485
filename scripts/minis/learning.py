"""The minis' heads, losses, one training loop, and how they are judged."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor, nn
from torch.nn import functional

from minis import NAMES

C = len(NAMES)
Clip = functional.binary_cross_entropy_with_logits


class CanvasHead(nn.Module):
    """What one canvas shows, or that it shows nothing, from the trunk's map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(2 * width, C + 1)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, V, h, w) -> (N, C + 1)."""
        return self.out(self.drop(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)))


class FrameHead(nn.Module):
    """Classes from each cell, from the mean of the map and from its maximum."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell, self.mean, self.top = (nn.Linear(width, C) for _ in range(3))
        self.drop = nn.Dropout2d(0.1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, h, w, V) -> (N, h, w, C), (N, C), (N, C)."""
        maps = self.drop(maps.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.cell(maps), self.mean(4 * maps.mean((1, 2))), self.top(maps.amax((1, 2)))


class SoundHead(nn.Module):
    """Which sounds are heard."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)
        self.out = nn.Linear(width, C)

    def forward(self, features: Tensor) -> Tensor:
        """(N, V) -> (N, C)."""
        return self.out(self.drop(features))


def frame_loss(head: nn.Module, maps: Tensor, target: Tensor) -> Tensor:
    cells, mean, top = head(maps)
    there = (target == 1).flatten(1, 2).any(1).float()
    judged = Clip(
        cells, target.clamp(min=0).float(), reduction="none", pos_weight=torch.tensor(6.0)
    )
    cell = (judged * (target >= 0)).sum() / (target >= 0).sum()
    return 4 * cell + Clip(mean, there) + Clip(top, there) + 0.02 * maps.mean()


def sound_loss(head: nn.Module, features: Tensor, target: Tensor) -> Tensor:
    soft = target.clamp(min=0).float() * 0.96 + 0.02
    judged = Clip(head(features), soft, reduction="none", pos_weight=torch.tensor(2.0))
    return (judged * (target >= 0)).sum() / (target >= 0).sum() + 0.02 * features.mean()


def canvas_loss(head: nn.Module, maps: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(head(maps), labels, label_smoothing=0.1)


def learn(
    network: nn.Module,
    head: nn.Module,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
    batches: Callable[[int], tuple[Tensor, Tensor]],
    *,
    steps: int,
    rate: float,
    decay: float,
    look: Callable[[], str] | None = None,
) -> None:
    """One-cycle AdamW in float32.

    Args:
        network, head: What learns.
        loss: Of (head, network's answer, target).
        batches: Inputs and targets of a step.
        steps: How many.
        rate: The highest; it rises over the first 15 % of the steps.
        decay: Of weights, but for biases and batch normalisation's.
        look: Called ten times on the way; what it answers is printed.
    """
    own = [*network.parameters(), *head.parameters()]
    split = [
        {"params": [p for p in own if (p.ndim > 1) == wide], "weight_decay": decay * wide}
        for wide in (True, False)
    ]
    parameters = [p for group in split for p in group["params"]]
    optimiser = torch.optim.AdamW(split, lr=rate, betas=(0.9, 0.98))
    plan = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        rate,
        total_steps=steps,
        pct_start=0.15,
        cycle_momentum=False,
        final_div_factor=200,
    )
    began, total, since = time.time(), 0.0, 0
    network.train(), head.train()
    for step in range(steps):
        inputs, target = batches(step)
        value = loss(head, network(inputs), target)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        optimiser.step()
        plan.step()
        total, since = total + value.item(), since + 1
        if (step + 1) * 10 // steps > step * 10 // steps:
            said = look() if look else ""
            network.train(), head.train()
            took = time.time() - began
            print(f"step {step + 1}/{steps} loss {total / since:.4f} {took:.0f} s {said}",
                  flush=True)  # fmt: skip
            total, since = 0.0, 0


@torch.no_grad()
def answers(network: nn.Module, head: nn.Module, x: Tensor, batch: int = 64) -> list[Tensor]:
    """The head's logits for all samples."""
    network.eval(), head.eval()
    parts = [head(network(x[i : i + batch])) for i in range(0, len(x), batch)]
    if isinstance(parts[0], Tensor):
        return [torch.cat(parts)]
    return [torch.cat(p) for p in zip(*parts, strict=True)]


def precision(logits: Tensor, there: np.ndarray) -> float:
    """Average precision of one class; NaN where it is never there."""
    return float(average_precision_score(there, logits.numpy())) if there.any() else float("nan")


def several(logits: Tensor, there: Tensor, first: int, last: int) -> dict[str, object]:
    """How well what is there is told, several things at once, of classes first to last: average
    precision by class, its mean, the share of (sample, class) judged right."""
    own, truth = logits[:, first:last], there[:, first:last].numpy() > 0.5
    ap = [precision(own[:, i], truth[:, i]) for i in range(last - first)]
    return {
        "samples": len(truth),
        "mAP": round(float(np.nanmean(ap)), 4),
        "AP": {name: round(a, 4) for name, a in zip(NAMES[first:last], ap, strict=True)},
        "right": round(float(((own.numpy() > 0) == truth).mean()), 4),
    }


def one(logits: Tensor, labels: Tensor) -> dict[str, object]:
    """How often the likeliest of all twenty classes is the right one, and of each class's."""
    right = logits.argmax(1) == labels
    by_class = {
        NAMES[c]: round(right[labels == c].float().mean().item(), 3)
        for c in sorted(set(labels.tolist()))
    }
    return {
        "samples": len(labels),
        "accuracy": round(right.float().mean().item(), 4),
        "by_class": by_class,
    }

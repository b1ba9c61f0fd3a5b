"""Training anything: a model, its average, its optimiser and a loss.

What is drawn in step k depends on (seed, k, process) alone, so a run that was killed goes on along
the same trajectory of weights.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from wm_gym.data.windows import Batches, prefetch
from wm_gym.training.checkpoint import check_learned_from


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimisation:
    updates: int = 20_000
    """How many optimiser steps to train for."""

    batch_size: int = 64
    """Samples in each optimiser step, of each process."""

    learning_rate: float = 1e-3
    """Highest learning rate: it rises to it over the warmup, then falls to zero along a cosine."""

    warmup: int = 300
    """Steps over which the learning rate rises."""

    ema: float = 0.999
    """Decay of the averaged weights, which are the ones to use."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    weight_decay: float = 1e-3
    """Weight decay of the optimiser, AdamW."""

    seed: int = 0
    """Seed of the first weights, the batches and the noise."""

    def __post_init__(self) -> None:
        for name, least in {"updates": 1, "batch_size": 1, "warmup": 0, "seed": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is {value}, expected a whole number, at least {least}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}, expected 0 to below 1")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected more than 0")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay is {self.weight_decay}, expected at least 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """What one optimiser step did."""

    step: int
    loss: float
    gradient_norm: float
    learning_rate: float
    scores: Mapping[str, float]
    """More that the loss has to tell."""


Batch = TypeVar("Batch")
Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[nn.Module, Batch, torch.Generator], tuple[Tensor, Mapping[str, float]]]
"""(model, batch, generator) to what is minimised, and more to tell."""


class Trainer(Generic[Model]):
    """All that a checkpoint holds: the model, its average, its optimiser, the step, and what it
    learned from: names to identities, of the dataset and of parts trained before."""

    def __init__(
        self,
        model: Model,
        config: Optimisation,
        accelerator: Accelerator,
        learned_from: Mapping[str, str] | None = None,
    ) -> None:
        self.config, self.accelerator = config, accelerator
        self.learned_from = dict(learned_from or {})
        self.average = cast(Model, type(model).from_config(model.config))  # type: ignore[attr-defined]
        self.average.load_state_dict(model.state_dict())
        self.average.requires_grad_(False).eval().to(accelerator.device)
        optimiser = torch.optim.AdamW(
            model.parameters(), config.learning_rate, betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
        )  # fmt: skip
        self.model, self.optimiser = accelerator.prepare(model, optimiser)
        self.step = 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "learned_from": self.learned_from,
            "model": self.accelerator.unwrap_model(self.model).state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        shapes = [
            {name: value.shape for name, value in weights.items()}
            for weights in (self.average.state_dict(), state.get("average", {}))
        ]
        found = state.keys() | {"learned_from"}  # which older checkpoints do not say
        if shapes[0] != shapes[1] or found != self.state_dict().keys():
            raise ValueError(
                "checkpoint is of another model, or of none: continue a run with the settings "
                "that it began with, or give another --out"
            )
        check_learned_from(state.get("learned_from"), self.learned_from)
        self.accelerator.unwrap_model(self.model).load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def train(self, batches: Batches[Batch], loss: Loss[Batch]) -> Iterator[Update]:
        """Goes on from `step` to the last update."""
        self.model.train()
        with closing(prefetch(batches, start=self.step)) as ahead:
            while self.step < self.config.updates:
                yield self._update(next(ahead), loss)

    def _update(self, batch: Batch, loss_of: Loss[Batch]) -> Update:
        config = self.config
        drawn = np.random.SeedSequence((config.seed, self.step, self.accelerator.process_index))
        generator = torch.Generator().manual_seed(int(drawn.generate_state(1)[0]))
        rate = config.learning_rate * _schedule(self.step, config)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with self.accelerator.autocast():
            loss, scores = loss_of(self.model, batch, generator)
        self.accelerator.backward(loss)
        self._share_gradients()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.step += 1
        self._move_average()
        return Update(
            step=self.step,
            loss=loss.item(),
            gradient_norm=float(norm),
            learning_rate=rate,
            scores=scores,
        )

    def _share_gradients(self) -> None:
        """Their mean over processes. `DistributedDataParallel` takes it only where a loss calls the
        model as a whole, and not where it calls parts of it."""
        if self.accelerator.num_processes == 1:
            return
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    @torch.no_grad()
    def _move_average(self) -> None:
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        model = self.accelerator.unwrap_model(self.model)
        now: list[Tensor] = list(model.parameters())
        mean: list[Tensor] = list(self.average.parameters())
        torch._foreach_lerp_(mean, now, 1 - decay)


def seed_of_batches(config: Optimisation, accelerator: Accelerator) -> int:
    """Different in each process."""
    return config.seed * accelerator.num_processes + accelerator.process_index


def _schedule(step: int, config: Optimisation) -> float:
    rise = min(1.0, (step + 1) / max(config.warmup, 1))
    return rise * (0.5 + 0.5 * math.cos(math.pi * step / config.updates))

"""Every setting of the agent, and the presets that stand for a recipe each."""

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FoGConfig:
    """First-order policy updates in short windows (DMO-SAPO), and what makes them learn."""

    seed: int = 0
    """Of the agent's own noise, its networks, and of the first episodes."""

    window: int = 16
    """H, steps that a gradient goes through."""

    gamma: float = 0.99
    """γ, what a step later is worth."""

    lam: float = 0.95
    """λ of TD(λ)."""

    actor_hidden: tuple[int, ...] = (256, 256, 128)
    critic_hidden: tuple[int, ...] = (256, 128)
    actor_rate: float = 3e-4
    """Learning rate."""

    actor_betas: tuple[float, float] = (0.9, 0.95)
    critic_rate: float = 1e-3
    critic_betas: tuple[float, float] = (0.9, 0.99)
    actor_clip: float = 1.0
    """The longest gradient; longer ones are scaled down to it."""

    critic_clip: float = 5.0
    decay_samples: int | None = None
    """Learning rates fall linearly, to a tenth, until this many samples; None keeps them."""

    critics: int = 3
    """Their mean is what the actor climbs; the least of two random ones is what targets see."""

    critic_updates: int = 24
    """After each window."""

    critic_batch: int = 512
    critic_windows: int = 8
    """How many of the last windows critics are regressed over."""

    critic_lag: float | None = 0.1
    """How far slow critics follow the fast ones after each window; None: there are no slow ones."""

    look_aheads: int = 32
    """Updates of the actor after each window, from replayed states through the local model alone;
    0 for pure windows."""

    look_ahead_steps: int = 2
    look_ahead_batch: int = 512
    look_ahead_bfloat16: bool | None = None
    """Compute the local model in bfloat16 there; None: where the processor is fast at it."""

    experience: int = 60_000
    """Transitions that are kept, to look ahead from and to refresh the local model with."""

    refreshes: int = 2
    """Updates of the local model after each window; 0 leaves it as it came."""

    refresh_batch: int = 512
    refresh_recent: int = 20_000
    """From how many of the last transitions."""

    entropy: bool = True
    """Maximum entropy (SAPO); False maximises rewards alone (SHAC)."""

    target_entropy: float = -1.0
    """H̄ / |A|: for each action number, the entropy that the temperature α steers to."""

    first_temperature: float = 0.05
    temperature_rate: float = 5e-3
    log_std: tuple[float, float] = (-5.0, 1.0)
    """The least and the most of log σ, before tanh."""

    return_scale: float = 3.0
    """Rewards are scaled so that returns are of this order: by return_scale (1 − γ) / their
    standard deviation in the first window."""

    reward_scale: float | None = None
    """That factor itself, if it is known."""

    normalise: bool = True
    """Shift and scale observations by their running mean and deviation."""

    def __post_init__(self) -> None:
        least = {
            "window": 1, "critics": 1, "critic_updates": 1, "critic_batch": 1, "critic_windows": 1,
            "look_aheads": 0, "look_ahead_steps": 1, "look_ahead_batch": 1, "experience": 1,
            "refreshes": 0, "refresh_batch": 1, "refresh_recent": 1,
        }  # fmt: skip
        for name, bound in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < bound:
                raise ValueError(f"{name} is {value!r}, expected a whole number, at least {bound}")
        shares = ("gamma", "lam") if self.critic_lag is None else ("gamma", "lam", "critic_lag")
        for name in shares:
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {value}, expected 0 to 1")
        positive = (
            "actor_rate", "critic_rate", "actor_clip", "critic_clip", "first_temperature",
            "temperature_rate", "return_scale", "reward_scale", "decay_samples",
        )  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected more than 0")
        if self.gamma == 1 and self.reward_scale is None:
            raise ValueError("gamma is 1, where returns have no order: give reward_scale")
        if not 0 < abs(self.target_entropy) < math.inf:
            raise ValueError(f"target_entropy is {self.target_entropy}, expected a number but 0")
        if not self.log_std[0] < self.log_std[1]:
            raise ValueError(f"log_std is {self.log_std}, expected (least, most)")
        if not all(width >= 1 for width in (*self.actor_hidden, *self.critic_hidden)):
            raise ValueError("a hidden layer has no width, expected at least 1")


PURE = FoGConfig(
    actor_hidden=(400, 200, 100), critic_hidden=(400, 200), actor_rate=5e-4, critic_rate=5e-4,
    actor_betas=(0.7, 0.95), critic_betas=(0.7, 0.95), critics=10, critic_updates=32,
    critic_windows=1, critic_lag=None, critic_clip=1.0, look_aheads=0, target_entropy=-0.5,
    log_std=(-5.0, 2.0),
)  # fmt: skip

PRESETS: dict[str, tuple[str, FoGConfig]] = {
    "default": ("Windows, replayed look-aheads, critics over recent windows.", FoGConfig()),
    "pure": ("Pure windows with the settings of DMO-SAPO's author.", PURE),
    "shac": (
        "Pure windows without entropy, two slow critics.",
        replace(PURE, entropy=False, critics=2, critic_lag=0.1),
    ),
    "tiny": (
        "A second; used by the tests.",
        FoGConfig(
            window=4, actor_hidden=(16,), critic_hidden=(16,), critic_updates=2, critic_batch=8,
            look_aheads=1, look_ahead_batch=8, refreshes=1, refresh_batch=8, experience=256,
        ),
    ),
}  # fmt: skip


def to_json(config: FoGConfig) -> dict[str, Any]:
    names = config.__dataclass_fields__
    return {name: getattr(config, name) for name in names}


def from_json(values: dict[str, Any]) -> FoGConfig:
    """ValueError where a setting is unknown."""
    known = FoGConfig.__dataclass_fields__
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"unknown settings {unknown} of FoG")
    pairs: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return FoGConfig(**pairs)

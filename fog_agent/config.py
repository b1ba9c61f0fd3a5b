"""Every setting of the agent, and the presets that stand for a recipe each."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

WIDEST, DEEPEST, ANY = 8_192, 16, 2**62
"""Most numbers of a hidden layer, most hidden layers; and where only the least is given."""

COUNTS = {
    "seed": (0, ANY), "window": (1, ANY), "critics": (1, 1_000), "critic_updates": (1, ANY),
    "critic_batch": (1, ANY), "critic_windows": (1, ANY), "head_start": (0, ANY),
    "look_aheads": (0, ANY), "look_ahead_steps": (1, ANY), "look_ahead_batch": (1, ANY),
    "experience": (1, 10_000_000), "refreshes": (0, ANY), "refresh_batch": (1, ANY),
    "refresh_recent": (1, ANY),
}  # fmt: skip
"""Whole numbers, and their least and most."""


@dataclass(frozen=True, kw_only=True)
class FoGConfig:
    """First-order policy updates in short windows (DMO-SAPO), and what makes them learn."""

    seed: int = 0
    """Of the agent's own noise, its networks, and of the first episodes."""

    window: int = 16
    """H, steps that a gradient goes through."""

    gamma: float = 0.99
    """γ, how much a step later counts."""

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
    """Until so many samples learning rates fall to a tenth, and the target entropy to its last
    value, linearly after `hold` of them; None: nothing falls."""

    hold: float = 0.5

    critics: int = 3
    """Windows climb their mean, look-aheads their least, and targets see the least of two random
    ones; with 1, all are the same."""

    critic_updates: int = 24
    """After each window."""

    critic_batch: int = 512
    critic_windows: int = 8
    """How many of the last windows critics are regressed over."""

    critic_lag: float | None = 0.1
    """How far slow critics follow the fast ones after each window; None: there are no slow ones."""

    head_start: int = 0
    """Windows in which critics (and the local model) learn and the actor does not, to begin from a
    policy that is good already: by critics that know nothing yet it would soon be spoiled."""

    look_aheads: int = 32
    """Updates of the actor after each window, from replayed states through the local model alone,
    which knows no ends of episodes; 0 for pure windows, or where most episodes terminate."""

    look_ahead_steps: int = 2
    look_ahead_batch: int = 512
    look_ahead_bfloat16: bool | None = None
    """Compute the local model in bfloat16 there; None: where the processor is fast at it, so that
    equal seeds may learn differently on another one."""

    experience: int = 60_000
    """Transitions that are kept, to look ahead from and to refresh the local model with."""

    logs: bool = True
    """Experience begins with logged steps, where the local model lends some: look-aheads then go
    everywhere from the start."""

    refreshes: int = 2
    """Updates of the local model after each window; 0 leaves it as it came."""

    refresh_batch: int = 512
    refresh_recent: int = 20_000
    """From how many of the last transitions."""

    entropy: bool = True
    """Maximum entropy (SAPO); False maximises rewards alone (SHAC)."""

    target_entropy: float = -1.0
    """H̄ / |A|: for each action number, the entropy that the temperature α steers to."""

    last_target_entropy: float = -2.0
    """… and where it falls to by `decay_samples`: precision wants less noise than search does."""

    first_temperature: float = 0.05
    temperature_rate: float = 5e-3
    log_std: tuple[float, float] = (-5.0, 1.0)
    """The least and the most of log σ, before tanh."""

    return_scale: float = 3.0
    """Rewards are scaled so that returns are of this order: by return_scale (1 − γ) / their
    standard deviation in the first window."""

    reward_scale: float | None = None
    """That factor itself, if it is known, or if rewards of the first window are all alike."""

    normalise: bool = True
    """Shift and scale observations by their running mean and deviation."""

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_numbers()
        for name in ("entropy", "normalise", "logs", "look_ahead_bfloat16"):
            value = getattr(self, name)
            if not isinstance(value, bool) and (name, value) != ("look_ahead_bfloat16", None):
                raise ValueError(f"{name} is {value!r}, expected True or False")

    def _check_counts(self) -> None:
        for name, (least, most) in COUNTS.items():
            value = getattr(self, name)
            if not _whole(value) or not least <= value <= most:
                upper = f", at most {most:,}" if most < ANY else ""
                raise ValueError(
                    f"{name} is {value!r}, expected a whole number, at least {least}{upper}"
                )
        for name in ("actor_hidden", "critic_hidden"):
            widths = getattr(self, name)
            if len(widths) > DEEPEST or not all(_whole(w) and 1 <= w <= WIDEST for w in widths):
                raise ValueError(
                    f"{name} is {widths}, expected widths of 1 to {WIDEST:,}, {DEEPEST} at most"
                )

    def _check_numbers(self) -> None:
        for name in ("gamma", "lam"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} is {value}, expected 0 to 1")
        if self.critic_lag is not None and not 0 < self.critic_lag <= 1:
            raise ValueError(
                f"critic_lag is {self.critic_lag}, expected more than 0, at most 1, or None"
            )
        positive = (
            "actor_rate", "critic_rate", "actor_clip", "critic_clip", "first_temperature",
            "temperature_rate", "return_scale", "reward_scale", "decay_samples",
        )  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value}, expected more than 0")
        for name in ("actor_betas", "critic_betas"):
            betas = getattr(self, name)
            if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
                raise ValueError(f"{name} is {betas}, expected two, each from 0 to below 1")
        if self.gamma == 1 and self.reward_scale is None:
            raise ValueError("gamma is 1, where returns have no order: give reward_scale")
        for name in ("target_entropy", "last_target_entropy"):
            if not -math.inf < (value := getattr(self, name)) < 0:
                raise ValueError(f"{name} is {value}, expected less than 0")
        if not 0 <= self.hold < 1:
            raise ValueError(f"hold is {self.hold}, expected at least 0 and less than 1")
        if len(self.log_std) != 2 or not -math.inf < self.log_std[0] < self.log_std[1] < math.inf:
            raise ValueError(f"log_std is {self.log_std}, expected (least, most), both finite")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# The nearest public settings of DMO-SAPO's author (Meta-World, learned reward). What still differs:
# * Rates fall only if `decay_samples` is given; his fall linearly.
# * 2 refreshes a window; his local model learns 128 times for 2,048 steps, after 10,000 updates
#   on 40,000 transitions that came first.
# * His 32 minibatches are 8 × 4 of a window of 128 environments; ours are drawn with replacement,
#   and how many environments there are is the caller's choice.
# * Value and gradient of his reward come from one head; here they are the environment's.
# * Ours, and not known of his: rewards scaled by the first window, critics that begin at its mean,
#   normalised observations, the first temperature, rates that fall to a tenth.
PURE = FoGConfig(
    actor_hidden=(400, 200, 100), critic_hidden=(400, 200), actor_rate=5e-4, critic_rate=5e-4,
    actor_betas=(0.7, 0.95), critic_betas=(0.7, 0.95), critics=10, critic_updates=32,
    critic_windows=1, critic_lag=None, critic_clip=1.0, look_aheads=0, target_entropy=-0.5,
    last_target_entropy=-0.5, hold=0.0, logs=False,
    log_std=(-5.0, 2.0),
)  # fmt: skip

PRESETS: dict[str, tuple[str, FoGConfig]] = {
    "default": ("Windows, replayed look-aheads, critics over recent windows.", FoGConfig()),
    "pure": (
        "Pure windows as DMO-SAPO's author sets them, but with fewer refreshes, and rates that "
        "fall only if decay_samples is given.",
        PURE,
    ),
    "shac": (
        "The same without entropy, in windows of 32, with one critic and its slow copy.",
        replace(PURE, entropy=False, window=32, critics=1, critic_lag=0.1),
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
    return asdict(config)


def from_json(values: dict[str, Any]) -> FoGConfig:
    """ValueError where a setting is unknown."""
    known = FoGConfig.__dataclass_fields__
    if unknown := sorted(set(values) - set(known)):
        raise ValueError(f"unknown settings {unknown} of FoG")
    pairs: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return FoGConfig(**pairs)

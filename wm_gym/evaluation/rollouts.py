"""Dreams under logged actions, from logged frames, and how far they are from what was logged.

Up to 50 steps a rollout begins anywhere in an episode; longer ones begin with a whole episode's
first frames. An episode of 151 frames has 147 after a context of 4, so that is the last step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, UInt8
from torch import Tensor

from wm_gym.data import Dataset, Windows
from wm_gym.evaluation.logged_frames import logged_prefill, reconstructed
from wm_gym.evaluation.pictures import ms_ssim, psnr, ssim
from wm_gym.evaluation.probes import Nudging, Probe, readings, told_errors
from wm_gym.models.colours import to_colour
from wm_gym.models.noise import shaped_noise
from wm_gym.models.protocol import Prefill, Transition
from wm_gym.models.world_model import WorldModel
from wm_gym.systems import System

SHORT, LONG = (1, 5, 15, 30, 50), (100,)
"""Steps that are recorded; after the long ones comes the last of an episode."""

AT_ONCE = 400
"""Frames in a batch, of the contexts of the rollouts in it."""

UNCERTAINTY, RESIDUAL = "uncertainty", "residual"
REAL, RECONSTRUCTION, STILL, MEAN = ".real", ".reconstruction", ".still", ".mean"
"""Behind a figure's name: the same of the real frame, of what the autoencoder makes of it, of the
last real frame before the dream, as if nothing moved, and of the mean frame of the data."""

AVERAGED = 500
"""Frames that the mean one is of, spread over the data."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Rollouts to be: rows of the dataset, of which the first `context` are shown to the model."""

    rows: Int[np.ndarray, "t b"]
    context: int
    steps: tuple[int, ...]

    def __len__(self) -> int:
        return int(self.rows.shape[1])

    def parts(self) -> Iterator["Plan"]:
        many = max(AT_ONCE // self.context, 1)
        for i in range(0, len(self), many):
            yield replace(self, rows=self.rows[:, i : i + many])

    def column(self, i: int) -> "Plan":
        """One of them; after the last comes the first again."""
        i %= len(self)
        return replace(self, rows=self.rows[:, i : i + 1])

    def cut(self, steps: int) -> "Plan":
        """No more than its first steps."""
        if steps >= self.steps[-1]:
            return self
        return replace(self, rows=self.rows[: self.context + steps], steps=(steps,))

    def at(self, step: int) -> Int[np.ndarray, "b"]:
        """Rows of the frames after this step; 0 is the last that the model is shown."""
        return np.asarray(self.rows[self.context - 1 + step])


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollouts:
    steps: tuple[int, ...]
    first_row: Int[np.ndarray, "b"]
    figures: dict[str, Float[np.ndarray, "s b"]]

    def at(self, i: int) -> "Rollouts":
        """Only the i-th of its steps."""
        return Rollouts(
            steps=self.steps[i : i + 1],
            first_row=self.first_row,
            figures={name: values[i : i + 1] for name, values in self.figures.items()},
        )

    @classmethod
    def joined(cls, parts: "list[Rollouts]") -> "Rollouts":
        names = parts[0].figures
        return cls(
            steps=parts[0].steps,
            first_row=np.concatenate([part.first_row for part in parts]),
            figures={
                name: np.concatenate([part.figures[name] for part in parts], axis=1)
                for name in names
            },
        )


def plans(
    dataset: Dataset, *, context: int, horizon: int, rollouts: int, seed: int
) -> tuple[Plan, ...]:
    """Short rollouts, and as many whole episodes as there are, up to the same number."""
    length, last = dataset.index["length"], horizon + 1 - context
    short = tuple(step for step in (*SHORT, last) if step <= min(SHORT[-1], length.max() - context))
    if not short:
        raise ValueError(
            f"{dataset.folder}: its longest episode has {length.max()} frames, expected more than "
            f"the {context} that a world model is shown before it dreams"
        )
    short = tuple(sorted(set(short)))
    windows = Windows(dataset, length=context + short[-1], batch_size=rollouts, seed=seed)
    found = [Plan(rows=windows.rows(0), context=context, steps=short)]
    whole = dataset.index["start"][length > horizon]
    if len(whole) and last > SHORT[-1]:
        chosen = np.random.default_rng(seed).permutation(whole)[:rollouts]
        steps = (*(step for step in LONG if step < last), last)
        rows = chosen + np.arange(horizon + 1)[:, None]
        found.append(Plan(rows=rows, context=context, steps=steps))
    return tuple(found)


def openings(dataset: Dataset, *, context: int, steps: int) -> Plan:
    """The first so many steps of every episode that is long enough, in order."""
    long = dataset.index["length"] >= context + steps
    start = dataset.index["start"][long]
    rows = start + np.arange(context + steps)[:, None]
    return Plan(rows=rows, context=context, steps=(steps,))


def shown_of(model: WorldModel, dataset: Dataset) -> int:
    """Real frames before a dream: as many as the model looks at, if episodes leave enough."""
    return min(model.spec.prefill, max(int(dataset.index["length"].max()) // 2, 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Dreamer:
    """A world model and how it is run."""

    model: WorldModel
    denoising_steps: int
    seed: int

    @torch.no_grad()
    def dream(
        self, dataset: Dataset, plan: Plan, taken: Float32[np.ndarray, "t b a"] | None = None
    ) -> Iterator[tuple[int, Transition]]:
        """Step 1, 2, ... to the plan's last, under the logged actions or others. The noise of a
        dream is a function of the seed and of its first row, whatever is dreamt beside it."""
        model, k = self.model, plan.context
        taken = dataset.action[plan.rows[k - 1 : -1]] if taken is None else taken
        action = torch.from_numpy(taken).to(model.device)
        state = model.begin(self.prefill(dataset, plan.rows[:k])).state
        key = torch.from_numpy(plan.rows[0].astype(np.int64) + (self.seed << 32)).to(model.device)
        for step in range(1, plan.steps[-1] + 1):
            noise = shaped_noise(key, torch.full_like(key, step - 1), model.spec.noise_shape)
            out = model.step(state, action[step - 1], noise, self.denoising_steps)
            state = out.state
            yield step, out

    def prefill(self, dataset: Dataset, rows: Int[np.ndarray, "k b"]) -> Prefill:
        return logged_prefill(self.model, dataset, rows)

    def frames(self, dataset: Dataset, rows: Int[np.ndarray, "*n"]) -> UInt8[Tensor, "*n h w c"]:
        frames = dataset.frames(rows.ravel()).reshape(*rows.shape, *dataset.spec.picture)
        return torch.from_numpy(frames).to(self.model.device)


def dream_rollouts(
    dreamer: Dreamer, probe: Probe | None, dataset: Dataset, plan: Plan
) -> Iterator[Rollouts]:
    """A part of the plan after the other."""
    mean = torch.from_numpy(mean_frame(dataset)).to(dreamer.model.device)
    for part in plan.parts():
        found: dict[int, dict[str, np.ndarray]] = {}
        for step, out in dreamer.dream(dataset, part):
            if step in part.steps:
                found[step] = _judged(dreamer, probe, dataset, part, step, out, mean)
        names = found[part.steps[0]]
        yield Rollouts(
            steps=part.steps,
            first_row=part.rows[0],
            figures={name: np.stack([found[step][name] for step in part.steps]) for name in names},
        )


def mean_frame(dataset: Dataset) -> UInt8[np.ndarray, "h w c"]:
    """What to show of this data if nothing is known: it has the least mean squared error."""
    length = dataset.index["length"]
    rows = np.repeat(dataset.index["start"] - np.cumsum(length) + length, length)
    rows += np.arange(len(rows))
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), AVERAGED)).astype(np.int64)]
    return np.round(dataset.frames(chosen).mean(0)).astype(np.uint8)


@torch.no_grad()
def _judged(
    dreamer: Dreamer,
    probe: Probe | None,
    dataset: Dataset,
    plan: Plan,
    step: int,
    out: Transition,
    mean: UInt8[Tensor, "h w c"],
) -> dict[str, np.ndarray]:
    model, rows, before = dreamer.model, plan.at(step), plan.at(0)
    real, last = dreamer.frames(dataset, rows), dreamer.frames(dataset, before)
    shown = {
        "": to_colour(model.decode(out.state).frames),
        RECONSTRUCTION: to_colour(reconstructed(model, dataset, rows).frames),
        STILL: last,
        MEAN: mean.expand_as(real),
    }
    said = out.outcome
    figures = {UNCERTAINTY: _numbers(said.uncertainty)}
    for of, frames in shown.items():
        figures |= {f"psnr{of}": _numbers(psnr(frames, real))}
        figures |= {f"ssim{of}": _numbers(ssim(frames, real))}
        figures |= {f"msssim{of}": _numbers(ms_ssim(frames, real))}
    if dataset.spec.has_reward:
        logged = dataset.reward[plan.at(step - 1)]  # of the transition into this frame
        figures["reward"] = np.abs(_numbers(said.reward) - logged)
    if (progress := dataset.progress) is not None:
        truth, was = progress[rows], progress[before]
        figures |= {"coverage": np.abs(_numbers(said.progress) - truth)}
        figures |= {f"coverage{STILL}": np.abs(was - truth)}
    if probe is not None and "state" in dataset.spec.facts:
        state = dataset.fact("state")
        read = {"": shown[""], RECONSTRUCTION: shown[RECONSTRUCTION], REAL: real}
        truth = real.cpu().numpy()
        for of, frames in read.items():
            figures |= _read(probe, frames.cpu().numpy(), state[rows], truth, of)
        still = told_errors(probe, state[before], state[rows], truth)
        figures |= {f"{name}{STILL}": error for name, error in still.items()}
    return figures


def _read(
    probe: Probe,
    frames: UInt8[np.ndarray, "b h w c"],
    state: Float[np.ndarray, "b s"],
    real: UInt8[np.ndarray, "b h w c"],
    of: str,
) -> dict[str, np.ndarray]:
    residual, errors = readings(probe, frames, state, real)
    return {f"{RESIDUAL}{of}": residual, **{f"{n}{of}": e for n, e in errors.items()}}


def _numbers(tensor: Float[Tensor, "b"]) -> Float[np.ndarray, "b"]:
    return tensor.double().cpu().numpy()


def floor_rollouts(
    system: System, probe: Nudging, dataset: Dataset, plan: Plan, *, seed: int
) -> Iterator[Rollouts]:
    """The real system against itself, from starts that a picture hardly tells apart.

    Contact forgives most nudges, as what is pushed falls into line, and magnifies a few: in
    Push-T's play the median falls below the nudge, and one rollout in twenty ends far off. No model
    that looks at pictures can be expected to do much better on those.
    """
    simulators = dict(system.simulators)
    env_id = dataset.spec.env_id if dataset.spec.env_id in simulators else None
    simulator, rng = system.make_simulator(env_id), np.random.default_rng(seed)
    states, action = dataset.fact("state"), dataset.action

    def run(start: Float[np.ndarray, "s"], taken: Float32[np.ndarray, "t a"]) -> np.ndarray:
        simulator.place(start)
        found = [start]
        for one in taken:
            simulator.advance(one)
            found.append(simulator.state())
        return np.stack(found)[list(plan.steps)]

    for part in plan.parts():
        starts = states[part.at(0)]
        taken = action[part.rows[part.context - 1 : -1]].swapaxes(0, 1)
        pairs = [
            np.stack([run(start, actions) for start, actions in zip(each, taken, strict=True)], 1)
            for each in (starts, probe.nudged(starts, rng))
        ]
        errors = [probe.errors(*both) for both in zip(*pairs, strict=True)]
        yield Rollouts(
            steps=part.steps,
            first_row=part.rows[0],
            figures={name: np.stack([error[name] for error in errors]) for name in errors[0]},
        )

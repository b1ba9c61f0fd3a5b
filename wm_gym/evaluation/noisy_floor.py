"""The real system beside itself under other noise: what no dream can beat, and what its samples
should spread like."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from wm_gym.evaluation.logged_frames import reconstructed
from wm_gym.evaluation.pictures import edge_energy, ms_ssim, psnr, ssim
from wm_gym.evaluation.probes import Probe, readings, told_errors
from wm_gym.evaluation.rollouts import Dreamer, Plan, Rollouts
from wm_gym.evaluation.statistics import Interval, ratio
from wm_gym.evaluation.takes import AT_ONCE, Takes
from wm_gym.models.colours import to_colour

STEPS = (1, 5, 15, 50, 100)

SHUFFLED, SPREAD, SHARPNESS = ".shuffled", "spread", "sharpness"
"""Behind a figure's name: of dreams under another take's actions. Alone: root mean square between
two samples over √2, in colour values; and edges, beside those of the reconstruction."""


def steps_of(takes: Takes) -> tuple[int, ...]:
    steps = tuple(step for step in STEPS if step <= takes.steps.min())
    if not steps:
        raise ValueError(f"{takes.dataset.folder} has takes without a step to dream")
    return steps


def check_cases(takes: Takes) -> None:
    """That there is another case's action for each."""
    if (many := len(takes.pairs()[0])) < 2:
        raise ValueError(
            f"{takes.dataset.folder} has {many} cases of two takes, expected two or more: what is "
            "dreamt under right actions is compared with another case's"
        )


def floor_plan(takes: Takes) -> Plan:
    """Of the first takes of all cases."""
    first, _ = takes.pairs()
    return takes.plan(first, steps_of(takes))


def floor_of(takes: Takes, probe: Probe | None) -> Rollouts:
    """Second takes against first ones."""
    first, second = takes.pairs()
    steps, state = steps_of(takes), takes.dataset.fact("state")
    rows = {name: takes.first[which] + takes.context - 1 for name, which in
            {"a": first, "b": second}.items()}  # fmt: skip
    found = []
    for step in steps:
        a, b = rows["a"] + step, rows["b"] + step
        real, other = takes.frames(a), takes.frames(b)
        shown = torch.from_numpy(other), torch.from_numpy(real)
        figures = {n: f(*shown).double().numpy() for n, f in _ALIKE.items()}
        figures[SPREAD] = _apart(other, real)
        if probe is not None:
            figures |= told_errors(probe, state[b], state[a], real)
        found.append(figures)
    return _stacked(steps, rows["a"], found)


_ALIKE = {"psnr": psnr, "ssim": ssim, "msssim": ms_ssim}


@torch.no_grad()
def sampled(
    dreamer: Dreamer, probe: Probe | None, takes: Takes, *, others: int = 1
) -> Iterator[Rollouts]:
    """Two dreams of each case, by other noise: how sharp the first is, how far it is off, and how
    far they are apart. A part of the cases after the other."""
    whole, state = floor_plan(takes), takes.dataset.fact("state")
    again = replace(dreamer, seed=dreamer.seed + others)
    for plan in _parts(whole):
        found = []
        pair = zip(*(each.dream(takes.dataset, plan) for each in (dreamer, again)), strict=True)
        for (step, out), (_, other) in pair:
            if step not in plan.steps:
                continue
            rows = plan.at(step)
            real, truth = takes.frames(rows), state[rows]
            one, two = (to_colour(dreamer.model.decode(o.state).frames) for o in (out, other))
            seen = to_colour(reconstructed(dreamer.model, takes.dataset, rows).frames)
            shown = torch.from_numpy(real).to(one.device)
            figures = {n: _numbers(f(one, shown)) for n, f in _ALIKE.items()}
            figures[SHARPNESS] = _numbers(edge_energy(one) / edge_energy(seen).clamp(min=1e-6))
            figures[SPREAD] = _apart(one.cpu().numpy(), two.cpu().numpy())
            if probe is not None:
                figures |= readings(probe, one.cpu().numpy(), truth, real)[1]
                figures |= _spread_of_errors(probe, one, two, truth, real)
            found.append(figures)
        yield _stacked(plan.steps, plan.rows[0], found)


def _spread_of_errors(
    probe: Probe,
    one: UInt8[Tensor, "b h w c"],
    two: UInt8[Tensor, "b h w c"],
    truth: Float[np.ndarray, "b s"],
    real: UInt8[np.ndarray, "b h w c"],
) -> dict[str, np.ndarray]:
    """How far apart two dreams are, in the probe's units; where the real frame shows it."""
    first, second = (probe.read_state(each.cpu().numpy()).state for each in (one, two))
    found = told_errors(probe, first, second, real)
    return {f"{name}.{SPREAD}": each for name, each in found.items()}


@torch.no_grad()
def shuffled(dreamer: Dreamer, probe: Probe | None, takes: Takes) -> Iterator[Rollouts]:
    """Under the actions of the next case: how far off by right and by wrong ones."""
    whole, data = floor_plan(takes), takes.dataset
    check_cases(takes)
    wrong = np.roll(data.action[whole.rows[whole.context - 1 : -1]], 1, axis=1)
    state, done = data.fact("state"), 0
    for plan in _parts(whole):
        given = wrong[:, done : done + len(plan)]
        done += len(plan)
        found = []
        ways = dreamer.dream(data, plan), dreamer.dream(data, plan, given)
        for (step, right), (_, astray) in zip(*ways, strict=True):
            if step not in plan.steps:
                continue
            rows, figures = plan.at(step), {}
            real = takes.frames(rows)
            for of, out in {"": right, SHUFFLED: astray}.items():
                shown = to_colour(dreamer.model.decode(out.state).frames).cpu().numpy()
                figures[f"picture{of}"] = _apart(shown, real)
                if probe is not None:
                    errors = readings(probe, shown, state[rows], real)[1]
                    figures |= {f"{name}{of}": each for name, each in errors.items()}
            found.append(figures)
        yield _stacked(plan.steps, plan.rows[0], found)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Of medians, with an interval over rollouts; None where one is 0, or nobody can tell."""

    by_step: dict[int, Interval | None]


def shuffle_ratios(found: Rollouts, *, seed: int) -> dict[str, Ratio]:
    """Error under wrong actions over that under right ones."""
    names = [name for name in found.figures if not name.endswith(SHUFFLED)]
    return {
        name: Ratio(
            by_step={
                step: ratio(wrong, right, seed=seed)
                for step, right, wrong in zip(
                    found.steps, found.figures[name], found.figures[name + SHUFFLED], strict=True
                )
            }
        )
        for name in names
    }


def _parts(plan: Plan) -> Iterator[Plan]:
    for i in range(0, len(plan), AT_ONCE):
        yield replace(plan, rows=plan.rows[:, i : i + AT_ONCE])


def _stacked(
    steps: Sequence[int], first_row: np.ndarray, found: Sequence[dict[str, np.ndarray]]
) -> Rollouts:
    figures = {name: np.stack([each[name] for each in found]) for name in found[0]}
    return Rollouts(steps=tuple(steps), first_row=first_row, figures=figures)


def _apart(
    one: UInt8[np.ndarray, "b h w c"], other: UInt8[np.ndarray, "b h w c"]
) -> Float[np.ndarray, "b"]:
    """Two samples estimate their deviation by √(½ mean square of the difference)."""
    square = np.square(one.astype(np.float64) - other).mean((1, 2, 3))
    return np.asarray(np.sqrt(square / 2))


def _numbers(tensor: Float[Tensor, "b"]) -> Float[np.ndarray, "b"]:
    return tensor.double().cpu().numpy()

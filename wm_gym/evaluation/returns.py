"""Look away and return: is what was out of sight still there, and where?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wm_gym.evaluation.logged_frames import reconstructed
from wm_gym.evaluation.probes import Probe, readings, told_errors
from wm_gym.evaluation.rollouts import Dreamer
from wm_gym.evaluation.statistics import Interval, Spread, share, spread, told_spread
from wm_gym.evaluation.takes import Takes
from wm_gym.models.colours import to_colour


@dataclass(frozen=True, kw_only=True, eq=False)
class Ended:
    """Takes at their last frames; where the real one does not show it, all are NaN."""

    which: np.ndarray
    present: Float[np.ndarray, "b"]
    off: Float[np.ndarray, "b"]
    off_real: Float[np.ndarray, "b"]
    """As the probe reads the real frame."""

    off_reconstruction: Float[np.ndarray, "b"]
    off_still: Float[np.ndarray, "b"]
    """Of the last real frame before the dream, as if nothing moved."""

    @classmethod
    def joined(cls, parts: "list[Ended]") -> "Ended":
        names = cls.__dataclass_fields__
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


@dataclass(frozen=True, kw_only=True)
class Return:
    """Of takes of a kind, or of several."""

    count: int
    absent: float | None
    """Median of the seconds for which it was out of sight."""

    present: Interval
    """Share in which it is there."""

    off: Spread
    """Of all, whether it is there or not."""

    off_present: Spread | None
    """Where it is there."""

    within: Interval
    """Share in which it is there and not further off than is wrong."""

    off_real: Spread
    off_reconstruction: Spread
    off_still: Spread


def ended_takes(dreamer: Dreamer, probe: Probe, takes: Takes) -> Iterator[Ended]:
    """The dreams' last frames, beside the real ones; a part of the takes after the other."""
    dataset, state = takes.dataset, takes.dataset.fact("state")
    name, _ = probe.WRONG
    for which in takes.parts():
        plan, found = takes.plan(which), list[Ended]()
        for step, out in dreamer.dream(dataset, plan):
            at = np.flatnonzero(takes.ending(which, step))
            if not len(at):
                continue
            frames = to_colour(dreamer.model.decode(out.state).frames).cpu().numpy()[at]
            here = which[at]
            last, before = takes.last[here], takes.first[here] + takes.context - 1
            real, truth = takes.frames(last), state[last]
            again = to_colour(reconstructed(dreamer.model, dataset, last).frames).cpu().numpy()
            missing, errors = readings(probe, frames, truth, real)
            shown, _ = readings(probe, real, truth, real)
            found.append(
                Ended(
                    which=here,
                    present=np.where(np.isnan(shown), np.nan, missing < probe.WHOLE),
                    off=errors[name],
                    off_real=readings(probe, real, truth, real)[1][name],
                    off_reconstruction=readings(probe, again, truth, real)[1][name],
                    off_still=told_errors(probe, state[before], truth, real)[name],
                )
            )
        yield Ended.joined(found)


def returns(
    ended: Ended, takes: Takes, probe: Probe, groups: Mapping[str, tuple[str, ...]], *, seed: int
) -> dict[str, Return]:
    """By group of kinds, then by kind."""
    kinds = dict.fromkeys(takes.kind.tolist())
    named = {**groups, **{kind: (kind,) for kind in kinds}}
    found = {}
    for name, members in named.items():
        chosen = np.isin(takes.kind[ended.which], members)
        if (one := _return(ended, chosen, takes, probe.WRONG[1], seed)) is not None:
            found[name] = one
    return found


def _return(
    ended: Ended, chosen: Bool[np.ndarray, "b"], takes: Takes, most: float, seed: int
) -> Return | None:
    chosen = chosen & ~np.isnan(ended.present) & ~np.isnan(ended.off)
    if not chosen.any():
        return None
    present, off = ended.present[chosen] > 0, ended.off[chosen]
    spreads = {
        name: spread(getattr(ended, name)[chosen], seed=seed)
        for name in ("off", "off_real", "off_reconstruction", "off_still")
    }
    absent = None
    if "absent" in takes.dataset.spec.facts:
        absent = (
            float(np.median(takes.told("absent")[ended.which[chosen]])) / takes.dataset.spec.fps
        )
    return Return(
        count=int(chosen.sum()),
        absent=absent,
        present=share(present, seed=seed),
        off_present=told_spread(off[present], seed=seed),
        within=share(present & (off <= most), seed=seed),
        **spreads,
    )

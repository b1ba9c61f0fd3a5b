"""The gradient card: how the hook's gradients agree with those that they stand for."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from wm_gym.evaluation.gradients import HORIZONS, Gradients
from wm_gym.evaluation.statistics import Average, Interval, average

SURROGATE, DIFFUSION = "surrogate", "diffusion"
REAL, DREAM, READ = "real", "dream", "dream, read linearly"
"""Central differences: of the real system; of the dream, poses read off its painted frames; and
the same dreams, poses read off the filter's features."""

AIM_DELTA = 0.1
"""What aims are about."""

What = str | int
"""Of what a gradient is: a quantity after one step, or the return over so many."""

LEAST = 1e-4
"""No floor is below this: smaller slopes, in px, metres or rewards, drown in float32's rounding."""

POSE = "pose"
"""The quantity of a system that has but one."""

_POSE_AIMS = {DREAM: 0.9, REAL: 0.8}
_RETURN_AIM = 8, 0.6


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Gradients of the same states from all sources."""

    contact: Bool[np.ndarray, "b"]
    """Whether the tool touches the block in the first step, in the real system."""

    quantities: Mapping[str, slice]
    """Of the next step, each compared by itself: which of the pose's numbers they are."""

    surrogate: Mapping[int, Gradients]
    """By number of refreshes."""

    diffusion: Gradients
    differences: Mapping[str, Mapping[float, Gradients]]
    """Of each system, by δ."""

    repeated: Mapping[str, Mapping[float, tuple[Gradients, Gradients]]]
    """Some of them, and those again: with other noise in the dream, and in the real system too, or
    from starts that a picture hardly tells apart."""

    repeated_contact: Bool[np.ndarray, "n"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    ours: str
    reference: str
    horizon: int | None
    """Steps of the return; None for something after one step."""

    quantity: str | None
    """What it is, then."""

    delta: float | None
    """None where the reference is no difference."""

    contact: bool
    refreshes: int | None
    """Of the surrogate, if it is compared."""

    count: int
    excluded: int
    """Where the reference is not above the floor, or cannot be told."""

    floor: float
    """Norm: the median, over states with or without contact, of what repeats differ by."""

    reference_norm: float
    """The median, of those that count."""

    cosine: Average | None
    sign_agreement: Average | None
    """The share of components that the reference has, and that have the same sign."""

    relative_norm: Average | None
    """Ours by the reference's. All three: None where fewer than two count."""


@dataclass(frozen=True, kw_only=True)
class Floor:
    """How a system's differences agree with themselves: nobody's can agree better with them.

    Of two estimates that agree with cosine c, a gradient that is right agrees with either by
    about √c, and with their mean by √(2c / (1 + c))."""

    system: str
    horizon: int | None
    quantity: str | None
    delta: float
    contact: bool
    count: int
    """States that comparisons are of: where the difference is above what repeats differ by."""

    excluded: int
    cosine: Average | None
    every: Average | None
    """Of all states that can be told, whether they count or not."""


@dataclass(frozen=True, kw_only=True)
class Aim:
    name: str
    wanted: str
    refreshes: int
    found: Interval | None
    """A median over states, None where too few count."""

    met: bool


def compare(measured: Measured, *, seed: int) -> list[Comparison]:
    """All pairs, horizons, δ; in contact and out of it; by number of refreshes."""
    return [
        _comparison(measured, ours, refreshes, reference, what, delta, contact, seed)
        for ours, refreshes in _sources(measured)
        for reference, delta in _references(measured, ours)
        for what in _every(measured)
        for contact in (True, False)
        if isinstance(what, str) or READ not in (ours, reference)
    ]


def _every(measured: Measured) -> list[What]:
    return [*measured.quantities, *HORIZONS]


def floors(measured: Measured, *, seed: int) -> list[Floor]:
    return [
        _own_floor(measured, system, what, delta, contact, seed)
        for system in (REAL, DREAM)
        for delta in measured.repeated[system]
        for what in _every(measured)
        for contact in (True, False)
    ]


def _own_floor(
    measured: Measured, system: str, what: What, delta: float, contact: bool, seed: int
) -> Floor:
    once, again = (_of(measured, each, what) for each in measured.repeated[system][delta])
    mean = np.linalg.norm((once + again) / 2, axis=1)
    known = np.isfinite(mean) & (measured.repeated_contact == contact)
    with np.errstate(invalid="ignore"):
        kept = known & (mean > _floor(measured, system, what, delta, contact))
    cosine, every = (
        average(_cosine(once[here], again[here]), seed=seed) if here.sum() > 1 else None
        for here in (kept, known)
    )
    return Floor(
        system=system,
        horizon=what if isinstance(what, int) else None,
        quantity=what if isinstance(what, str) else None,
        delta=delta,
        contact=contact,
        count=int(kept.sum()),
        excluded=int((measured.repeated_contact == contact).sum() - kept.sum()),
        cosine=cosine,
        every=every,
    )


def cosines(
    measured: Measured, ours: str, reference: str, *, delta: float | None, refreshes: int,
    what: What, contact: bool,
) -> Float[np.ndarray, "n"]:  # fmt: skip
    """Of the states that count."""
    a, b, kept = _pair(measured, ours, refreshes, reference, what, delta, contact)
    return _cosine(a[kept], b[kept])


def aims(measured: Measured, comparisons: Sequence[Comparison], *, seed: int) -> list[Aim]:
    """Of the issue: in contact, at δ = 0.1, of medians. None without that δ."""
    if AIM_DELTA not in measured.differences[REAL]:
        return []
    found = []
    for refreshes in measured.surrogate:
        lines = {
            (line.reference, line.horizon or line.quantity): line.cosine
            for line in comparisons
            if (line.ours, line.refreshes, line.delta) == (SURROGATE, refreshes, AIM_DELTA)
            and line.contact
        }
        for reference, least in _POSE_AIMS.items():
            cosine = lines[reference, POSE]
            found.append(_aim(f"pose, cosine to the {reference}'s", least, refreshes, cosine))
        horizon, least = _RETURN_AIM
        for reference in (DREAM, REAL):
            name = f"return over {horizon}, cosine to the {reference}'s"
            found.append(_aim(name, least, refreshes, lines[reference, horizon]))
        for reference in (DREAM, REAL):
            for what in (POSE, *HORIZONS):
                found.append(_no_worse(measured, reference, what, refreshes, seed))
    return found


def _aim(name: str, least: float, refreshes: int, cosine: Average | None) -> Aim:
    met = cosine is not None and cosine.median.value >= least
    found = None if cosine is None else cosine.median
    return Aim(name=name, wanted=f"≥ {least}", refreshes=refreshes, found=found, met=met)


def _no_worse(measured: Measured, reference: str, what: What, refreshes: int, seed: int) -> Aim:
    """The median of differences state by state; a hundredth does not count."""
    ours, theirs = (
        cosines(
            measured, source, reference, delta=AIM_DELTA, refreshes=refreshes, what=what,
            contact=True,
        )
        for source in (SURROGATE, DIFFUSION)
    )  # fmt: skip
    said = what if isinstance(what, str) else f"return over {what}"
    better = average(ours - theirs, seed=seed).median if len(ours) > 1 else None
    return Aim(
        name=f"{said}, cosine to the {reference}'s less that of diffusion",
        wanted="≥ −0.01",
        refreshes=refreshes,
        found=better,
        met=better is not None and better.value >= -0.01,
    )


def _sources(measured: Measured) -> Iterator[tuple[str, int | None]]:
    for refreshes in measured.surrogate:
        yield SURROGATE, refreshes
    yield DIFFUSION, None
    yield DREAM, None  # as far as a gradient of the dream can be right
    yield READ, None  # and as far as a linear reading shows it


def _references(measured: Measured, ours: str) -> Iterator[tuple[str, float | None]]:
    others = {DREAM: [REAL], READ: [REAL, DREAM]}
    for reference in others.get(ours, [REAL, DREAM, READ]):
        for delta in measured.differences[reference]:
            yield reference, delta
    if ours == SURROGATE:
        yield DIFFUSION, None


def _comparison(
    measured: Measured,
    ours: str,
    refreshes: int | None,
    reference: str,
    what: What,
    delta: float | None,
    contact: bool,
    seed: int,
) -> Comparison:
    a, b, kept = _pair(measured, ours, refreshes, reference, what, delta, contact)
    group = measured.contact == contact
    a, b, enough = a[kept], b[kept], kept.sum() > 1
    size = np.linalg.norm(b, axis=1)
    has = b != 0
    same = ((np.sign(a) == np.sign(b)) & has).sum(1) / np.maximum(has.sum(1), 1)
    return Comparison(
        ours=ours,
        reference=reference,
        horizon=what if isinstance(what, int) else None,
        quantity=what if isinstance(what, str) else None,
        delta=delta,
        contact=contact,
        refreshes=refreshes,
        count=int(kept.sum()),
        excluded=int(group.sum() - kept.sum()),
        floor=_floor(measured, reference, what, delta, contact),
        reference_norm=float(np.median(size)) if enough else 0.0,
        cosine=average(_cosine(a, b), seed=seed) if enough else None,
        sign_agreement=average(same, seed=seed) if enough else None,
        relative_norm=average(np.linalg.norm(a, axis=1) / size, seed=seed) if enough else None,
    )


def _pair(
    measured: Measured,
    ours: str,
    refreshes: int | None,
    reference: str,
    what: What,
    delta: float | None,
    contact: bool,
) -> tuple[Float[np.ndarray, "b n"], Float[np.ndarray, "b n"], Bool[np.ndarray, "b"]]:
    """Vectors of one source and of another, and which of them count: as the reference says."""
    b = _vectors(measured, reference, refreshes, what, delta)
    a = _vectors(measured, ours, refreshes, what, delta)
    with np.errstate(invalid="ignore"):
        above = np.linalg.norm(b, axis=1) > _floor(measured, reference, what, delta, contact)
    known = np.isfinite(a).all(1) & np.isfinite(b).all(1)
    return a, b, above & known & (measured.contact == contact)


def _vectors(
    measured: Measured, source: str, refreshes: int | None, what: What, delta: float | None
) -> Float[np.ndarray, "b n"]:
    if source == SURROGATE:
        assert refreshes is not None
        return _of(measured, measured.surrogate[refreshes], what)
    if source == DIFFUSION:
        return _of(measured, measured.diffusion, what)
    assert delta is not None
    return _of(measured, measured.differences[source][delta], what)


def _of(measured: Measured, gradients: Gradients, what: What) -> Float[np.ndarray, "b n"]:
    if isinstance(what, str):
        return gradients.of(None, measured.quantities[what])
    return gradients.of(what)


def _floor(
    measured: Measured, reference: str, what: What, delta: float | None, contact: bool
) -> float:
    """Of what back-propagation gives: that of the dream's differences, at the middle δ."""
    if reference == DIFFUSION:
        deltas = sorted(measured.repeated[DREAM])
        reference, delta = DREAM, deltas[len(deltas) // 2]
    assert delta is not None
    once, again = measured.repeated[reference][delta]
    off = np.linalg.norm(_of(measured, once, what) - _of(measured, again, what), axis=1)
    off = off[(measured.repeated_contact == contact) & np.isfinite(off)]
    return max(float(np.median(off)), LEAST) if len(off) else LEAST


def _cosine(a: Float[np.ndarray, "b n"], b: Float[np.ndarray, "b n"]) -> Float[np.ndarray, "b"]:
    """0 where one of them is."""
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(sizes, np.finfo(float).tiny))

"""What was measured, in words, whoever leads."""

import math
from dataclasses import dataclass

from headline.arrivals import Bounds, times_fewer
from headline.records import GYM, REAL
from headline.table import THRESHOLDS, Comparison, Row, count, duration, with_interval

_ALIKE, _ALIKE_TIME = 1.1, 1.5
"""Samples and times closer than this are not told apart, whatever intervals say: exams are too far
apart, and machines too uneven, for more."""


def headline(comparison: Comparison, one: str = "FoG", other: str = "PPO") -> str:
    """For a title: of the highest coverage that tells them apart, or else that anybody reached."""
    missing = [name for name in (one, other) if name not in comparison.rows]
    if missing:
        return f"No run of {' or '.join(missing)} to compare"
    pair = comparison.rows[one], comparison.rows[other]
    arrived = [t for t in reversed(THRESHOLDS) if any(_arrived(row, t) for row in pair)]
    told = [t for t in arrived if not _compared(*_by_samples(*pair, t), threshold=t).open]
    for threshold in [*told, *arrived][:1]:
        return f"{_in_short(*pair, threshold)} ({_seeds(*pair)})"
    got = " and ".join(f"{row.agent} got to {row.peak:.2f}" for row in pair)
    return f"Neither reached coverage {THRESHOLDS[0]}: {got} ({_seeds(*pair)})"


def verdict(comparison: Comparison, one: str = "FoG", other: str = "PPO") -> str:
    """A paragraph about two agents: what coverage cost them, and how far they are in the end."""
    missing = [name for name in (one, other) if name not in comparison.rows]
    if missing:
        return f"No run of {' or '.join(missing)} to compare."
    pair = comparison.rows[one], comparison.rows[other]
    arrivals = {threshold: _arrival(*pair, threshold) for threshold in THRESHOLDS}
    sentences = [said for said in arrivals.values() if said is not None]
    unreached = [str(threshold) for threshold, said in arrivals.items() if said is None]
    if unreached:
        got = " and ".join(f"{r.agent} got to {r.peak:.2f} in {count(r.samples)}" for r in pair)
        *first, last = unreached
        missed = f"{', '.join(first)} or {last}" if first else last
        sentences.append(f"Neither reached coverage {missed}: {got} samples.")
    sentences += [_outlook(row) for row in pair if not _arrived(row, THRESHOLDS[-1])]
    both = [each for each in (REAL, GYM) if all(each in row.judged for row in pair)]
    sentences += [_in_the_end(env_id, *pair) for env_id in both]
    return " ".join([*sentences, _reach(*pair)])


def _arrival(one: Row, other: Row, threshold: float) -> str | None:
    """None where neither arrived."""
    lead, behind = _by_samples(one, other, threshold)
    first, second = lead.reached[threshold], behind.reached[threshold]
    if first.samples is None or first.seconds is None:
        return None
    found = _compared(lead, behind, threshold)
    said = (
        f"{lead.agent} reached coverage {threshold} with {count(first.samples)} samples "
        f"in {duration(first.seconds)}, {behind.agent} "
    )
    if second.samples is None or second.seconds is None:
        return f"{said}not within {count(second.spent)}: {_fewer(found)}."
    return (
        f"{said}with {count(second.samples)} in {duration(second.seconds)}: "
        f"{_fewer(found)}, {_time(first.seconds, second.seconds)}."
    )


def _in_short(one: Row, other: Row, threshold: float) -> str:
    lead, behind = _by_samples(one, other, threshold)
    found = _compared(lead, behind, threshold)
    if found.alone:
        spent = count(behind.reached[threshold].spent)
        said = (
            f"{lead.agent} reached coverage {threshold}, {behind.agent} did not in {spent} samples"
        )
        return f"{said}; who needs fewer is open" if found.open else f"{said}: {found.times} fewer"
    if found.alike or found.open:
        said = f"{one.agent} and {other.agent} reached coverage {threshold}"
        alike = " with about as many samples"
        return said + (alike if found.alike else "; who needs fewer samples is open")
    said = f"{lead.agent} reached coverage {threshold}"
    return f"{said} with {found.times} fewer samples than {behind.agent}"


def _by_samples(one: Row, other: Row, threshold: float) -> tuple[Row, Row]:
    """Who arrived sooner, then the other."""
    first, second = (row.reached[threshold].samples or math.inf for row in (one, other))
    return (one, other) if first <= second else (other, one)


def _arrived(row: Row, threshold: float) -> bool:
    return row.reached[threshold].samples is not None


@dataclass(frozen=True, kw_only=True)
class _Compared:
    """Samples to a threshold: how many times fewer whoever leads needed."""

    k: float
    """At least, where the other one never arrived."""

    bounds: Bounds
    alone: bool
    """Whether the other one never arrived."""

    @property
    def alike(self) -> bool:
        return self.k < _ALIKE and not self.alone

    @property
    def open(self) -> bool:
        return self.bounds.open or self.k < _ALIKE

    @property
    def times(self) -> str:
        return f"> {_floor(self.k)} ×" if self.alone else f"{self.k:.1f} ×"

    @property
    def interval(self) -> str:
        if math.isinf(self.bounds.high):
            return f"95 %: > {_floor(self.bounds.low)}"
        return f"95 %: {self.bounds.low:.2f} to {self.bounds.high:.2f}"


def _compared(lead: Row, behind: Row, threshold: float) -> _Compared:
    first, second = lead.reached[threshold], behind.reached[threshold]
    assert first.samples is not None, "one of them arrived"
    return _Compared(
        k=(second.spent if second.samples is None else second.samples) / first.samples,
        bounds=times_fewer(lead.runs, behind.runs, threshold),
        alone=second.samples is None,
    )


def _fewer(found: _Compared) -> str:
    if found.alike:
        return f"about as many samples ({found.interval})"
    if found.open:
        return f"who needs fewer is open ({found.times}, {found.interval})"
    return f"{found.times} fewer samples ({found.interval})"


def _floor(k: float) -> str:
    """What more than this is said of is never less."""
    return f"{math.floor(10 * k) / 10:.1f}"


def _time(first: float, second: float) -> str:
    if first >= _ALIKE_TIME * second:
        return f"but {first / second:.1f} × the time"
    return (
        f"{second / first:.1f} × less time"
        if second >= _ALIKE_TIME * first
        else "about as much time"
    )


def _outlook(row: Row) -> str:
    if (rise := row.rise) is None:
        return f"{row.agent} had too few exams to say whether it was still getting better."
    how = "showed no rise that these exams can tell"
    if rise.low > 0 or rise.high < 0:
        how = "was still rising" if rise.low > 0 else "was falling"
    return (
        f"When it ended, {row.agent}'s curve {how} "
        f"({rise.value:+.2f}, {rise.low:.2f} to {rise.high:.2f})."
    )


def _in_the_end(env_id: str, one: Row, other: Row) -> str:
    a, b = one.judged[env_id].best, other.judged[env_id].best
    ahead = one if a.low > b.high else other if b.low > a.high else None
    led = "no difference that the intervals would tell apart"
    return (
        f"Judged on {env_id}, best coverage (IQM) was {with_interval(a)} for {one.agent} and "
        f"{with_interval(b)} for {other.agent}: {led if ahead is None else ahead.agent + ' led'}."
    )


def _seeds(one: Row, other: Row) -> str:
    if one.seeds == other.seeds:
        return f"{_number(one)} each"
    return f"{one.agent} {_number(one)}, {other.agent} {_number(other)}"


def _number(row: Row) -> str:
    return "one seed" if row.seeds == 1 else f"{row.seeds} seeds"


def _reach(one: Row, other: Row) -> str:
    """What all of this does not say."""
    said = _seeds(one, other)
    said = said[0].upper() + said[1:]
    if one.seeds == other.seeds == 1:
        return f"{said}: intervals cover other starts, not another training."
    if min(one.seeds, other.seeds) == 1:
        return f"{said}: of one seed, intervals cover other starts, not another training."
    return f"{said}; samples to a coverage are the middle seed's."

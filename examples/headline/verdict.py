"""What was measured, in words, whoever leads."""

import math

from headline.table import (
    GYM,
    REAL,
    THRESHOLDS,
    Comparison,
    Row,
    count,
    duration,
    with_interval,
)
from wm_gym.evaluation.judge import Ratio, ratio_bound

_ALIKE = 1.1
"""Prices closer than this are not told apart: exams are too far apart for more."""


def headline(comparison: Comparison, one: str = "FoG", other: str = "PPO") -> str:
    """The verdict's first line, for a title."""
    missing = [name for name in (one, other) if name not in comparison.rows]
    if missing:
        return f"No run of {' or '.join(missing)} to compare"
    pair = comparison.rows[one], comparison.rows[other]
    for threshold in reversed(THRESHOLDS):
        if (said := _in_short(*pair, threshold)) is not None:
            return f"{said} ({_seeds(*pair)})"
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
    said = (
        f"{lead.agent} reached coverage {threshold} with {count(first.samples)} samples "
        f"in {duration(first.seconds)}, {behind.agent} "
    )
    if second.samples is None or second.seconds is None:
        bound = _bound(lead, behind, threshold)
        fewer = "who needs fewer is open" if bound is None else f"> {bound} × fewer samples"
        return f"{said}not within {count(second.spent)}: {fewer}."
    fewer = _times(_ratio(lead, behind, threshold).k, "fewer samples", "about as many samples")
    return (
        f"{said}with {count(second.samples)} in {duration(second.seconds)}: "
        f"{fewer}, {_time(first.seconds, second.seconds)}."
    )


def _in_short(one: Row, other: Row, threshold: float) -> str | None:
    lead, behind = _by_samples(one, other, threshold)
    if not _arrived(lead, threshold):
        return None
    said = f"{lead.agent} reached coverage {threshold}"
    if not _arrived(behind, threshold):
        bound = _bound(lead, behind, threshold)
        missed = (
            f"{said}, {behind.agent} did not in {count(behind.reached[threshold].spent)} samples"
        )
        return missed if bound is None else f"{missed}: > {bound} × fewer"
    ratio = _ratio(lead, behind, threshold)
    if ratio.k < _ALIKE:
        return (
            f"{one.agent} and {other.agent} reached coverage {threshold} with about as many samples"
        )
    return f"{said} with {ratio.k:.1f} × fewer samples than {behind.agent}"


def _by_samples(one: Row, other: Row, threshold: float) -> list[Row]:
    """Who arrived sooner, then the other."""
    return sorted((one, other), key=lambda row: row.reached[threshold].samples or math.inf)


def _arrived(row: Row, threshold: float) -> bool:
    return row.reached[threshold].samples is not None


def _ratio(lead: Row, behind: Row, threshold: float) -> Ratio:
    first, second = lead.reached[threshold], behind.reached[threshold]
    ratio = ratio_bound(first.samples, second.samples, spent=first.spent, other_spent=second.spent)
    assert ratio is not None, "one of them arrived"
    return ratio


def _bound(lead: Row, behind: Row, threshold: float) -> str | None:
    """Rounded down; None where the other one tried for less than the first one took."""
    k = _ratio(lead, behind, threshold).k
    return None if k < _ALIKE else f"{math.floor(10 * k) / 10:.1f}"


def _times(k: float, more: str, alike: str) -> str:
    return alike if k < _ALIKE else f"{k:.1f} × {more}"


def _time(first: float, second: float) -> str:
    if first >= _ALIKE * second:
        return f"but {first / second:.1f} × the time"
    return _times(second / first, "less time", "about as much time")


def _outlook(row: Row) -> str:
    if row.rising is None:
        return f"{row.agent} had too few exams to say whether it was still getting better."
    how = "was still rising" if row.rising else "showed no more rise"
    return f"When it ended, {row.agent}'s curve {how}."


def _in_the_end(env_id: str, one: Row, other: Row) -> str:
    a, b = one.judged[env_id].best, other.judged[env_id].best
    ahead = one if a.low > b.high else other if b.low > a.high else None
    led = "no difference that the intervals would tell apart"
    return (
        f"Judged on {env_id}, best coverage was {with_interval(a)} for {one.agent} and "
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

"""How far a long job has come: a bar in a terminal; elsewhere, as in a file that keeps what a
program says, a plain line every half minute."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, Self, TypeVar

from tqdm import tqdm

EVERY = 30.0
"""Seconds from one line to the next."""

clock = time.monotonic

T = TypeVar("T")


def each(
    iterable: Iterable[T], desc: str = "", total: int | None = None, *, unit: str = "it"
) -> Iterator[T]:
    """Its items, and how many of them have been worked on."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Bar(desc=desc, total=total, unit=unit) as bar:
        for item in iterable:
            yield item
            bar.update()


class Bar:
    """What `update` and `reach` are told; used as tqdm's bars are."""

    def __init__(
        self,
        desc: str = "",
        total: int | None = None,
        *,
        unit: str = "it",
        unit_scale: bool = False,
        initial: int = 0,
        hidden: bool = False,
    ) -> None:
        """With `hidden` there is nothing to see anywhere."""
        self.n = initial
        self._bar = tqdm(
            desc=desc or None, total=total, unit=unit, unit_scale=unit_scale, initial=initial,
            disable=hidden or None,
        )  # fmt: skip
        self._lines = self._bar.disable and not hidden
        self._desc, self._total, self._unit, self._said = desc, total, unit.strip(), ""
        self._begun = self._told = clock()
        self._first = self._told_of = initial
        """Where this began, and where the last line was."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The last line is of how it ended, where there were any before."""
        self._bar.close()
        if self._lines and self._told > self._begun and self.n != self._told_of:
            self._tell(clock())
        self._lines = False

    def update(self, n: int = 1) -> None:
        self.n += n
        self._bar.update(n)
        self._tell_sometimes()

    def reach(self, n: int, total: int) -> None:
        """For who is told where it is, not how far it went."""
        self._total = self._bar.total = total
        self.update(n - self.n)

    def set_description(self, desc: str) -> None:
        self._desc = desc
        self._bar.set_description(desc)

    def set_postfix(
        self, figures: Mapping[str, Any] | None = None, *, refresh: bool = True, **more: Any
    ) -> None:
        """What to say besides."""
        every = {**(figures or {}), **more}
        shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in every.items()}
        self._said = ", ".join(f"{name} {value}" for name, value in shown.items())
        self._bar.set_postfix(every, refresh=refresh)

    def set_postfix_str(self, said: str, refresh: bool = True) -> None:
        self._said = said
        self._bar.set_postfix_str(said, refresh)

    def _tell_sometimes(self) -> None:
        if self._lines and (now := clock()) - self._told >= EVERY:
            self._tell(now)

    def _tell(self, now: float) -> None:
        print(self._line(now - self._begun), file=sys.stderr, flush=True)
        self._told, self._told_of = now, self.n

    def _line(self, gone: float) -> str:
        """Such as `heads: 120 of 400 steps (30%), 01:00 gone, 02:20 left; loss 0.1`."""
        parts, total = [f"{self.n:,}"], self._total
        if total:
            parts[0] += f" of {total:,}"
        if self._unit != "it":
            parts[0] += f" {self._unit.removesuffix('s')}s"
        if total:
            parts[0] += f" ({self.n / total:.0%})"
        parts.append(f"{tqdm.format_interval(gone)} gone")
        if total and self._first < self.n < total:
            left = gone * (total - self.n) / (self.n - self._first)
            parts.append(f"about {tqdm.format_interval(left)} left")
        line = ", ".join(parts) + (f"; {self._said}" if self._said else "")
        return f"{self._desc}: {line}" if self._desc else line

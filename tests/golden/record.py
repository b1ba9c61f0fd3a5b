"""Golden traces: compare what the package does now with what is kept, or keep it anew.

    python -m tests.golden.record                 as the tests compare, on any processor
    python -m tests.golden.record --check-exact   bit for bit, on the machine that made the records
    python -m tests.golden.record --write         record anew

Names of groups after any of these choose some; `--list` tells them. Run it from the repository's
root. A refactor that is meant to change nothing passes `--check-exact` before and after; a change
of behaviour records anew the groups that it is meant to change, and says so.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from .comparing import differences
from .groups import GROUPS
from .keeping import load, path_of, save
from .traces import Record

SHOWN = 8


def record(group: str) -> Record:
    """What is done now, on one thread."""
    with one_thread():
        return GROUPS[group].make()


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compared(group: str, *, exact: bool) -> list[str]:
    tolerance = None if exact else GROUPS[group].tolerance
    return list(differences(load(group), record(group), tolerance))


def written(group: str) -> list[str]:
    """A file whose numbers have not changed stays as it is, to the byte."""
    came = record(group)
    if path_of(group).exists() and not list(differences(load(group), came, None)):
        return []
    save(group, came)
    return ["recorded anew"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    how = parser.add_mutually_exclusive_group()
    for option in ("--check-exact", "--write", "--list"):
        how.add_argument(option, action="store_true")
    parser.add_argument("groups", nargs="*", help="without any: all", metavar="group")
    chosen = parser.parse_args()
    if chosen.list:
        sys.stdout.write("\n".join(GROUPS) + "\n")
        return 0
    if unknown := sorted(set(chosen.groups) - set(GROUPS)):
        parser.error(f"unknown groups {unknown}, expected some of {list(GROUPS)}")
    work = written if chosen.write else lambda group: compared(group, exact=chosen.check_exact)
    found = sum(told(group, work) for group in chosen.groups or GROUPS)
    return 0 if chosen.write else min(found, 1)


def told(group: str, work: Callable[[str], list[str]]) -> int:
    begun = time.perf_counter()
    lines = work(group)
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    shown = "".join(f"\n    {line}" for line in [*lines[:SHOWN], *more])
    sys.stdout.write(f"{group} ({time.perf_counter() - begun:.1f} s){shown or ': as it was'}\n")
    sys.stdout.flush()
    return len(lines)


if __name__ == "__main__":
    sys.exit(main())

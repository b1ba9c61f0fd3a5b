"""Text that came from files, as it may be shown: names in there may be anybody's."""

import re

_UNSEEN = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
"""What terminals obey instead of showing it: controls, turned directions, halves of characters."""

_IN_TEXT, _IN_NAMES = re.compile(f"[{_UNSEEN}]"), re.compile(rf"[\t\n{_UNSEEN}]")


def printable(text: str) -> str:
    """As it is but for what a terminal would obey, which is written as Python would: `\\x1b`.
    Lines and tabs stay."""
    return _IN_TEXT.sub(_escaped, text)


def printable_name(name: str) -> str:
    """The same on one line."""
    return _IN_NAMES.sub(_escaped, name)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()

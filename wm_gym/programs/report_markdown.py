"""A little Markdown as HTML: model cards and verdicts. Links are not followed, only shown."""

import re
from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from wm_gym.programs.report_html import Child, Html, joined, table, tag

_INLINE = re.compile(
    r"`(?P<code>[^`]+)`|\*\*(?P<strong>[^*]+)\*\*"
    r"|!?\[(?P<link>[^\]\[]{0,500})\]\([^)]{0,500}\)"  # else many "[" take their square in time
)
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_FENCE = "```"


def markdown(text: str, *, captions: Sequence[str]) -> Html:
    """Headings, paragraphs, lists, tables and code; all else is text. Captions are the tables'."""
    blocks = _blocks(_FRONT.sub("", text.replace("\r\n", "\n")))
    names = chain(captions, repeat("More figures"))
    return tag("div", *(_block(block, names) for block in blocks), class_="markdown")


def _blocks(text: str) -> Iterator[list[str]]:
    """Lines that belong together; code may have empty ones."""
    block: list[str] = []
    code = False
    for line in text.split("\n"):
        fence = line.startswith(_FENCE)
        alone = line.startswith("#") and not code
        if block and ((not line.strip() and not code) or (fence and not code) or alone):
            yield block
            block = []
        if line.strip() or code:
            block.append(line)
        if (fence and code) or alone:
            yield block
            block = []
        code ^= fence
    if block:
        yield block


def _block(lines: Sequence[str], captions: Iterator[str]) -> Html:
    first = lines[0]
    if first.startswith(_FENCE):
        end = -1 if len(lines) > 1 and lines[-1].startswith(_FENCE) else len(lines)
        return tag("pre", tag("code", "\n".join(lines[1:end])), tabindex="0")
    if first.startswith("#"):
        return tag("h3", _inline(first.lstrip("#").strip()))
    if first.startswith("|") and len(lines) > 1:
        return _table(lines, next(captions))
    if first.startswith(("* ", "- ")):
        items = re.split(r"(?:^|\n)[*-] ", "\n".join(lines))[1:]
        return tag("ul", *(tag("li", _inline(item)) for item in items))
    return tag("p", _inline("\n".join(lines)))


def _table(lines: Sequence[str], caption: str) -> Html:
    head, _, *rows = map(_cells, lines)
    cells = [[_inline(cell) for cell in row[: len(head)]] for row in rows]
    return table(caption, head, {"": cells})


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip() for cell in inner.split("|")]


def _inline(text: str) -> Html:
    parts: list[Child] = []
    end = 0
    for match in _INLINE.finditer(text):
        parts += [text[end : match.start()], _marked(match)]
        end = match.end()
    return joined(*parts, text[end:])


def _marked(match: re.Match[str]) -> Html:
    kinds = {"code": "code", "strong": "strong", "link": "em"}
    kind = str(match.lastgroup)
    if match[0].startswith("!"):  # a picture that lies elsewhere
        return Html("")
    return tag(kinds[kind], match[kind])

"""What the documents show runs, what they link to exists, and their lines are short."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from forked import run_python

from wm_gym.models.folder import packaged_names
from wm_gym.systems import packaged_dream

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "LOG.md"]
LONGEST = 100
"""Columns of a line."""


def blocks(language):
    for page in PAGES:
        found = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)
        for number, block in enumerate(found):
            yield pytest.param(block, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("code", list(blocks("python")))
def test_it_runs(code, tmp_path):
    needs = re.match(r"# needs ([\w-]+)\n", code)
    if needs and not is_here(needs[1]):
        pytest.skip(f"{needs[1]} is not installed")
    script = tmp_path / "block.py"
    script.write_text(code)
    done = run_python("-W", "ignore", script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def is_here(name):
    """A package, or a packaged world model."""
    if packaged_dream(name) is not None:
        return name in packaged_names()
    return find_spec(name) is not None


@pytest.mark.parametrize("text", list(blocks("sh")))
def test_its_commands_exist(text):
    makefile = (ROOT / "Makefile").read_text()
    for line in commands(text):
        words = line.removeprefix("PYTHONPATH=examples ").split()
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile, line
        elif words[0] == "python":
            script = words[1:3] if words[1] == "-m" else [ROOT / words[1]]
            done = run_python(*script, "--help", paths=(ROOT, ROOT / "examples"))
            assert done.returncode == 0, f"{line}: {done.stderr}"
        elif words[0] == "wm-gym":
            done = run_python("-W", "ignore", "-m", "wm_gym.programs", words[1], "--help")
            assert done.returncode == 0, f"{line}: {done.stderr}"
            assert words[1] in done.stdout
        else:
            assert words[0] == "pip", line


def commands(text):
    """Its lines, continued ones joined, without comments."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_every_relative_link_and_anchor_resolves(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {there.name} has no heading #{anchor}"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_no_line_is_longer_than_100_columns(page):
    lines = page.read_text("utf-8").splitlines()
    long = [number for number, line in enumerate(lines, 1) if len(line) > LONGEST]
    assert not long, f"{page.name} has longer lines: {long}"


def links(page):
    """Relative targets of links and pictures, also of links whose target stands apart."""
    text = re.sub(r"`[^`]+`", "", prose(page))
    found = re.findall(r"\]\(\s*([^)\s]+)\s*\)", text) + re.findall(r"(?m)^\[[^]]+\]: (\S+)", text)
    return [target for target in found if not target.startswith("http")]


def anchors(page):
    """As GitHub makes them of headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", prose(page))
    slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
    return [f"{slug}-{n}" if (n := slugs[:i].count(slug)) else slug for i, slug in enumerate(slugs)]


def prose(page):
    """All but its code."""
    return re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8"))

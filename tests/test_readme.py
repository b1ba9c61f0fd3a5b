"""Every Python block of the README runs, and every command in it exists."""

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    for page in PAGES:
        found = re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.S)
        for number, block in enumerate(found):
            yield pytest.param(block, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("code", list(blocks("python")))
def test_it_runs(code, tmp_path):
    needs = re.match(r"# needs (\w+)\n", code)
    if needs and find_spec(needs[1]) is None:
        pytest.skip(f"{needs[1]} is not installed")
    script = tmp_path / "block.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", list(blocks("sh")))
def test_its_commands_exist(text):
    makefile = (ROOT / "Makefile").read_text()
    for line in filter(None, text.splitlines()):
        words = line.split()
        if words[0] == "make":
            assert f"\n{words[1]}:" in makefile, line
        elif words[0] == "python":
            done = subprocess.run(
                [sys.executable, ROOT / words[1], "--help"], capture_output=True, text=True,
                check=False,
            )  # fmt: skip
            assert done.returncode == 0, line
        elif words[0] == "wm-gym":
            command = [sys.executable, "-W", "ignore", "-m", "wm_gym.programs", words[1], "--help"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, line
            assert words[1] in done.stdout
        else:
            assert words[0] == "pip", line


def test_links_and_pictures_are_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"

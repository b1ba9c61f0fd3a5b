"""`wm-gym` itself: what it imports, how it is stopped, and what it says where it cannot go on."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wm_gym.programs.failures import said

ROOT = Path(__file__).parent.parent
INSTALLED = "import sys\nfrom wm_gym.programs import main\nif __name__ == '__main__':\n    main()\n"
"""What pip writes to `bin/wm-gym`."""


@pytest.fixture
def wm_gym(tmp_path):
    """Runs the installed program in a folder that was downloaded from somewhere."""
    script, folder = tmp_path / "bin" / "wm-gym", tmp_path / "downloaded"
    script.parent.mkdir()
    folder.mkdir()
    script.write_text(INSTALLED)

    def run(*arguments, files=None, path=(), command=(script,), **kwargs):
        for name, content in (files or {}).items():
            (folder / name).write_text(content)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
        return subprocess.run(
            [sys.executable, "-W", "ignore", *map(str, (*command, *arguments))],
            capture_output=True, text=True, timeout=120, cwd=folder, env=environment,
            check=False, **kwargs,
        )  # fmt: skip

    return run


def test_no_module_of_the_folder_goes_before_one_that_is_installed(wm_gym):
    files = dict.fromkeys(("statistics.py", "pickle.py", "tempfile.py"), "raise SystemExit('ran')")
    done = wm_gym("report", ".", files=files)
    assert "ran" not in done.stdout + done.stderr
    assert "config.json is missing" in done.stderr
    dots = ("collect", "any", "--env-id", "Real-Dot-v0", "--episodes", "1", "--steps", "3")
    done = wm_gym(*dots, "--out", "data")
    assert done.returncode == 0, done.stderr


def test_a_module_of_the_folder_that_is_named_is_found_also_by_workers(wm_gym):
    mine = (
        "from dataclasses import replace\n"
        "from wm_gym.systems import DOT, register_system\n"
        "dot = 'wm_gym.systems.dot:Dot'\n"
        "register_system(replace(DOT, name='Mine', simulators={'Real-Mine-v0': dot}))\n"
    )
    files = {"mine.py": mine, "statistics.py": "raise SystemExit('ran')"}
    arguments = ("--env-id", "mine:Real-Mine-v0", "--episodes", "1", "--steps", "3")
    done = wm_gym("collect", "any", *arguments, "--out", "data", files=files)
    assert done.returncode == 0, done.stderr
    assert "1 episodes" in done.stdout


@pytest.mark.parametrize("module", ["gymnasium", "tyro", "torch"])
def test_stopped_while_it_imports_it_says_nothing(wm_gym, tmp_path, module):
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    for how in ((tmp_path / "bin" / "wm-gym",), ("-m", "wm_gym.programs")):
        done = wm_gym("soak", "--help", command=how, path=[tmp_path])
        assert (done.returncode, done.stderr) == (130, "")


def test_a_library_that_is_stopped_while_it_imports_tells_its_user(wm_gym, tmp_path):
    (tmp_path / "gymnasium.py").write_text("raise KeyboardInterrupt")
    done = wm_gym(command=("-c", "import wm_gym"), path=[tmp_path])
    assert "KeyboardInterrupt" in done.stderr


def test_help_that_nobody_reads_to_its_end_is_no_failure(wm_gym):
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from wm_gym.programs import main; sys.argv = ['wm-gym', '--help']; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, env=environment,
        text=True, check=False,
    )  # fmt: skip
    os.close(write)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full: free some space"),
        (OSError(errno.EMFILE, "Too many open files"), "ask for fewer workers"),
        (BlockingIOError(errno.EAGAIN, "Try again"), "no more processes can be started"),
        (RuntimeError("can't start new thread"), "no more processes can be started"),
        (MemoryError(), r"ask for fewer environments or workers at once \(MemoryError\)"),
        (MemoryError("Unable to allocate 3 GiB"), "fewer environments .*Unable to allocate 3 GiB"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "ask for fewer environments"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "ask for fewer environments"),
    ],
)
def test_what_a_machine_ran_out_of_is_named_with_what_to_do(error, words):
    assert re.search(words, said(error))
    assert str(error) in said(error)


def test_who_has_said_what_to_do_is_not_corrected():
    for told in (
        OSError(errno.ENOSPC, "the disk is full: episode 3 was not saved"),
        MemoryError("there is not enough memory for 9 dreams at once: ask for fewer"),
        RuntimeError("a worker process died. It was killed (out of memory?)"),
        ValueError("seed is -1, expected 0 or more"),
    ):
        assert said(told) == str(told)


def test_too_many_workers_for_the_open_files_are_told_so(wm_gym):
    resource = pytest.importorskip("resource")
    done = wm_gym(
        *("collect", "any", "--env-id", "Real-Dot-v0", "--episodes", "60", "--steps", "3"),
        *("--workers", "50", "--out", "data"),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)),
    )
    assert done.returncode == 1
    assert done.stderr.startswith("wm-gym: too many files are open: ask for fewer workers")
    assert len(done.stderr.splitlines()) == 1

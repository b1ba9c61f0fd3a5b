"""The command line, `wm-gym`: the only place in the package that prints."""

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from functools import wraps
from importlib import import_module
from typing import Any, TextIO

import gymnasium as gym

from wm_gym.programs.failures import STOPPED, said
from wm_gym.storage.text import printable

PROGRAMS = {
    "collect": "log a dataset of an environment",
    "import-human": "convert human Push-T demonstrations to a dataset",
    "import-lerobot": "convert a LeRobot v3 dataset to one that `train` takes",
    "import-minari": "convert a Minari dataset with pictures to one that `train` takes",
    "export-minari": "convert a dataset to a Minari dataset",
    "card": "show what a dataset covers, as text and picture",
    "train": "train a diffusion world model on a dataset",
    "evaluate": "measure how far a world model's predictions are from the real system",
    "gradients": "measure whether a world model's gradients are right",
    "release": "copy a trained and evaluated world model, with a model card",
    "report": "write what was measured of a world model as one HTML page",
    "play": "steer the real system and its world model side by side, by mouse or keys",
    "bench": "measure speed on this machine",
    "soak": "run a world model for a million steps and watch memory",
}
"""Each is a function of its name in a module of its name, imported when it is asked for."""

_RESUMED = ("collect", "import-human", "import-lerobot", "import-minari", "train")

_EXPECTED = (
    ValueError,
    TypeError,
    RuntimeError,
    OSError,
    ImportError,
    MemoryError,
    gym.error.Error,
)


def main() -> None:
    """One clear line and a non-zero exit where something is wrong with what was asked."""
    name, *arguments = sys.argv[1:] or ["--help"]
    asked = name in ("-h", "--help")
    if not asked and name not in PROGRAMS:
        sys.exit(f"wm-gym: there is no {name!r}\n\n{_usage()}")
    if any(":" in argument for argument in arguments):
        sys.path.append("")  # for `module:Id-v0`; last, as other files here may be anybody's
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    begun = False
    try:
        if asked:
            print(_usage(), flush=True)
            return
        program = _imported(name)
        begun = True
        program(arguments)
    except BrokenPipeError:  # whoever read what is printed has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except _EXPECTED as error:
        sys.exit(f"wm-gym: {said(error)}")
    except KeyboardInterrupt:
        if begun:
            goes_on = "; the same command goes on where it was" if name in _RESUMED else ""
            print(f"wm-gym: stopped{goes_on}", file=sys.stderr)
        sys.exit(STOPPED)


def _imported(name: str) -> Callable[[Sequence[str]], object]:
    """Takes seconds; what is made takes the arguments."""
    from tyro import cli  # not needed to say what programs there are

    module = name.replace("-", "_")
    program = getattr(import_module(f"wm_gym.programs.{module}"), module)
    plain = _printing_plainly(program)
    return lambda arguments: cli(plain, prog=_Name(f"wm-gym {name}"), args=arguments)


def _printing_plainly(program: Callable[..., object]) -> Callable[..., object]:
    """Names in datasets and folders may be anybody's: a terminal shows them, and obeys none."""

    @wraps(program)
    def plain(*args: Any, **kwargs: Any) -> object:
        with redirect_stdout(_Plain(sys.stdout)):
            return program(*args, **kwargs)

    return plain


class _Plain:
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(printable(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _Name(str):
    """tyro hints at `wm-gym any --help` where it means `wm-gym collect any --help`: it takes what
    is before the first space for the whole name."""

    __slots__ = ()

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        return str(self), "", ""


def _usage() -> str:
    rows = [f"  wm-gym {name:<16}{text}" for name, text in PROGRAMS.items()]
    return "\n".join(
        ["usage: wm-gym PROGRAM ...; `wm-gym PROGRAM --help` shows its options", "", *rows]
    )


def _show_warning(message: Warning | str, *_: object) -> None:
    print(f"wm-gym: {printable(str(message))}", file=sys.stderr)

"""The command line, `wm-gym`: the only place in the package that prints."""

import sys
from collections.abc import Callable

import gymnasium as gym
import tyro

from wm_gym.programs.bench import bench
from wm_gym.programs.card import card
from wm_gym.programs.collect import collect
from wm_gym.programs.import_human import import_human

PROGRAMS: dict[str, Callable[..., None]] = {
    "collect": collect,
    "import-human": import_human,
    "card": card,
    "bench": bench,
}


def main() -> None:
    """One clear line and a non-zero exit where something is wrong with what was asked."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            PROGRAMS, prog="wm-gym", config=(tyro.conf.OmitArgPrefixes,)
        )
    except (ValueError, TypeError, OSError, ImportError, gym.error.Error) as error:
        sys.exit(f"wm-gym: {error}")
    except KeyboardInterrupt:
        sys.exit("wm-gym: stopped; the same command goes on where it was")

"""Train policies inside a learned world: Gymnasium environments that are trained, not programmed.

Importing the package registers its environments with Gymnasium.
"""

import sys

try:
    from wm_gym.systems import System, register_system, system_named
except KeyboardInterrupt:  # the program `wm-gym` is stopped before it could say so
    if not sys.argv[0].endswith("wm-gym") and "wm_gym.programs" not in sys.orig_argv:
        raise
    sys.exit(130)

__version__ = "0.1.0"
__all__ = ["System", "__version__", "register_system", "system_named"]

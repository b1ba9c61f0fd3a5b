"""Train policies inside a learned world: Gymnasium environments that are trained, not programmed.

Importing the package registers its environments with Gymnasium.
"""

from wm_gym.systems import System, register_system, system_named

__version__ = "0.1.0"
__all__ = ["System", "__version__", "register_system", "system_named"]

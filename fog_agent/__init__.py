"""First-order policy gradients through differentiable environments."""

from fog_agent.config import PRESETS, FoGConfig
from fog_agent.diagnostics import Diagnosis, diagnose
from fog_agent.fog import FoG
from fog_agent.learning import Update
from fog_agent.protocol import DifferentiableEnv, GradStep, LightModel, LocalModel
from fog_agent.rewarped_like import RewarpedLike

__all__ = [
    "PRESETS",
    "Diagnosis",
    "DifferentiableEnv",
    "FoG",
    "FoGConfig",
    "GradStep",
    "LightModel",
    "LocalModel",
    "RewarpedLike",
    "Update",
    "diagnose",
]

"""First-order policy gradients through differentiable environments.

So far only what such an agent asks of an environment; the agent follows.
"""

from fog_agent.protocol import DifferentiableEnv, GradStep
from fog_agent.rewarped_like import RewarpedLike

__all__ = ["DifferentiableEnv", "GradStep", "RewarpedLike"]

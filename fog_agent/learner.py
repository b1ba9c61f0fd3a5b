"""What learns, and one update of it; everything here is saved with the agent.

L(θ) = E [ Σₕ γʰ (rₕ + α Hₕ) + γᴴ V(s_H) ]      the actor climbs it, through window and look-ahead
V ← TD(λ) of the same rewards                   critics, over the last few windows
α ← towards the target entropy                  temperature
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fog_agent.actor import Acted, Actor
from fog_agent.climbing import climb
from fog_agent.config import FoGConfig
from fog_agent.critics import Critics
from fog_agent.experience import Experience
from fog_agent.look_ahead import Bfloat16, fast_bfloat16, look_ahead
from fog_agent.normaliser import Normaliser
from fog_agent.protocol import Lent
from fog_agent.returns import entropy_bonus, lambda_returns, window_return
from fog_agent.spaces import Spaces
from fog_agent.window import Window

LAST_RATE = 0.1
"""What learning rates have fallen to in the end, as a share."""

ALIKE = 1e-6
"""Rewards that deviate by less of their size are all alike: there is nothing to scale them by."""


class Learner(nn.Module):
    """Networks, temperature and their optimisers."""

    reward_scale: Tensor
    bonus_scale: Tensor

    def __init__(self, config: FoGConfig, spaces: Spaces) -> None:
        super().__init__()
        obs_size = spaces.obs_size
        self.config, self.action_size = config, spaces.action_size
        self.rng = torch.Generator().manual_seed(config.seed)
        self.normaliser = Normaliser(obs_size, active=config.normalise)
        self.actor = Actor(
            obs_size, spaces.action, config.actor_hidden, config.log_std, rng=self.rng
        )
        self.critics = Critics(
            config.critics, obs_size, config.critic_hidden, lag=config.critic_lag, rng=self.rng
        )
        self.fallen = 0.0
        """How far rates and target entropy are on their way down, as a share."""

        self.log_temperature = nn.Parameter(torch.tensor(math.log(config.first_temperature)))
        self.register_buffer("reward_scale", torch.tensor(math.nan))
        self.register_buffer("bonus_scale", torch.tensor(math.nan))
        self.optimisers = self._optimisers()

    def _optimisers(self) -> dict[str, torch.optim.Optimizer]:
        c = self.config
        return {
            "actor": torch.optim.AdamW(self.actor.parameters(), c.actor_rate, betas=c.actor_betas),
            "critics": torch.optim.AdamW(
                self.critics.network.parameters(), c.critic_rate, betas=c.critic_betas
            ),
            "temperature": torch.optim.Adam([self.log_temperature], c.temperature_rate),
        }

    @property
    def target_entropy(self) -> float:
        """H̄."""
        first, last = self.config.target_entropy, self.config.last_target_entropy
        return (first + self.fallen * (last - first)) * self.action_size

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.detach().exp() * self.config.entropy

    def act(self, obs: Float[Tensor, "b x"], noise: Float[Tensor, "b a"]) -> Acted:
        acted: Acted = self.actor(self.normaliser(obs), noise)
        return acted

    def noise(self, *shape: int) -> Tensor:
        drawn = torch.randn(*shape, self.action_size, generator=self.rng)
        return drawn.to(self.reward_scale.device)

    def worth(
        self, reward: Float[Tensor, "*n"], log_prob: Float[Tensor, "*n"]
    ) -> Float[Tensor, "*n"]:
        """r̃, what is summed: the reward in units in which returns are of order one, and entropy."""
        scaled: Float[Tensor, "*n"] = self.reward_scale * reward
        if not self.config.entropy:
            return scaled
        bonus = self.temperature * entropy_bonus(log_prob, self.target_entropy)
        return scaled + self.bonus_scale * bonus

    def set_scales(self, reward: Float[Tensor, "t b"], log_prob: Float[Tensor, "t b"]) -> None:
        """By the first window: rewards count, and the temperature does, in their deviations, and
        critics begin at the return of going on like that for ever."""
        if not self.reward_scale.isnan():
            return
        c, deviation = self.config, 1.0
        if c.reward_scale is None:
            deviation = float(reward.detach().std(correction=0))
            if deviation <= ALIKE * float(reward.detach().abs().max()):
                raise ValueError(
                    f"rewards of the first window are all alike ({float(reward[0, 0])}), expected "
                    "some that differ, to scale them by: give FoGConfig(reward_scale=...)"
                )
        scale = c.return_scale * (1 - c.gamma) / deviation
        self.reward_scale.fill_(scale if c.reward_scale is None else c.reward_scale)
        self.bonus_scale.copy_(self.reward_scale * deviation)
        if c.gamma < 1:
            self.critics.begin_at(
                float(self.worth(reward, log_prob).detach().mean()) / (1 - c.gamma)
            )

    def set_rates(self, samples: int) -> None:
        if self.config.decay_samples is None:
            return
        hold = self.config.hold
        done = samples / self.config.decay_samples
        self.fallen = min(max((done - hold) / (1 - hold), 0.0), 1.0)
        share = 1 - (1 - LAST_RATE) * self.fallen
        first = {"actor": self.config.actor_rate, "critics": self.config.critic_rate}
        for name, rate in first.items():
            for group in self.optimisers[name].param_groups:
                group["lr"] = share * rate

    def climb_window(self, window: Window) -> tuple[float, Float[Tensor, "b"]]:
        """The actor's step: its gradient's norm, and what each environment promised before it."""
        total = self.promised(window)
        objective = total.mean() / len(window.reward)
        return self._climb("actor", objective, self.config.actor_clip), total.detach()

    def promised(self, window: Window) -> Float[Tensor, "b"]:
        """L of each environment, differentiable in the policy."""
        end_value = self.critics.mean(self.normaliser(window.next_obs.flatten(0, 1)))
        return window_return(
            self.worth(window.reward, window.log_prob), end_value.view_as(window.reward),
            window.terminated, window.truncated, gamma=self.config.gamma,
        )  # fmt: skip

    def _climb(self, name: str, objective: Float[Tensor, ""], clip: float) -> float:
        network = {"actor": self.actor, "critics": self.critics.network}[name]
        return climb(self.optimisers[name], objective, network.parameters(), clip=clip)

    def steer_temperature(self, log_prob: Float[Tensor, "t b"]) -> None:
        if not self.config.entropy:
            return
        surplus = -log_prob.mean() - self.target_entropy
        objective = -self.log_temperature.exp() * surplus
        climb(self.optimisers["temperature"], objective, [self.log_temperature], clip=math.inf)

    @torch.no_grad()
    def targets(self, window: Window) -> Float[Tensor, "t b"]:
        next_x = self.normaliser(window.next_obs.flatten(0, 1))
        next_value = self.critics.least_of_two(next_x, rng=self.rng).view_as(window.reward)
        return lambda_returns(
            self.worth(window.reward, window.log_prob), next_value, window.terminated,
            window.truncated, gamma=self.config.gamma, lam=self.config.lam,
        )  # fmt: skip

    def regress(
        self, obs: Float[Tensor, "n x"], target: Float[Tensor, "n"]
    ) -> tuple[float, list[float]]:
        """Critics' mean error over their updates, and each one's gradient norm."""
        c, x = self.config, self.normaliser(obs)
        errors, norms = [], []
        for _ in range(c.critic_updates):
            at = torch.randint(len(target), (c.critic_batch,), generator=self.rng).to(x.device)
            error = (self.critics(x[at]) - target[at]).square().mean(dim=1).sum()
            norms.append(self._climb("critics", -error, c.critic_clip))
            errors.append(float(error.detach()) / self.critics.n)
        return sum(errors) / len(errors), norms

    def look_ahead(self, model: Lent, experience: Experience) -> list[float]:
        """The actor's steps from replayed states; their gradients' norms."""
        c, norms = self.config, []
        discount = c.gamma**c.look_ahead_steps
        chosen = c.look_ahead_bfloat16
        if fast_bfloat16(self.reward_scale.device) if chosen is None else chosen:
            model = Bfloat16(model)
        for _ in range(c.look_aheads):
            obs = experience.draw(c.look_ahead_batch, last=len(experience), rng=self.rng)["obs"]
            total, end = look_ahead(
                model, obs, self.noise(c.look_ahead_steps, len(obs)), act=self.act,
                worth=self.worth, gamma=c.gamma,
            )  # fmt: skip
            x = self.normaliser(end)
            objective = (total + discount * self.critics.least(x)).mean()
            norms.append(self._climb("actor", objective, c.actor_clip))
        return norms

"""A dream's gradients: those that its hook gives, and central differences under common noise."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.envs.dreams import Dreams
from wm_gym.evaluation.gradients import HORIZONS, Gradients, central_differences, offsets
from wm_gym.evaluation.linear_probe import LinearProbe
from wm_gym.evaluation.probes import Posed, Probe
from wm_gym.models import trees
from wm_gym.models.colours import to_colour
from wm_gym.models.noise import shaped_noise
from wm_gym.models.trees import Tree
from wm_gym.models.world_model import WorldModel


def hook_gradients(
    env: DreamVectorEnv, probe: LinearProbe, action: Float32[np.ndarray, "t b a"], gradient: str
) -> Gradients:
    """From where the dreams are; they go on. Poses are read off features by the linear probe."""
    env.begin_window(gradient=gradient)
    device = env.dreams.features.device
    actions = [torch.from_numpy(a).to(device).requires_grad_() for a in action]
    steps = [env.step_with_grad(one) for one in actions]
    pose = probe.pose(steps[0].final_obs)
    rows = [
        torch.autograd.grad(pose[:, row].sum(), actions[0], retain_graph=True)[0]
        for row in range(pose.shape[1])
    ]
    total = torch.zeros(len(HORIZONS), *action.shape)
    for i, h in enumerate(HORIZONS):
        earned = torch.stack([step.reward for step in steps[:h]]).sum()
        found = torch.autograd.grad(earned, actions[:h], retain_graph=h < HORIZONS[-1])
        total[i, :h] = torch.stack(found).cpu()
    return Gradients(
        pose=torch.stack(rows, dim=1).double().cpu().numpy(),
        total=total.permute(2, 0, 1, 3).double().numpy(),
    )


@torch.no_grad()
def dream_gradients(
    model: WorldModel,
    start: Dreams,
    action: Float32[np.ndarray, "t b a"],
    deltas: Sequence[float],
    *,
    denoising_steps: int,
    probe: Probe | None,
    linear: LinearProbe,
) -> tuple[list[Gradients], list[Gradients]]:
    """For each δ: with poses read off the painted frames, and off the features by a linear probe.
    Without a probe of frames, nothing is read off them.

    All perturbed dreams have the noise of the unperturbed one.
    """
    shift = torch.from_numpy(offsets(deltas, model.spec.action_size)).to(model.device)
    acted = torch.from_numpy(action).to(model.device)
    nominal, copies = [start.state], len(shift)

    def noise(t: int) -> Float[Tensor, "b *n"]:
        return shaped_noise(start.key, start.step + t, model.spec.noise_shape)

    for t in range(len(action) - 1):
        nominal.append(model.step(nominal[-1], acted[t], noise(t), denoising_steps).state)

    def perturbed(t: int) -> tuple[np.ndarray, np.ndarray]:
        state, rewards = _repeated(nominal[t], copies), []
        poses = np.zeros((2, 0, 0))
        for u in range(t, len(action)):
            taken = _repeated(acted[u], copies)
            taken = taken + shift.repeat(len(start.key), 1) if u == t else taken
            out = model.step(state, taken, _repeated(noise(u), copies), denoising_steps)
            state = out.state
            rewards.append(out.outcome.reward.double().cpu().numpy().reshape(-1, copies))
            if u == 0:
                features = _repeated(start.features, copies)
                poses = _poses(model, probe, linear, features, taken, state)
        return np.stack(rewards, axis=-1), poses.reshape(
            len(poses), poses.shape[1] // copies, copies, poses.shape[2]
        )

    turn = 2 * np.pi * linear.posed.LEVER
    seen, read = central_differences(perturbed, deltas, model.spec.action_size, turn=turn)
    return seen, read


def _poses(
    model: WorldModel,
    probe: Probe | None,
    linear: LinearProbe,
    features: Float[Tensor, "n f"],
    action: Float[Tensor, "n a"],
    state: Any,
) -> Float[np.ndarray, "r=2 n p"]:
    """NaN where a frame does not show it."""
    seen, read = [], []
    for here in torch.split(torch.arange(len(action)), 256):
        painted = model.decode(trees.rows(state, here))
        frames = to_colour(painted.frames)
        local_model = model.local_model
        embedding = local_model.embed(frames, painted.proprio)
        after = local_model.follow(features[here], action[here], embedding)
        read.append(linear.pose(after).double().cpu().numpy())
        seen.append(_seen(probe, linear.posed, frames.cpu().numpy(), like=read[-1]))
    return np.stack([np.concatenate(seen), np.concatenate(read)])


def _seen(
    probe: Probe | None,
    posed: Posed,
    frames: UInt8[np.ndarray, "n h w c"],
    *,
    like: Float[np.ndarray, "n p"],
) -> Float[np.ndarray, "n p"]:
    if probe is None:
        return np.full_like(like, np.nan)
    reading = probe.read_state(frames)
    return np.where(posed.shown(frames, reading.residual), posed.pose_of(reading.state), np.nan)


def _repeated(tree: Tree, copies: int) -> Tree:
    """Each batch entry so many times in a row."""
    return trees.mapped(lambda leaf: leaf.repeat_interleave(copies, dim=0), tree)

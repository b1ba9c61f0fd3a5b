"""Windows of dreams, forward and backward: what `wm-gym bench --parts gradient` measures.

Each action is a small policy's of what it saw last, and the sum of rewards is differentiated.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal
from weakref import WeakSet

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.models.colours import to_colour, to_unit
from wm_gym.models.coupling import swap
from wm_gym.models.edm import karras_sigmas, sample
from wm_gym.models.kinds import DEFAULT, kind_named
from wm_gym.models.protocol import LocalModel, Surrogate
from wm_gym.models.world_model import DTYPES, WorldModel
from wm_gym.programs.bench_diamond import ACTION, CONTEXT, SIDE, diamond_sized
from wm_gym.programs.bench_timing import Step
from wm_gym.programs.machine import cores
from wm_gym.programs.memory import process_bytes

Mode = Literal["none", "surrogate", "diffusion"]
Dtype = Literal["float32", "bfloat16"]
NEVER = 1 << 30
"""A horizon: no episode ends within what is measured."""

GLIMPSE = 8
"""Side of what a policy of the DIAMOND-sized network sees where there is no local model."""


@dataclass(frozen=True, kw_only=True)
class Window:
    world_model: str | None
    """Of the environment that is stepped; None: a DIAMOND-sized network, which has none."""

    num_envs: int
    length: int
    denoising_steps: int
    dtype: Dtype
    mode: Mode
    device: str

    @property
    def frames(self) -> int:
        return self.num_envs * self.length


Forward = Callable[[int], Tensor]
"""A window of so many steps, and the sum of its rewards."""


def made(window: Window) -> tuple[Forward, Sequence[nn.Module]]:
    """Its forward pass, and the networks in it."""
    return _peer(window) if window.world_model is None else _dreams(window)


def step_of(window: Window) -> Step:
    """There, and back if there is a gradient."""
    forward, networks = made(window)

    def step() -> int:
        _differentiate(forward(window.length), networks)
        if torch.device(window.device).type == "cuda":
            torch.cuda.synchronize()
        return window.frames

    return step


def _differentiate(total: Tensor, networks: Sequence[nn.Module]) -> None:
    for network in networks:
        network.zero_grad()
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]


def _dreams(window: Window) -> tuple[Forward, Sequence[nn.Module]]:
    assert window.world_model is not None
    model = WorldModel.from_pretrained(window.world_model)
    model = model.to(window.device).cast(DTYPES[window.dtype])
    made_env = gym.make_vec(
        "WM-v0", num_envs=window.num_envs, world_model=model, obs_type="latent", horizon=NEVER,
        ends=False, denoising_steps=window.denoising_steps, gradient=window.mode,
    )  # fmt: skip
    env = made_env.unwrapped
    assert isinstance(env, DreamVectorEnv)
    env.reset(seed=0)
    policy = _policy(model.local_model.feature_size, model.spec.action_size).to(window.device)

    def forward(length: int) -> Tensor:
        with torch.set_grad_enabled(window.mode != "none"):
            obs = env.begin_window()
            total = obs.new_zeros(())
            for _ in range(length):
                out = env.step_with_grad(policy(obs))
                obs, total = out.obs, total + out.reward.sum()
        return total

    return forward, [policy, model, *env.surrogate.modules()]


def _peer(window: Window) -> tuple[Forward, Sequence[nn.Module]]:
    """The DIAMOND-sized network in place of the dream.

        none        the sampler; a policy that glances at its frames
        surrogate   the same, and on top of it a local model's eye, filter, dynamics and reward
        diffusion   back through the sampler, and through the frames that are its next context

    It has no reward head: where the local model gives no reward, the frame's mean stands for one.
    """
    net = diamond_sized(DTYPES[window.dtype]).to(window.device)
    with torch.random.fork_rng(devices=[]):
        _, local = kind_named(DEFAULT).fresh((SIDE, SIDE, 3), ACTION, CONTEXT, False)
    assert isinstance(local, nn.Module)
    local.requires_grad_(False).to(window.device)
    local.cast(DTYPES[window.dtype])
    surrogate, lent = local.surrogate(None), window.mode == "surrogate"
    policy = _policy(local.feature_size if lent else 3 * GLIMPSE**2, ACTION).to(window.device)
    sigmas = karras_sigmas(window.denoising_steps, sigma_min=2e-3, sigma_max=5.0)
    sigmas, n = sigmas.to(window.device), window.num_envs
    rng = torch.Generator(window.device).manual_seed(0)

    def paint(context: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
        """A frame as a network sees it, and the same in whole colours."""
        noise = torch.randn(n, 3, SIDE, SIDE, generator=rng, device=window.device)
        with torch.set_grad_enabled(window.mode == "diffusion"):
            told = recent.flatten(1)
            painted = sample(lambda x, sigma: net(x, sigma, context, told), noise, sigmas)
        colours = to_colour(painted.detach())
        seen = to_unit(colours)  # straight-through: colours are whole numbers
        return swap(seen, painted) if painted.requires_grad else seen, colours

    def forward(length: int) -> Tensor:
        context = torch.zeros(n, 3 * CONTEXT, SIDE, SIDE, device=window.device)
        recent = torch.zeros(n, CONTEXT, ACTION, device=window.device)
        total = context.new_zeros(())
        with torch.set_grad_enabled(window.mode != "none"):
            task = torch.zeros(n, dtype=torch.int64, device=window.device)
            obs = local.begin(context.new_zeros(n, local.embedding_size), task)
            obs = obs if lent else _glimpse(context[:, -3:])
            for _ in range(length):
                action = policy(obs)
                recent = torch.cat([recent[:, 1:], action[:, None]], dim=1)
                seen, colours = paint(context, recent)
                context = torch.cat([context[:, 3:], seen], dim=1)
                if lent:
                    obs, reward = _lent(surrogate, local, obs, action, colours)
                else:
                    obs, reward = _glimpse(seen), seen.mean((1, 2, 3))
                total = total + reward.sum()
        return total

    return forward, [policy, net, local, *surrogate.modules()]


def _lent(
    surrogate: Surrogate,
    local: LocalModel,
    obs: Tensor,
    action: Tensor,
    colours: Tensor,
) -> tuple[Tensor, Tensor]:
    """As the gradient hook does it."""
    with torch.no_grad():
        truth = local.follow(obs, action, local.embed(colours, obs.new_zeros(len(obs), 0)))
    features = swap(truth, surrogate.predict(obs, action))
    return features, surrogate.reward_of(features, action)


def _glimpse(seen: Tensor) -> Tensor:
    return adaptive_avg_pool2d(seen, GLIMPSE).flatten(1)


def _policy(inputs: int, actions: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, actions), nn.Tanh()
        return nn.Sequential(*layers)


@dataclass(frozen=True, kw_only=True)
class Memory:
    kept: int
    """Bytes that the forward pass leaves for the backward pass; weights are not among them."""

    peak: int
    """Most bytes that the whole process, or the device, held at any time of a window."""


def memory_of(window: Window) -> Memory:
    """In a process of its own: what others have freed would be used again, and not be seen."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        return pool.submit(_memory, window).result()


def _memory(window: Window) -> Memory:
    torch.set_num_threads(cores())
    forward, networks = made(window)
    _differentiate(forward(1), networks)  # libraries load what they need, once
    device = torch.device(window.device)
    _forget_peak(device)
    with saving(networks) as kept:
        total = forward(window.length)
        bytes_kept = kept()
    _differentiate(total, networks)
    return Memory(kept=bytes_kept, peak=_peak(device))


class _Saved:
    """Lives as long as the graph needs the tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@contextmanager
def saving(networks: Sequence[nn.Module]) -> Iterator[Callable[[], int]]:
    """How many bytes graphs hold that are built within; each storage once, weights never."""
    saved = WeakSet[_Saved]()
    weights = {_address(t) for network in networks for t in network.state_dict().values()}

    def pack(tensor: Tensor) -> _Saved:
        kept = _Saved(tensor)
        saved.add(kept)
        return kept

    def count() -> int:
        storages = {_address(kept.tensor): kept.tensor.untyped_storage() for kept in saved}
        return sum(storage.nbytes() for at, storage in storages.items() if at not in weights)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        yield count


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _forget_peak(device: torch.device) -> None:
    """Of before; what Linux alone can do for its resident memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (forget := Path("/proc/self/clear_refs")).exists():
        forget.write_text("5")


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return process_bytes("VmHWM")

"""The dream under other people's libraries: those that are installed here, in seconds.

`make integrations` runs the others, each in an environment of its own.
"""

from dataclasses import replace
from importlib.util import find_spec

import gymnasium as gym
import memory_world
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from integrations import sb3, single_file_ppo
from integrations.single_file_ppo import Agent, Rollout, advantages, rollouts, update
from tiny_world import make_world_model


@pytest.fixture(scope="module")
def world_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("integrations") / "model"
    make_world_model().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("algorithm", "obs_type"), [("ppo", "latent"), ("ppo", "pixels"), ("sac", "latent")]
)
def test_stable_baselines3_trains(algorithm, obs_type, world_model, capsys):
    """Of four dreams with staggered clocks one episode ends within 64 steps."""
    sb3.main(
        sb3.Settings(
            algorithm=algorithm, obs_type=obs_type, total_timesteps=256, num_envs=4,
            world_model=world_model, learning_starts=64,
        )
    )  # fmt: skip
    said = capsys.readouterr().out.splitlines()[-1]
    assert f", {algorithm}: 256 steps in " in said
    assert "; 1 episodes, reward a step " in said


def test_stable_baselines3_trains_on_pictures_and_proprioception(tmp_path, capsys):
    memory_world.push_cube_model().save_pretrained(tmp_path / "model")
    sb3.main(
        sb3.Settings(
            obs_type="dict", total_timesteps=256, num_envs=4, env_id="WM-PushCube-v0",
            world_model=str(tmp_path / "model"),
        )
    )  # fmt: skip
    assert ", ppo: 256 steps in " in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("obs_type", ["latent", "pixels"])
def test_the_single_file_trains(obs_type, world_model, capsys):
    single_file_ppo.main(
        single_file_ppo.Settings(
            obs_type=obs_type, total_timesteps=256, num_envs=4, epochs=1, world_model=world_model
        )
    )
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.endswith("reward a step, of episodes that ended: –")
    assert second.lstrip().startswith("256 steps")
    assert np.isfinite(float(second.split(": ")[1]))
    assert ": 256 steps in " in last


class Follow(gym.Env):
    """The best action is what is seen. Episodes are cut off after three steps."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.clock = 0
        return self.look(), {}

    def look(self):
        self.seen = self.np_random.uniform(-0.9, 0.9, 1).astype(np.float32)
        return self.seen

    def step(self, action):
        self.clock += 1
        reward = -float(np.abs(action - self.seen)[0])
        return self.look(), reward, False, self.clock == 3, {}


def follow(num_envs=16):
    return RecordEpisodeStatistics(SyncVectorEnv([Follow] * num_envs, autoreset_mode="SameStep"))


def test_the_single_file_learns():
    torch.manual_seed(0)
    config = single_file_ppo.Settings(gamma=0.0, learning_rate=3e-3)
    envs = follow()
    agent = Agent(envs.single_observation_space, envs.single_action_space)
    optimiser = torch.optim.Adam(agent.parameters(), config.learning_rate)
    rewards = []
    for data, _ in rollouts(envs, agent, config):
        update(agent, optimiser, data, config)
        rewards.append(float(data.reward.mean()))
        if len(rewards) == 20:
            break
    obs = torch.linspace(-0.9, 0.9, 7)[:, None]
    assert (agent.policy(obs).mean - obs).abs().mean() < 0.15  # 0.51 for a policy of zeros
    assert rewards[-1] > rewards[0] + 0.1


def test_the_single_file_sees_the_last_frame_of_an_episode_and_not_the_next_first():
    config = single_file_ppo.Settings(rollout=4)
    agent = Agent(Follow.observation_space, Follow.action_space)
    data, episodes = next(rollouts(follow(2), agent, config))
    twins, generators = [Follow(), Follow()], []
    for seed, twin in enumerate(twins):
        shown = [twin.reset(seed=seed)[0]]
        shown += [twin.step(np.zeros(1))[0] for _ in range(3)]
        generators.append(shown)
    expected = np.stack(generators, axis=1)
    np.testing.assert_array_equal(data.obs[:3], expected[:3])
    np.testing.assert_array_equal(data.next_obs[:3], expected[1:4])
    assert not np.array_equal(data.obs[3], expected[3])
    assert data.over[:, 0].tolist() == [False, False, True, False]
    assert len(episodes) == 2


def test_the_single_file_bootstraps_where_time_ran_out_and_not_where_it_ended():
    """Values by hand: V(s) = s, γ = 0.5, λ = 0.5."""
    agent = Agent(Follow.observation_space, Follow.action_space)
    agent.value = lambda obs: obs.squeeze(-1)
    column = torch.tensor
    data = Rollout(
        obs=column([[[1.0]], [[2.0]], [[3.0]]]), action=torch.zeros(3, 1, 1),
        reward=torch.ones(3, 1), next_obs=column([[[2.0]], [[4.0]], [[6.0]]]),
        terminated=column([[False], [False], [True]]), over=column([[False], [True], [True]]),
    )  # fmt: skip
    config = replace(single_file_ppo.Settings(), gamma=0.5, lam=0.5)
    found, target = advantages(agent, data, config)
    # δ = 1 + 2/2 − 1, 1 + 4/2 − 2, 1 − 3; the second and third begin anew
    assert found[:, 0].tolist() == [1 + 0.25 * 1, 1, -2]
    assert target[:, 0].tolist() == [2.25, 3, 1]


@pytest.mark.skipif(find_spec("tianshou") is None, reason="Tianshou is not installed")
@pytest.mark.filterwarnings("ignore")
def test_the_batch_for_tianshou_does_what_its_own_vector_environments_do():
    from integrations.tianshou_ppo import BatchedVectorEnv
    from tianshou.env import DummyVectorEnv

    batch = BatchedVectorEnv(
        gym.make_vec("Real-PushT-v0", num_envs=3, horizon=4, autoreset_mode="Disabled")
    )
    each = DummyVectorEnv([lambda: gym.make("Real-PushT-v0", horizon=4)] * 3)
    assert len(batch) == len(each) == 3
    assert batch.action_space == each.action_space
    rng = np.random.default_rng(0)
    for env in (batch, each):
        env.first = env.reset(seed=[3, 4, 5]) if env is batch else None
    theirs = [each.reset(env_id=i, seed=3 + i)[0][0] for i in range(3)]
    np.testing.assert_array_equal(batch.first[0], theirs)
    for _ in range(4):
        actions = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        for ours, other in zip(batch.step(actions)[:4], each.step(actions)[:4], strict=True):
            np.testing.assert_array_equal(ours, other)
    for env in (batch, each):
        env.again, info = env.reset(env_id=np.array([2]))
        assert info[0]["best_coverage"] == pytest.approx(info[0]["coverage"])
    np.testing.assert_array_equal(batch.again, each.again)

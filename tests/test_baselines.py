"""PPO and SAC of Stable-Baselines3, as agents that yield what they do."""

import copy
import zipfile
from dataclasses import replace
from itertools import islice, pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import SyncVectorEnv
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
from stable_baselines3.common.evaluation import evaluate_policy
from tiny_world import MEMORY, make_world_model

import baselines
from baselines import PPOConfig, SACConfig, Sb3Agent, Sb3VecEnv

ENVS, LATENT = 4, 8 + MEMORY
TINY_PPO = PPOConfig(n_steps=8, minibatches=2, n_epochs=2, hidden=(16,))
TINY_SAC = SACConfig(
    train_freq=4, gradient_steps=3, batch_size=16, buffer_size=64, learning_starts=40, hidden=(16,)
)
TINY = [(baselines.ppo, TINY_PPO), (baselines.sac, TINY_SAC)]
both = pytest.mark.parametrize(("make_agent", "config"), TINY, ids=["ppo", "sac"])


class Point(gym.Env):
    """It is pushed towards the origin. Its numbers are far from the order of one."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)
    action_space = Box(-1.0, 1.0, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.age = self.np_random.uniform(-3, 3, 2), 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.at, self.age = self.at + action, self.age + 1
        return self._obs(), -100 - float(np.abs(self.at).sum()), False, self.age == 6, {}

    def _obs(self):
        return np.array([1000 + 50 * self.at[0], self.at[1], 7], np.float32)


def points(num_envs=ENVS, autoreset_mode="SameStep"):
    return SyncVectorEnv([Point] * num_envs, autoreset_mode=autoreset_mode)


def dots(num_envs=16):
    return gym.make_vec("Real-Dot-v0", num_envs=num_envs, horizon=20, autoreset_mode="SameStep")


def mean_reward(agent, env, steps):
    """Of the deterministic policy, in always the same episodes."""
    obs, _ = env.reset(seed=100)
    rewards = []
    for _ in range(steps):
        obs, reward, *_ = env.step(agent.predict(obs)[0])
        rewards.append(reward.mean())
    return np.mean(rewards)


def seen(n=5):
    """Observations, of which some are far from any that points give."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 3)) * [200, 5, 5] + [1000, 0, 7]).astype(np.float32)


def test_ppo_learns_from_pixels():
    config = PPOConfig(n_steps=16, n_epochs=4, hidden=(32,), gamma=0.9)
    agent, judge = baselines.ppo(dots(), config), dots()
    before = mean_reward(agent, judge, 20)
    agent.learn(5_000)
    assert mean_reward(agent, judge, 20) > before + 0.1


@both
def test_records_count_what_was_done(make_agent, config):
    agent = make_agent(points(), config)
    updates = list(agent.updates(100))
    rollout = ENVS * (config.n_steps if make_agent is baselines.ppo else config.train_freq)
    assert [u.samples for u in updates] == [rollout * (i + 1) for i in range(-(-100 // rollout))]
    assert {u.local_samples for u in updates} == {0}
    assert all(0 < one.seconds < other.seconds for one, other in pairwise(updates))
    # a point's reward is of the order of −103; normalised, it would be of the order of −1
    assert all(-112 < u.reward < -100 for u in updates)
    each = np.diff([0] + [u.gradient_steps for u in updates])
    if make_agent is baselines.ppo:
        assert set(each) == {TINY_PPO.minibatches * TINY_PPO.n_epochs}
    else:  # 16 and 32 samples are not more than learning_starts; actor, critics, temperature
        assert each.tolist() == [0, 0, 9, 9, 9, 9, 9]
    assert all(bool(u.diagnostics) == (steps > 0) for u, steps in zip(updates, each, strict=True))
    assert agent.num_timesteps == updates[-1].samples
    assert agent.gradient_steps == updates[-1].gradient_steps


@both
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(make_agent, config):
    whole = list(make_agent(points(), config, seed=3).updates(150))
    agent = make_agent(points(), config, seed=3)
    parts = list(islice(agent.updates(150), 2))
    parts += agent.updates(150 - parts[-1].samples)
    assert len(parts) == len(whole)
    for part, expected in zip(parts, whole, strict=True):
        assert (part.samples, part.gradient_steps) == (expected.samples, expected.gradient_steps)
        assert (part.reward, part.diagnostics) == (expected.reward, expected.diagnostics)


def test_seconds_are_of_work_alone(monkeypatch):
    """Work takes no time on this clock, what the caller does between two updates takes 1000 s."""
    now = [0.0]
    monkeypatch.setattr("baselines.sb3_agent.perf_counter", lambda: now[0])
    agent = baselines.ppo(points(), TINY_PPO)
    train = agent.algorithm.train
    monkeypatch.setattr(agent.algorithm, "train", lambda: (train(), now.append(now.pop() + 1)))
    seconds = []
    for update in agent.updates(100):
        seconds.append(update.seconds)
        now[0] += 1000
    assert seconds == [1, 2, 3, 4]


def test_a_callback_of_another_kind_is_refused_before_anything_is_learned():
    agent = baselines.ppo(points(), TINY_PPO)
    with pytest.raises(TypeError, match=r"callback is a StopTrainingOnMaxEpisodes, expected a fun"):
        agent.learn(1_000, StopTrainingOnMaxEpisodes(1))
    assert agent.num_timesteps == 0


def test_learn_stops_when_it_is_told_to(capsys):
    agent, told = baselines.ppo(points(), TINY_PPO), []

    def callback(update):
        told.append(update)
        return len(told) < 2

    assert agent.learn(1_000, callback, progress_bar=True) is agent
    assert [u.samples for u in told] == [32, 64]
    assert "reward -10" in capsys.readouterr().err  # the bar
    agent.learn(33, told.append)
    assert [u.samples for u in told[2:]] == [96, 128]
    assert capsys.readouterr() == ("", "")


@both
def test_predict_takes_raw_observations_and_leaves_their_statistics(make_agent, config):
    agent = make_agent(points(), config).learn(100)
    statistics = agent.normaliser.obs_rms
    before = copy.deepcopy(vars(statistics))
    obs = seen()
    action, state = agent.predict(obs, None, np.zeros(5, bool))
    normal = np.clip((obs - statistics.mean) / np.sqrt(statistics.var + 1e-8), -10, 10)
    assert np.abs(normal).max() == 10  # the cut is tested too
    expected, _ = agent.algorithm.policy.predict(normal.astype(np.float32), deterministic=True)
    np.testing.assert_array_equal(action, expected)
    assert state is None
    assert action.dtype == np.float32
    one, _ = agent.predict(obs[0])
    np.testing.assert_allclose(one, action[0], rtol=1e-5)
    np.testing.assert_equal(vars(statistics), before)
    assert not np.allclose(expected, agent.algorithm.policy.predict(obs, deterministic=True)[0])


@both
def test_actions_are_in_the_box_whatever_is_seen(make_agent, config):
    agent = make_agent(points(), config).learn(100)
    obs = np.array([[1e30, -1e30, 0], [0, 0, 0], [-1e9, 1e9, 1e9]], np.float32)
    for deterministic in (True, False):
        action, _ = agent.predict(np.repeat(obs, 50, axis=0), deterministic=deterministic)
        assert action.shape == (150, 2)
        assert (np.abs(action) <= 1).all()
    with pytest.raises(ValueError, match="not finite"):
        agent.predict(np.array([[0, np.nan, 0]], np.float32))
    with pytest.raises(ValueError, match=r"shape \(4, 1\), expected \(n, \*\(3,\)\)"):
        agent.predict(np.zeros((4, 1), np.float32))
    with torch.no_grad():
        for parameter in agent.algorithm.policy.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises((FloatingPointError, ValueError)):
        agent.predict(obs)


class Blinding(Point):
    def __init__(self, what, since):
        self.what, self.since = what, since

    def step(self, action):
        obs, reward, *rest = super().step(action)
        bad = np.nan if self.age >= self.since else 1
        if self.what == "an observation":
            return (obs * np.float32(bad), reward, *rest)
        return (obs, reward * bad, *rest)


@both
@pytest.mark.parametrize("what", ["an observation", "a reward"])
def test_what_the_environment_returns_is_not_blamed_on_the_policy(make_agent, config, what):
    env = SyncVectorEnv([lambda: Blinding(what, 3)] * ENVS, autoreset_mode="SameStep")
    with pytest.raises(FloatingPointError, match=f"environment returned {what} that is not"):
        make_agent(env, config).learn(100)


@both
@pytest.mark.parametrize("total", [float("nan"), "64", None, True])
def test_what_is_no_number_of_timesteps_is_refused(make_agent, config, total):
    with pytest.raises(ValueError, match=r"total_timesteps is .*, expected at least 1"):
        make_agent(points(), config).learn(total)


def test_stable_baselines_evaluates_it():
    agent = baselines.ppo(points(), TINY_PPO)
    mean, _ = evaluate_policy(agent, Sb3VecEnv(points(2)), n_eval_episodes=4, warn=False)
    assert -6 * 112 < mean < -6 * 100


@both
def test_saved_and_loaded_it_goes_on(make_agent, config, tmp_path):
    agent = make_agent(points(), config, seed=5).learn(100)
    path = tmp_path / "run" / "agent.zip"
    agent.save(path)
    agent.save(path)  # over the one before
    assert [file.name for file in path.parent.iterdir()] == ["agent.zip"]
    loaded = Sb3Agent.load(path, points(3))
    for other in (loaded, Sb3Agent.load(str(path))):
        np.testing.assert_array_equal(other.predict(seen())[0], agent.predict(seen())[0])
        counts = (other.num_timesteps, other.gradient_steps, other.seconds, other.config)
        assert counts == (agent.num_timesteps, agent.gradient_steps, agent.seconds, config)
    update = next(loaded.updates(1))
    per_env = config.n_steps if make_agent is baselines.ppo else config.train_freq
    assert update.samples == agent.num_timesteps + 3 * per_env
    assert update.seconds > agent.seconds
    assert loaded.normaliser.obs_rms.count == agent.normaliser.obs_rms.count + 3 * (per_env + 1)


def test_a_loaded_agent_has_its_optimiser_and_begins_other_episodes(tmp_path):
    agent = baselines.ppo(points(), TINY_PPO, seed=5).learn(100)
    agent.save(tmp_path / "agent.zip")
    loaded = Sb3Agent.load(tmp_path / "agent.zip", env := points())
    states = [a.algorithm.policy.optimizer.state_dict()["state"] for a in (loaded, agent)]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    next(loaded.updates(1))
    first = points()
    baselines.ppo(first, TINY_PPO, seed=5).learn(1)
    assert env.np_random_seed != first.np_random_seed
    again = Sb3Agent.load(tmp_path / "agent.zip", twin := points())
    next(again.updates(1))
    assert env.np_random_seed == twin.np_random_seed


def test_a_loaded_sac_fills_its_buffer_before_it_trains(tmp_path):
    agent = baselines.sac(points(), TINY_SAC).learn(100)
    agent.save(tmp_path / "agent.zip")
    loaded = Sb3Agent.load(tmp_path / "agent.zip", points())
    steps = [u.gradient_steps - agent.gradient_steps for u in loaded.updates(64)]
    assert steps == [0, 0, 9, 18]


def test_a_file_that_is_not_whole_is_refused(tmp_path):
    agent, path = baselines.ppo(points(), TINY_PPO), tmp_path / "agent.zip"
    agent.save(path)
    plain = tmp_path / "plain.zip"
    agent.algorithm.save(plain)
    path.write_bytes(path.read_bytes()[:-100])
    for file in (path, plain):
        with pytest.raises(ValueError, match=f"{file.name} is not a whole file of an agent"):
            Sb3Agent.load(file)


def test_what_is_saved_is_whole_or_not_there(tmp_path, monkeypatch):
    agent, path = baselines.ppo(points(), TINY_PPO), tmp_path / "agent.zip"
    agent.save(path)
    before = path.read_bytes()

    def no_space(_):
        raise OSError("no space")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        agent.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_stable_baselines_loads_the_file_itself(tmp_path):
    agent = baselines.ppo(points(), TINY_PPO).learn(100)
    agent.save(tmp_path / "agent.zip")
    assert zipfile.is_zipfile(tmp_path / "agent.zip")
    theirs = PPO.load(tmp_path / "agent.zip", device="cpu")
    normal = agent.normaliser.normalize_obs(seen())
    np.testing.assert_array_equal(
        theirs.predict(normal, deterministic=True)[0], agent.predict(seen())[0]
    )


def test_learning_rates_decay_to_a_tenth():
    config = PPOConfig(
        n_steps=8, minibatches=1, n_epochs=1, hidden=(16,), learning_rate=1e-3, decay_samples=64
    )
    agent = baselines.ppo(points(), config)
    rates = [update.diagnostics["learning_rate"] for update in agent.updates(96)]
    np.testing.assert_allclose(rates, [5.5e-4, 1e-4, 1e-4])


@pytest.mark.parametrize("normalise", [False, True])
def test_what_is_not_to_be_normalised_is_not(normalise, tmp_path):
    config = PPOConfig(
        n_steps=8, minibatches=2, n_epochs=1, hidden=(16,), normalise_obs=normalise,
        normalise_reward=normalise,
    )  # fmt: skip
    agent = baselines.ppo(points(), config).learn(64)
    assert np.abs(agent.algorithm.rollout_buffer.observations).max() > 1000 or normalise
    assert np.abs(agent.algorithm.rollout_buffer.observations).max() <= 10 or not normalise
    assert (np.abs(agent.algorithm.rollout_buffer.rewards).max() > 90) != normalise
    agent.save(tmp_path / "agent.zip")
    loaded = Sb3Agent.load(tmp_path / "agent.zip", points())
    np.testing.assert_array_equal(loaded.predict(seen())[0], agent.predict(seen())[0])


@both
def test_it_learns_in_a_dreams_latents(make_agent, config):
    env = gym.make_vec(
        "WM-v0", world_model=make_world_model(), num_envs=ENVS, obs_type="latent", horizon=5,
        autoreset_mode="SameStep",
    )  # fmt: skip
    agent = make_agent(env, config)
    *_, last = agent.updates(64)
    assert last.gradient_steps > 0
    assert np.isfinite(last.reward)
    action, _ = agent.predict(np.zeros((3, LATENT), np.float32))
    assert action.shape == (3, 2)


@both
def test_another_autoreset_mode_is_refused(make_agent, config):
    with pytest.raises(ValueError, match='autoreset_mode="SameStep"'):
        make_agent(points(autoreset_mode="NextStep"), config)


class Buttons(Point):
    action_space = Discrete(2)


class Unbounded(Point):
    action_space = Box(-np.inf, np.inf, (2,))


class Numbered(Point):
    observation_space = Discrete(3)


@both
def test_pictures_are_normalised_or_refused(make_agent, config):
    assert next(make_agent(dots(2), config).updates(1)).samples in (2 * 4, 2 * 8)
    with pytest.raises(ValueError, match="pictures and normalise_obs is False"):
        make_agent(dots(2), replace(config, normalise_obs=False))


@pytest.mark.parametrize("kind", [Buttons, Unbounded, Numbered])
@both
def test_only_boxes_will_do(make_agent, config, kind):
    with pytest.raises(ValueError, match="expected a Box"):
        make_agent(SyncVectorEnv([kind], autoreset_mode="SameStep"), config)


def test_without_an_environment_there_is_nothing_to_learn_in(tmp_path):
    baselines.ppo(points(), TINY_PPO).save(tmp_path / "agent")
    assert [file.name for file in tmp_path.iterdir()] == ["agent.zip"]
    with pytest.raises(ValueError, match="no environment"):
        Sb3Agent.load(tmp_path / "agent").updates(1)
    with pytest.raises(ValueError, match="total_timesteps is 0, expected at least 1"):
        baselines.ppo(points(), TINY_PPO).updates(0)


BAD_PPO = [
    {"n_steps": 0}, {"n_steps": 2.5}, {"minibatches": True}, {"n_epochs": 0}, {"learning_rate": 0},
    {"learning_rate": float("nan")}, {"decay_samples": 0}, {"gamma": 1.1}, {"gae_lambda": -0.1},
    {"clip_range": 0}, {"ent_coef": -1}, {"vf_coef": float("inf")}, {"max_grad_norm": 0},
    {"target_kl": 0}, {"hidden": ()}, {"hidden": (0,)}, {"activation": "sine"},
    {"log_std_init": float("nan")}, {"clip_obs": 0},
]  # fmt: skip
BAD_SAC = [
    {"train_freq": 0}, {"gradient_steps": 0}, {"batch_size": 0}, {"buffer_size": 0},
    {"learning_starts": -1}, {"learning_starts": 300_000}, {"learning_rate": -1}, {"gamma": 2},
    {"tau": 1.5}, {"first_ent_coef": 0}, {"target_entropy": float("nan")}, {"decay_samples": -5},
    {"hidden": ()}, {"activation": "sine"}, {"clip_obs": -1},
]  # fmt: skip


@pytest.mark.parametrize(
    ("config", "bad"),
    [(PPOConfig, bad) for bad in BAD_PPO] + [(SACConfig, bad) for bad in BAD_SAC],
)
def test_bad_settings_are_refused_by_name(config, bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))} is .*expected"):
        config(**bad)


def test_minibatches_must_divide_a_rollout():
    config = PPOConfig(n_steps=8, minibatches=3)
    with pytest.raises(ValueError, match=r"4 · 8 = 32 samples do not make 3 equal minibatches"):
        baselines.ppo(points(), config)
    with pytest.raises(ValueError, match="choose other minibatches"):
        baselines.ppo(points(), PPOConfig(n_steps=8, minibatches=32))

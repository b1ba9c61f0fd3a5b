"""FoG's doors: what Stable-Baselines3's users expect, what is refused, and what guards learning."""

import importlib
import random
from dataclasses import replace
from itertools import islice, pairwise
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from differentiable_envs import LinearQuadratic, Treacherous
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor
from tiny_world import make_world_model

from baselines import Sb3VecEnv
from fog_agent import PRESETS, FoG, FoGConfig
from fog_agent.guard import PATIENCE

TINY = PRESETS["tiny"][1]
ENVS = 8
WINDOW = TINY.window * ENVS


def make(config=TINY, **kwargs):
    return FoG(LinearQuadratic(ENVS, **kwargs), config)


def judged():
    """In always the same episodes."""
    env = VecMonitor(Sb3VecEnv(LinearQuadratic(4, staggered=False)))
    env.seed(0)
    return env


def weights(agent):
    return [each.detach().clone() for each in agent.learner.parameters()]


def same(one, other):
    return all(map(torch.equal, one, other))


# ------------------------------------------------------------------ predict


def test_predict_takes_one_or_many():
    agent = make(actions=2).learn(WINDOW)
    obs = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    many, _ = agent.predict(obs)
    assert many.shape == (5, 2)
    assert many.dtype == np.float32
    for i in range(5):
        one, state = agent.predict(obs[i], ("a state",), np.zeros(1, bool))
        assert one.shape == (2,)
        assert state == ("a state",)
        np.testing.assert_allclose(one, many[i], rtol=1e-5)
    learned = torch.from_numpy(obs).requires_grad_()
    for same_obs in (obs.astype(np.float64), obs.tolist(), torch.from_numpy(obs), learned):
        np.testing.assert_array_equal(agent.predict(same_obs)[0], many)
    np.testing.assert_array_equal(agent.predict([1, -2])[0], agent.predict([1.0, -2.0])[0])


def test_predict_explores_only_if_it_is_asked_to():
    agent, other = make().learn(WINDOW), make().learn(WINDOW)
    obs = np.zeros((4, 2))
    np.testing.assert_array_equal(agent.predict(obs)[0], agent.predict(obs)[0])
    tried = [agent.predict(obs, deterministic=False)[0] for _ in range(200)]
    assert len(np.unique(tried)) == 800
    assert np.array_equal(tried[0], other.predict(obs, deterministic=False)[0])
    middle, best = np.median(tried), agent.predict(obs)[0][0, 0]
    assert abs(middle - best) < 0.2 * np.std(tried)


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        (np.zeros(3), r"shape \(3,\), expected \(2,\) or \(n, 2\)"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\), expected"),
        (0.0, r"shape \(\), expected"),
        ([np.nan, 0], "not finite"),
        ([[0, 0], [np.inf, 0]], "not finite"),
        (["a", "b"], "could not convert"),
    ],
)
def test_predict_refuses_what_is_no_observation(observation, message):
    with pytest.raises(ValueError, match=message):
        make().predict(observation)


@pytest.mark.parametrize(("centre", "reach"), [(0.0, 0.1), (5.0, 3.0)])
def test_actions_are_in_the_box_of_the_environment(centre, reach):
    class Careful(LinearQuadratic):
        def step_with_grad(self, action):
            assert ((action - centre).abs() <= reach * (1 + 1e-6)).all()
            return super().step_with_grad(action)

    env = Careful(ENVS, centre=centre, reach=reach)
    agent = FoG(env, TINY).learn(5 * WINDOW)
    obs = np.random.default_rng(0).normal(size=(500, 2)) * 50
    action, _ = agent.predict(obs, deterministic=False)
    assert all(env.single_action_space.contains(each) for each in action)
    assert np.ptp(action) > reach


# ------------------------------------------------------------------ Stable-Baselines3


def test_it_is_evaluated_like_a_stable_baselines_agent():
    agent = make()
    mean, deviation = evaluate_policy(agent, judged(), n_eval_episodes=8)
    assert mean < 0 < deviation
    returns, lengths = evaluate_policy(
        agent, judged(), n_eval_episodes=8, return_episode_rewards=True
    )
    assert np.mean(returns) == pytest.approx(mean)
    assert set(lengths) == {20}


def test_callbacks_of_stable_baselines(tmp_path):
    """On the same kind of environment, evaluated and kept."""
    agent, best = make(), []

    class OnBest(BaseCallback):
        def _on_step(self):
            best.append(self.parent.best_mean_reward)
            return True

    class Asked(BaseCallback):
        events = []  # noqa: RUF012

        def _on_training_start(self):
            self.events.append("start")
            assert self.locals["total_timesteps"] == 6 * WINDOW
            assert self.training_env is agent.env

        def _on_rollout_start(self):
            self.events.append("rollout")

        def _on_step(self):
            self.events.append(self.num_timesteps)
            assert self.locals["update"].samples == self.num_timesteps
            self.logger.record("my/number", 3.0)
            return True

        def _on_training_end(self):
            self.events.append("end")

    evaluation = EvalCallback(
        judged(), callback_on_new_best=OnBest(), n_eval_episodes=4, eval_freq=2,
        best_model_save_path=str(tmp_path / "best"), log_path=str(tmp_path), verbose=0,
    )  # fmt: skip
    checkpoints = CheckpointCallback(
        3, str(tmp_path / "kept"), save_replay_buffer=True, save_vecnormalize=True
    )
    asked = Asked()
    with pytest.warns(UserWarning, match="not of the same type"):
        assert agent.learn(6 * WINDOW, CallbackList([evaluation, checkpoints, asked])) is agent
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [64, 128, 192]
    assert best
    assert FoG.load(tmp_path / "best" / "best_model").num_timesteps in (64, 128, 192)
    kept = sorted(each.name for each in (tmp_path / "kept").iterdir())
    assert kept == ["rl_model_192_steps.zip", "rl_model_96_steps.zip"]
    steps = [each for n in range(1, 7) for each in (n * WINDOW, "rollout")]
    assert asked.events == ["start", "rollout", *steps, "end"]


class StopAt(BaseCallback):
    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def _on_step(self):
        return self.num_timesteps < self.samples


@pytest.mark.parametrize("wrapped", [lambda c: c, lambda c: [c], lambda c: (print_nothing, c)])
@pytest.mark.parametrize(
    "callback", [StopAt(2 * WINDOW), lambda update: update.samples < 2 * WINDOW]
)
def test_false_stops(callback, wrapped):
    agent = make().learn(100 * WINDOW, wrapped(callback))
    assert agent.num_timesteps == 2 * WINDOW


def print_nothing(update):
    """Returns None, which is not False."""


def test_all_callbacks_are_asked():
    told = []
    make().learn(100 * WINDOW, [lambda update: False, told.append])
    assert [update.samples for update in told] == [WINDOW]


def test_what_is_no_callback_is_refused():
    with pytest.raises(TypeError, match="callback is a int, expected a function"):
        make().learn(1, [3])


# ------------------------------------------------------------------ learn


def test_learn_goes_on_where_it_was():
    whole, parts = make(), make()
    updates = [u.reward for u in whole.updates(5 * WINDOW)]
    told = []
    parts.learn(2 * WINDOW, told.append)
    parts.learn(3 * WINDOW - 5, told.append)  # whole windows
    assert [u.reward for u in told] == updates
    assert parts.num_timesteps == whole.num_timesteps == 5 * WINDOW
    assert same(weights(parts), weights(whole))
    with pytest.raises(ValueError, match="total_timesteps is 0, expected at least 1"):
        parts.learn(0)


def test_an_interruption_leaves_an_agent_that_goes_on(tmp_path):
    whole, agent = make(), make()
    rewards = [u.reward for u in whole.updates(5 * WINDOW)]

    def interrupt(update):
        if update.samples == 2 * WINDOW:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        agent.learn(5 * WINDOW, interrupt)
    loaded = FoG.load(agent.save(tmp_path / "agent"), LinearQuadratic(ENVS))
    for each in (agent, loaded):
        assert [u.reward for u in each.updates(3 * WINDOW)] == rewards[2:]


def test_counts_are_of_all_that_was_done():
    agent = make()
    updates = list(agent.updates(3 * WINDOW))
    assert [u.samples for u in updates] == [WINDOW, 2 * WINDOW, 3 * WINDOW]
    assert [u.local_samples for u in updates] == [16, 32, 48]  # 1 look-ahead of 2 steps of 8
    assert [u.gradient_steps for u in updates] == [6, 12, 18]  # actor 2, α 1, critics 2, local 1
    assert agent.env.refreshed == 3
    assert 0 < updates[0].seconds < updates[1].seconds
    assert all(u.reward < 0 for u in updates)


def test_seconds_are_of_work_alone(monkeypatch):
    now, agent = [0.0], make()
    monkeypatch.setattr("fog_agent.fog.time.perf_counter", lambda: now[0])
    update = agent._update
    monkeypatch.setattr(agent, "_update", lambda env: (now.append(now.pop() + 1), update(env))[1])
    seconds = []
    for each in agent.updates(3 * WINDOW):
        seconds.append(each.seconds)
        now[0] += 1000
    assert seconds == [1, 2, 3]


@pytest.mark.parametrize("name", PRESETS)
def test_all_presets_learn(name):
    config = PRESETS[name][1]
    small = {
        "actor_hidden": (8,), "critic_hidden": (8,), "critic_updates": 2, "critic_batch": 16,
        "look_ahead_batch": 16, "refresh_batch": 16, "experience": 500,
    }  # fmt: skip
    agent = make(replace(config, **small))
    before = weights(agent)
    (update,) = agent.updates(1)
    changed = [not torch.equal(*pair) for pair in zip(weights(agent), before, strict=True)]
    names = [name for name, _ in agent.learner.named_parameters()]
    still = {n.split(".")[0] for n, change in zip(names, changed, strict=True) if not change}
    assert still <= ({"critics"} if config.entropy else {"critics", "log_temperature"})
    assert update.diagnostics["skipped"] == 0
    assert ("look_ahead_norm" in update.diagnostics) == (config.look_aheads > 0)


def test_the_value_bias_is_told_once_an_episode_has_passed():
    bias = [u.diagnostics["value_bias"] for u in make().updates(12 * WINDOW)]
    told = np.isfinite(bias)
    assert not told[0]
    assert told[-1]


# ------------------------------------------------------------------ bar and TensorBoard


def test_a_bar_is_shown(capsys):
    make().learn(3 * WINDOW, progress_bar=True)
    out, err = capsys.readouterr()
    assert not out
    assert "100%" in err
    assert "reward -" in err
    make().learn(WINDOW)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("where", ["_init_callback", "_on_step", "_on_training_end"])
def test_a_bar_is_closed_whatever_happens(where, monkeypatch):
    closed = []
    monkeypatch.setattr(
        "fog_agent.learning._bar",
        lambda total: SimpleNamespace(
            n=0, update=print, set_postfix_str=print, close=lambda: closed.append(total)
        ),
    )

    class Failing(BaseCallback):
        def _on_step(self):
            return True

    def fail(self):
        raise RuntimeError("a failure")

    monkeypatch.setattr(Failing, where, fail)
    with pytest.raises(RuntimeError, match="a failure"):
        make().learn(WINDOW, Failing(), progress_bar=True)
    assert closed == [WINDOW]


class Writer:
    def __init__(self, folder):
        self.folder, self.scalars, self.flushed = folder, {}, 0

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def flush(self):
        self.flushed += 1


def test_tensorboard_is_told(monkeypatch, tmp_path):
    module = SimpleNamespace(SummaryWriter=Writer)
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    agent = FoG(LinearQuadratic(ENVS), TINY, tensorboard_log=tmp_path)
    monkeypatch.undo()
    told = []
    agent.learn(4 * WINDOW, told.append, log_interval=2)
    writer = agent.logger._writer
    assert writer.folder == str(tmp_path)
    assert writer.flushed == 2
    assert {step for _, step in writer.scalars} == {WINDOW, 3 * WINDOW}
    for update in (told[0], told[2]):
        assert writer.scalars["rollout/reward", update.samples] == update.reward
        for name, value in update.diagnostics.items():
            assert writer.scalars[f"train/{name}", update.samples] is value
    agent.logger.record("mine", 3.0)
    agent.logger.record("a text", "no number")
    numbers = [np.float32(0.5), np.int64(2), torch.tensor(4.0), np.array(5)]
    for i, number in enumerate(numbers):
        agent.logger.record(f"number {i}", number)
    agent.logger.record("several", np.zeros(2))
    agent.logger.dump(7)
    assert writer.scalars["mine", 7] == 3
    assert [writer.scalars[f"number {i}", 7] for i in range(4)] == [0.5, 2, 4, 5]
    assert not {("a text", 7), ("several", 7)} & set(writer.scalars)
    with pytest.raises(ValueError, match="log_interval is 0, expected at least 1"):
        agent.learn(1, log_interval=0)


def test_without_tensorboard_it_says_so(monkeypatch, tmp_path):
    def missing(name):
        raise ImportError(f"No module named {name}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        FoG(LinearQuadratic(ENVS), TINY, tensorboard_log=tmp_path)


# ------------------------------------------------------------------ the guard


def treacherous(poisoned, **settings):
    config = replace(TINY, look_aheads=0, **settings)
    return FoG(Treacherous(ENVS, poisoned=poisoned), config)


def test_an_update_by_a_gradient_that_is_not_finite_is_left_out():
    agent = treacherous(lambda window: window in (3, 4))
    updates, actor = [], []
    for update in agent.updates(6 * WINDOW):
        updates.append(update)
        actor.append([each.detach().clone() for each in agent.learner.actor.parameters()])
    moved = [not same(one, other) for one, other in pairwise(actor)]
    poisoned = [np.isnan(u.diagnostics["actor_norm"]) for u in updates]
    assert poisoned == [False, False, True, True, False, False]  # window 0 was the first reset's
    assert moved == [True, False, False, True, True]
    assert [u.diagnostics["skipped"] for u in updates] == [0, 0, 1, 1, 0, 0]
    assert all(each.isfinite().all() for each in weights(agent))


def test_too_many_of_them_are_an_error():
    agent = treacherous(lambda window: True)
    before = [each.detach().clone() for each in agent.learner.actor.parameters()]
    with pytest.raises(FloatingPointError, match=f"actor: no finite .* last {PATIENCE} windows"):
        agent.learn(100 * WINDOW)
    assert agent.num_timesteps == PATIENCE * WINDOW
    assert same(agent.learner.actor.parameters(), before)


def test_so_are_too_many_in_look_aheads_alone():
    agent = make()

    class Broken:
        def predict(self, obs, action):
            return agent.env.law.predict(obs, action) * torch.nan

        reward_of = agent.env.law.reward_of

    agent.learn(WINDOW)
    step = agent.env.step_with_grad
    law, agent.env.surrogate = agent.env.law, Broken()

    def step_by_law(action):
        agent.env.surrogate = law
        try:
            return step(action)
        finally:
            agent.env.surrogate = Broken()

    agent.env.step_with_grad = step_by_law
    with pytest.raises(FloatingPointError, match="look-aheads: no finite gradient"):
        agent.learn(100 * WINDOW)


def test_a_refresh_that_is_refused_is_left_out(monkeypatch):
    """Where gradients were not finite; any other refusal is an error."""
    agent = make(replace(TINY, refreshes=2))
    refresh, asked = agent.env.refresh, []

    def now_and_then(batch):
        asked.append(len(batch))
        if len(asked) in (3, 5, 6):
            raise FloatingPointError(
                "a loss of inf and gradients of norm nan, expected finite ones"
            )
        return refresh(batch)

    monkeypatch.setattr(agent.env, "refresh", now_and_then)
    updates = list(agent.updates(4 * WINDOW))
    assert [u.diagnostics["skipped"] for u in updates] == [0, 1, 2, 0]
    assert ["refresh/size" in u.diagnostics for u in updates] == [True, True, False, True]

    def never(batch):
        raise ValueError("this world model has no logged transitions to rehearse")

    monkeypatch.setattr(agent.env, "refresh", never)
    with pytest.raises(ValueError, match="no logged transitions"):
        agent.learn(1)


# ------------------------------------------------------------------ what is refused


def pixels(**kwargs):
    return gym.make_vec(
        "WM-v0", num_envs=2, world_model=make_world_model(),
        **{"autoreset_mode": "SameStep", **kwargs},
    ).unwrapped  # fmt: skip


def test_environments_that_cannot_be_learned_in_are_refused(unchecked_types):
    with pytest.raises(ValueError, match=r"the observation space is .*obs_type='latent'"):
        FoG(pixels())
    with pytest.raises(ValueError, match=r"autoreset_mode is .*NEXT_STEP.*expected .*SAME_STEP"):
        FoG(pixels(obs_type="latent", autoreset_mode="NextStep"))
    with pytest.raises(ValueError, match=r"autoreset_mode is .*NEXT_STEP.*expected .*SAME_STEP"):
        FoG(LinearQuadratic(2, mode=AutoresetMode.NEXT_STEP))
    with pytest.raises(TypeError, match="env is a RealVectorEnv, expected a DifferentiableEnv"):
        FoG(gym.make_vec("Real-PushT-v0", autoreset_mode="SameStep"))
    single = gym.make("WM-v0", world_model=make_world_model(), obs_type="latent")
    with pytest.raises(TypeError, match=r"a OrderEnforcing, .*: gym\.make_vec of a dream"):
        FoG(single)
    single.close()
    with pytest.raises(ValueError, match=r"env is None, expected an environment; FoG\.load"):
        FoG(None)
    env = LinearQuadratic(2)
    env.single_action_space = Box(-np.inf, np.inf, (1,), np.float32)
    with pytest.raises(ValueError, match=r"action space is .*expected a bounded Box"):
        FoG(env)
    with pytest.raises(ValueError, match=r"experience is 256, expected at least one .* 300 env"):
        FoG(LinearQuadratic(300), TINY)


def test_who_looks_ahead_needs_a_light_model():
    env = LinearQuadratic(ENVS)
    del env.surrogate
    with pytest.raises(ValueError, match=r"env\.surrogate must offer.*FoGConfig\(look_aheads=0\)"):
        FoG(env, TINY)
    env.surrogate = env.law
    FoG(env, TINY)


# ------------------------------------------------------------------ seeds


def test_equal_seeds_learn_equally_and_others_differently():
    agents = [make(replace(TINY, seed=seed)).learn(3 * WINDOW) for seed in (1, 1, 2)]
    assert same(weights(agents[0]), weights(agents[1]))
    assert not same(weights(agents[0]), weights(agents[2]))


def test_global_generators_are_left_alone(unchecked_types, tmp_path):
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    agent = make().learn(2 * WINDOW)
    agent.predict(np.zeros(2), deterministic=False)
    FoG.load(agent.save(tmp_path / "agent"), LinearQuadratic(ENVS)).learn(WINDOW)
    after = random.getstate(), np.random.get_state()[1], torch.get_rng_state()  # noqa: NPY002
    assert after[0] == before[0]
    assert np.array_equal(after[1], before[1])
    assert torch.equal(after[2], before[2])


def test_it_is_another_s_generator_that_changes_nothing():
    told = []
    for seed in (1, 2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            told.append([u.reward for u in islice(make().updates(4 * WINDOW), 4)])
    assert told[0] == told[1]


def test_the_defaults_are_those_of_the_first_preset():
    assert next(iter(PRESETS.values()))[1] == FoGConfig()
    assert FoG(LinearQuadratic(ENVS)).config == FoGConfig()


class Poisoned(LinearQuadratic):
    """Of which one reward is not a number."""

    def step_with_grad(self, action):
        step = super().step_with_grad(action)
        return replace(
            step, reward=torch.where(torch.arange(len(step.reward)) == 1, torch.nan, 0.0)
        )


def test_values_that_are_not_finite_stop_it_before_anything_is_learned():
    agent = FoG(Poisoned(4), TINY)
    before = {name: value.clone() for name, value in agent.learner.state_dict().items()}
    with pytest.raises(FloatingPointError, match="a reward that is not finite"):
        agent.learn(1)
    after = agent.learner.state_dict()
    assert all(torch.equal(after[n], v) for n, v in before.items() if n.startswith("actor."))
    assert agent.num_timesteps == 4 * TINY.window  # which were seen, though


class Blinding(LinearQuadratic):
    """Which shows numbers that are none, from a step on, and refuses actions that are none."""

    def __init__(self, *args, since, **settings):
        super().__init__(*args, **settings)
        self.since, self.steps = since, 0

    def begin_window(self, *args, **settings):
        return self._shown(super().begin_window(*args, **settings))

    def step_with_grad(self, action):
        if not torch.isfinite(action).all():
            raise ValueError("action is not finite")
        self.steps += 1
        step = super().step_with_grad(action)
        return replace(step, obs=self._shown(step.obs))

    def _shown(self, obs):
        return obs * torch.nan if self.steps >= self.since else obs


@pytest.mark.parametrize("since", [0, 1, TINY.window])
def test_an_observation_that_is_not_finite_is_not_blamed_on_the_action(since):
    agent = FoG(Blinding(4, since=since), TINY)
    with pytest.raises(FloatingPointError, match="environment returned an observation that is not"):
        agent.learn(2 * 4 * TINY.window)
    assert torch.isfinite(agent.learner.normaliser(torch.ones(1, 2))).all()


def test_a_policy_that_has_diverged_is_blamed_for_its_action():
    agent = FoG(Blinding(4, since=1000), TINY)
    with torch.no_grad():
        for weights in agent.learner.actor.parameters():
            weights.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="policy has diverged: it chose an action"):
        agent.learn(1)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("total", [float("nan"), "64", None, True, [64]])
def test_what_is_no_number_of_timesteps_is_refused(total):
    with pytest.raises(ValueError, match=r"total_timesteps is .*, expected at least 1"):
        make().learn(total)


class Lending(LinearQuadratic):
    """Whose local model lends logged steps out."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        rng = torch.Generator().manual_seed(0)
        size = self.single_observation_space.shape[0]
        self.surrogate.logged = lambda: {
            "obs": 5 + torch.rand(10, size, generator=rng),
            "action": torch.zeros(10, self.single_action_space.shape[0]),
            "reward": torch.zeros(10),
            "next_obs": 5 + torch.rand(10, size, generator=rng),
        }


def test_experience_begins_with_logged_steps():
    agent = FoG(Lending(4), TINY)
    update = next(agent.updates(1))
    assert update.samples == 4 * TINY.window  # logs are no samples
    assert agent.experience.seen == update.samples + 10
    assert (agent.experience.rows["obs"][:10] >= 5).all()
    assert agent.learner.normaliser.used_mean.mean() > 4
    without = FoG(Lending(4), replace(TINY, logs=False))
    next(without.updates(1))
    assert without.experience.seen == without.num_timesteps

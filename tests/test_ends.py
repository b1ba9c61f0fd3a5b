"""Episodes that end by themselves: learned from logs, dreamt, judged, and kept apart from time."""

import json
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from test_evaluation import Replay, replay
from test_training import CONTEXT, denoiser, spec, trainer, windows_of
from tiny_world import make_world_model

from fog_agent import PRESETS, FoG
from wm_gym.conformance import check_vector_env
from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.envs.dream_starts import LoggedStarts
from wm_gym.evaluation.ends import CLOSE, Ends, ends, ends_text
from wm_gym.evaluation.rollouts import Dreamer
from wm_gym.models.folder import CONFIG
from wm_gym.models.keypoints.global_model import KeypointGlobalModel
from wm_gym.models.keypoints.heads import Heads
from wm_gym.models.protocol import Outcome
from wm_gym.models.world_model import WorldModel
from wm_gym.programs.play_session import Session
from wm_gym.training.keypoints.heads import JudgingLoss
from wm_gym.training.starts import choose_starts


def ending_model(bias=4.0, seed=0):
    """A world model that has learned nothing, and says that some steps are the last."""
    model = make_world_model(seed=seed)
    plain = model.global_model
    told = plain.heads.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = Heads(**{**{k: v for k, v in told.items() if k[0] != "_"}, "ends": True})
        torch.nn.init.normal_(heads.end[-1].weight, std=3.0)
    torch.nn.init.constant_(heads.end[-1].bias, bias)
    heads.load_state_dict(plain.heads.state_dict(), strict=False)
    model.global_model = KeypointGlobalModel(plain.autoencoder, plain.denoiser, heads)
    return model.eval().requires_grad_(False)


def dreams(model, num_envs=6, **settings):
    settings = {"deterministic": True, "horizon": 8, "obs_type": "latent", **settings}
    return gym.make_vec("WM-PushT-v0", num_envs=num_envs, world_model=model, **settings).unwrapped


def played(env, steps=12):
    rng = np.random.default_rng(0)
    env.reset(seed=0)
    actions = rng.uniform(-1, 1, (steps, *env.action_space.shape)).astype(np.float32)
    return [env.step(action) for action in actions]


def test_without_ends_heads_are_what_they_were():
    heads = make_world_model().global_model.heads
    assert heads.end is None
    assert not any(name.startswith("end.") for name in heads.state_dict())
    latents = torch.randn(2, 5, heads.config.latent_size)
    assert not heads.judge(latents[0], torch.zeros(5, 2), latents[1]).ended.any()


@pytest.mark.parametrize("mode", ["SameStep", "NextStep"])
def test_a_dream_ends_where_its_head_says_so_and_nothing_else_changes(mode):
    some = played(dreams(ending_model(), autoreset_mode=mode))
    terminated, truncated = (np.stack([step[i] for step in some]) for i in (2, 3))
    assert terminated.any()
    assert not terminated.all()
    plain = played(dreams(make_world_model(), autoreset_mode=mode))
    first = int(terminated.any(1).argmax())
    for one, other in zip(some[: first + 1], plain, strict=False):
        np.testing.assert_array_equal(one[1], other[1])
        going = ~one[2]
        np.testing.assert_array_equal(one[0][going], other[0][going])
        assert not other[2].any()
    if mode == "SameStep":
        assert some[first][4]["_final_obs"].tolist() == terminated[first].tolist()
        for i in np.flatnonzero(terminated[first]):
            np.testing.assert_array_equal(some[first][4]["final_obs"][i], plain[first][0][i])
    never = played(dreams(ending_model(bias=-1e4), autoreset_mode=mode))
    assert not any(step[2].any() for step in never)
    assert any(step[3].any() for step in never)
    assert truncated.sum() < sum(step[3].sum() for step in never)


def test_it_is_a_vector_environment_like_any_other(unchecked_types):
    how = {"world_model": ending_model(), "horizon": 5, "deterministic": True}
    check_vector_env(
        lambda num_envs, mode: gym.make_vec("WM-v0", num_envs=num_envs, autoreset_mode=mode, **how),
        make_single=lambda: gym.make("WM-v0", **how),
    )


def test_a_single_dream_is_over_when_it_ended_and_a_snapshot_knows():
    env = gym.make("WM-PushT-v0", world_model=ending_model(bias=1e4), obs_type="latent").unwrapped
    env.reset(seed=0)
    before = env.get_state()
    *_, terminated, truncated, _ = env.step(np.zeros(2, np.float32))
    assert (terminated, truncated) == (True, False)
    after = env.get_state()
    env.set_state(before)
    assert env.step(np.zeros(2, np.float32))[2]
    env.set_state(after)
    with pytest.raises(ResetNeeded):
        env.step(np.zeros(2, np.float32))
    env.reset()
    env.step(np.zeros(2, np.float32))


@pytest.mark.parametrize("gradient", ["surrogate", "none", "diffusion"])
def test_steps_with_gradients_end_where_plain_steps_do(gradient):
    model = ending_model()
    plain, hooked = dreams(model), dreams(model, gradient=gradient)
    expected = played(plain, 6)
    hooked.reset(seed=0)
    hooked.begin_window()
    rng, ended = np.random.default_rng(0), 0
    actions = rng.uniform(-1, 1, (6, *plain.action_space.shape)).astype(np.float32)
    for action, (_, reward, terminated, truncated, _) in zip(actions, expected, strict=True):
        out = hooked.step_with_grad(torch.from_numpy(action))
        np.testing.assert_array_equal(out.terminated.numpy(), terminated)
        np.testing.assert_array_equal(out.truncated.numpy(), truncated)
        np.testing.assert_array_equal(out.reward.detach().double().numpy(), reward)
        ended += int(terminated.sum())
    assert ended


def test_real_systems_end_by_time_alone():
    env = gym.make_vec("Real-PushT-v0", num_envs=2, horizon=3, world_model=ending_model(bias=1e4),
                       obs_type="latent", autoreset_mode="SameStep").unwrapped  # fmt: skip
    steps = played(env, 3)
    assert not any(step[2].any() for step in steps)
    assert steps[-1][3].all()


def test_ends_can_be_left_out():
    env = dreams(ending_model(bias=1e4), ends=False, autoreset_mode="SameStep")
    assert not env.can_terminate
    steps = played(env)
    assert not any(step[2].any() for step in steps)
    assert any(step[3].any() for step in steps)


def test_an_agent_that_looks_ahead_is_warned():
    _, tiny = PRESETS["tiny"]
    how = {"num_envs": 2, "autoreset_mode": "SameStep"}
    with pytest.warns(UserWarning, match="look-aheads know nothing"):
        FoG(dreams(ending_model(), **how), tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FoG(dreams(ending_model(), **how), replace(tiny, look_aheads=0))
        FoG(dreams(make_world_model(), **how), tiny)


def test_where_both_are_played_a_dream_that_ended_can_be_resynced():
    real = gym.make("Real-PushT-v0").unwrapped
    dream = gym.make("WM-PushT-v0", world_model=ending_model(bias=1e4)).unwrapped
    session = Session(real, dream)
    session.step(np.zeros(2, np.float32))
    assert session.now.over
    assert (session.now.real.over, session.now.dream.over) == (False, True)
    session.resync()
    assert not session.now.over
    session.step(np.zeros(2, np.float32))
    assert session.steps == 2


# On disk


def end_of(model):
    return model.global_model.heads.end


def test_ends_survive_the_disk_and_folders_without_them_are_read(tmp_path):
    model = ending_model()
    model.save_pretrained(tmp_path / "ends")
    again = WorldModel.from_pretrained(tmp_path / "ends")
    assert again.global_model.heads.config.ends is True
    assert torch.equal(end_of(again)[-1].weight, end_of(model)[-1].weight)
    make_world_model().save_pretrained(tmp_path / "older")
    path = tmp_path / "older" / CONFIG
    config = json.loads(path.read_text())
    assert "ends" not in config["parts"]["heads"]["config"]  # so older versions read it too
    assert end_of(WorldModel.from_pretrained(tmp_path / "older")) is None
    config["parts"]["heads"]["config"]["ends"] = False
    path.write_text(json.dumps(config))
    assert end_of(WorldModel.from_pretrained(tmp_path / "older")) is None
    for odd in (1, "yes", None):
        config["parts"]["heads"]["config"]["ends"] = odd
        path.write_text(json.dumps(config))
        with pytest.raises(ValueError, match=r"heads\.ends is .*, expected a bool"):
            WorldModel.from_pretrained(tmp_path / "older")
    del config["parts"]["heads"]["config"]["ends"], config["parts"]["heads"]["config"]["width"]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="heads needs exactly the settings"):
        WorldModel.from_pretrained(tmp_path / "older")


# Learned


@pytest.fixture(scope="module")
def strays(tmp_path_factory):
    """A stranger's episodes, which end at one wall and only there."""
    folder = tmp_path_factory.mktemp("strays")
    recipe = Recipe(env_id="strangers:Stranger-v0", episodes=60, steps=30, behaviours=("smooth",))
    list(collect_episodes(recipe, folder, workers=1))
    return Dataset.open(folder)


def test_heads_learn_where_episodes_end(strays):
    frames = strays.frames(np.arange(strays.num_frames))[..., 0].reshape(strays.num_frames, -1)
    row, column = np.divmod(frames.argmax(1), strays.spec.picture[1])
    latents = np.stack([row / 7 - 1, column / 9 - 1] * 3, axis=1).astype(np.float32)
    dreamer = denoiser(strays, latents, action_size=2)
    sizes = {"latent_size": 6, "action_size": 2, "width": 32, "ends": True}
    scales = {n: getattr(dreamer.config, n) for n in ("latent_scale", "change_scale")}
    run = trainer(Heads(**sizes, **scales), updates=400, ema=0.9)
    updates = list(run.train(windows_of(strays, latents), JudgingLoss(dreamer)))
    batch = windows_of(strays, latents, batch_size=2000).batch(10**6)
    now, following = batch.latents[:, CONTEXT - 1], batch.latents[:, CONTEXT]
    said = run.average.judge(now, batch.action[:, CONTEXT - 1], following).ended
    truth = batch.terminated[:, CONTEXT - 1]
    assert 0.01 < truth.float().mean() < 0.3
    assert (said & truth).sum() > 0.9 * truth.sum()
    assert (said & ~truth).sum() < 0.1 * truth.sum()
    assert updates[-1].scores["end_error"] < 0.5 * updates[0].scores["end_error"]


def test_no_dream_begins_at_an_end(strays):
    """Neither of chosen starts nor of all that was logged."""
    logged = LoggedStarts(strays, spec(strays, prefill=3))
    assert len(logged) == strays.num_frames - strays.ended.sum()
    shown = [logged[i].frames[-1] for i in range(len(logged))]
    rows = [np.arange(e["start"], e["start"] + e["length"]) for e in strays.index]
    kept = [each[:-1] if over else each for each, over in zip(rows, strays.ended, strict=True)]
    np.testing.assert_array_equal(np.stack(shown), strays.frames(np.concatenate(kept)))
    last = strays.index["start"] + strays.index["length"] - 1
    ends_there = last[strays.terminated[last - 1]]
    assert len(ends_there) > 10
    shortest = int(strays.index["length"].min())
    starts = choose_starts(strays, spec(strays, prefill=shortest - 1), count=400, seed=0)
    seen = {start.frames[-1].tobytes() for start in map(starts.__getitem__, range(len(starts)))}
    assert not seen & {strays.frames(np.array([row]))[0].tobytes() for row in ends_there}


# Judged


class Ender(Replay):
    """Knows the log by heart, and says that episodes end some steps before they do, or never."""

    def __init__(self, dataset, early):
        super().__init__(dataset)
        self.early = early

    def outcome(self, before, after, error):
        row = before.numpy() + self.early
        ended = self.dataset.terminated[np.minimum(row, self.dataset.num_frames - 1)]
        nothing = torch.zeros(len(row))
        return Outcome(
            reward=nothing, progress=nothing, ended=torch.from_numpy(ended), uncertainty=error
        )


def ender(dataset, early):
    """Its local model is never asked."""
    made = make_world_model()
    return WorldModel(Ender(dataset, early), made.local_model, card=made.card)


@pytest.mark.parametrize(
    ("early", "expected"),
    [(0, (1, 0, 0)), (CLOSE, (1, 0, 0)), (CLOSE + 1, (0, 1, 0)), (10**9, (0, 0, 1))],
)
def test_dreams_that_end_in_time_early_or_not_at_all_are_counted(strays, early, expected):
    dreamer = Dreamer(model=ender(strays, early), denoising_steps=1, seed=0)
    found = ends(dreamer, strays, count=20, seed=0)
    assert (found.in_time, found.early, found.missed) == expected
    assert found.ended <= 20
    assert found.going > 0
    assert (found.false > 0) == (early == CLOSE + 1)


def test_dreams_that_end_for_no_reason_are_counted(strays):
    never_right = ender(strays, 0)
    never_right.global_model.outcome = lambda before, after, error: replace(
        Ender.outcome(never_right.global_model, before, after, error), ended=before % 7 == 0
    )
    found = ends(Dreamer(model=never_right, denoising_steps=1, seed=0), strays, count=50, seed=0)
    assert found.steps >= 7
    assert found.false == 1


def test_ends_are_judged_where_most_episodes_are_short(strays, tmp_path):
    """Dreams are as long as the usual episode that ended, and those too short for it are told."""
    dreamer = Dreamer(model=ender(strays, 0), denoising_steps=1, seed=0)
    found = ends(dreamer, strays, count=len(strays.index), seed=0)
    length, over = strays.index["length"], strays.ended
    assert 5 <= found.steps <= 15
    assert found.steps == np.clip(np.median(length[over]) - 4, 5, 15).astype(int)
    assert found.ended == (over & (length >= 4 + found.steps)).sum()
    assert found.short == over.sum() - found.ended


def test_where_nothing_ended_there_is_nothing_to_tell(tmp_path):
    recipe = Recipe(env_id="Real-PushT-v0", episodes=1, steps=30)
    list(collect_episodes(recipe, tmp_path, workers=1))
    dataset = Dataset.open(tmp_path)
    assert ends(Dreamer(model=replay(dataset), denoising_steps=1, seed=0), dataset,
                count=3, seed=0) is None  # fmt: skip


def test_what_is_told_of_ends():
    found = Ends(
        steps=15, ended=200, in_time=0.9, early=0.06, missed=0.04, short=3, going=250, false=0.012
    )
    assert ends_text("any", found) == (
        "any: of 200 dreams of 15 steps that lead to an end, 90% end in the last 3 steps, 6% "
        "before, 4% not by then; of 250 that do not, 1.2% end (3 episodes that ended were too "
        "short)"
    )

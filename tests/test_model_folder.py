"""A model folder is whole or refused, by name; what is saved is what is loaded."""

import errno
import json
import os
import pickle
import struct
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from tiny_world import make_logged, make_world_model

from wm_gym.envs.dream_starts import prefill_of
from wm_gym.models.colours import to_colour
from wm_gym.models.folder import CONFIG, LOGGED, STARTS, files_of, located
from wm_gym.models.keypoints.kind import KEYPOINTS
from wm_gym.models.keypoints.local_model import KeypointLocalModel
from wm_gym.models.kinds import kind_named, kinds
from wm_gym.models.logged import Logged
from wm_gym.models.noise import shaped_noise
from wm_gym.models.starts import Start, Starts
from wm_gym.models.trees import leaves
from wm_gym.models.world_model import Card, WorldModel

pytestmark = pytest.mark.usefixtures("unchecked_types")  # as in production

FILES, PART_FILES = sorted(files_of(KEYPOINTS)), KEYPOINTS.files
HEADS, DREAMER, LOCAL = (PART_FILES[name] for name in ("heads", "global_model", "local_model"))
ALL = (CONFIG, *PART_FILES.values(), STARTS, LOGGED)
"""All that can be damaged; who reads the card is not a machine."""


MODEL = make_world_model()


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """The bytes of each file of a sound folder."""
    folder = tmp_path_factory.mktemp("sound") / "world-model"
    MODEL.save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(contents, tmp_path):
    return fill(tmp_path / "models" / "world-model", contents)


def fill(folder: Path, contents: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def edit_config(folder: Path, change) -> None:
    config = json.loads((folder / CONFIG).read_text())
    change(config)
    (folder / CONFIG).write_text(json.dumps(config))


def vouch(folder: Path, name: str, content: bytes) -> None:
    """Put this in the file, and in the config that it is right."""
    (folder / name).write_bytes(content)
    digest = sha256(content).hexdigest()
    edit_config(folder, lambda config: config["sha256"].update({name: digest}))


def split(content: bytes) -> tuple[dict, bytes]:
    """Header and tensors of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join(header: object, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def rollout(model: WorldModel, steps: int = 5) -> torch.Tensor:
    """All numbers that a dream consists of, from the model's first start."""
    prefill = prefill_of([model.starts[0]], model.spec.prefill, model.device)
    begun = model.begin(prefill)
    state, told = begun.state, leaves(begun)
    action = torch.linspace(-1, 1, steps * model.spec.action_size).reshape(steps, 1, -1)
    local = model.local_model
    embedding = local.embed(prefill.frames[:, -1], prefill.proprio[:, -1])
    features = local.begin(embedding, prefill.task)
    told += [features]
    for step in range(steps):
        noise = shaped_noise(torch.tensor([7]), torch.tensor([step]), model.spec.noise_shape)
        out = model.step(state, action[step], noise)
        state, seen = out.state, model.decode(out.state)
        frame = to_colour(seen.frames)
        features = local.follow(features, action[step], local.embed(frame, seen.proprio))
        told += [*leaves(out), seen.frames, frame, features]
        told += [local.reward_of(features, action[step]), local.progress_of(features)]
        told += [local.reconstruct(features), local.expected(features, action[step]).deviation]
        told += [model.picture(features).frames]
    return torch.cat([each.flatten().double() for each in told])


def settings(model: WorldModel) -> list[dict]:
    parts = KEYPOINTS.parts_of(model.global_model, model.local_model).values()
    return [{k: v for k, v in part.config.items() if not k.startswith("_")} for part in parts]


def load_or_reason(folder: Path) -> WorldModel | str:
    try:
        return WorldModel.from_pretrained(folder)
    except (ValueError, FileNotFoundError) as error:
        return str(error)


def refusal(folder: Path) -> str:
    """Why the folder is refused, by an error that names one of its files."""
    reason = load_or_reason(folder)
    assert isinstance(reason, str), "it was not refused"
    assert any(str(folder / name) in reason for name in FILES), reason
    assert len(reason) < 600
    return reason


def is_sound(folder: Path) -> bool:
    """Whether it dreams, of finite numbers; if not, it is refused by name."""
    loaded = load_or_reason(folder)
    if isinstance(loaded, str):
        assert any(str(folder / name) in loaded for name in FILES), loaded
        assert len(loaded) < 600
        return False
    assert torch.isfinite(rollout(loaded, steps=3)).all()
    return True


# What is saved is what is loaded.


@pytest.mark.parametrize("system", ["PushT", "Dot"])
def test_what_is_saved_is_what_is_loaded_bit_for_bit(tmp_path, system):
    model = make_world_model(system)
    model.save_pretrained(tmp_path / "model")
    loaded = WorldModel.from_pretrained(str(tmp_path / "model"))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert settings(loaded) == settings(model)
    assert loaded.card == model.card
    weights = loaded.state_dict()
    assert list(weights) == list(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[name]), name
    for name in ("png", "end", "first", "action"):
        came, expected = (getattr(each.starts, name) for each in (loaded, model))
        np.testing.assert_array_equal(came, expected, strict=True)
    for name in ("embedding", "action", "reward"):
        came, expected = (getattr(each.logged, name) for each in (loaded, model))
        assert torch.equal(came, expected), name
    assert torch.equal(rollout(loaded), rollout(model))


@pytest.mark.parametrize(("name", "file"), [("starts", STARTS), ("logged", LOGGED)])
def test_a_model_without_something_is_loaded_without_it(tmp_path, name, file):
    model = make_world_model()
    setattr(model, name, None)
    model.save_pretrained(tmp_path / "model")
    assert file not in read(tmp_path / "model")
    assert getattr(WorldModel.from_pretrained(tmp_path / "model"), name) is None


def test_a_model_that_computes_in_bfloat16_is_saved_in_float32(tmp_path):
    make_world_model().cast(torch.bfloat16).save_pretrained(tmp_path / "model")
    loaded = WorldModel.from_pretrained(tmp_path / "model")
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32}


def test_the_card_says_what_was_asked_for(tmp_path):
    model = make_world_model()
    model.save_pretrained(tmp_path / "one")
    assert "made: at random" in (tmp_path / "one/README.md").read_text()
    model.save_pretrained(tmp_path / "two", readme="Mine: 世界")
    assert (tmp_path / "two/README.md").read_text("utf-8") == "Mine: 世界"


def test_saving_and_loading_draw_no_global_random_numbers(folder, tmp_path):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    WorldModel.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_nothing_is_pickled_or_unpickled(folder, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("pickle was used")

    for module, names in ((pickle, ["load", "loads", "dump", "dumps", "Unpickler", "Pickler"]),
                          (torch, ["load", "save"]), (np, ["load", "save"])):  # fmt: skip
        for name in names:
            monkeypatch.setattr(module, name, fail)
    WorldModel.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert read(tmp_path / "again") == read(folder)


def test_starts_are_indexed_like_a_sequence():
    starts = make_world_model().starts
    assert [len(start.frames) for start in starts] == [4, 1, 4, 1]
    assert [len(start.action) for start in starts] == [3, 0, 3, 0]
    np.testing.assert_array_equal(starts[-1].frames, starts[3].frames)
    with pytest.raises(IndexError):
        starts[4]
    with pytest.raises(ValueError, match="no starts to pack"):
        Starts.pack([])


# A folder is replaced as a whole or not at all.


def test_an_older_model_is_replaced(folder):
    other = make_world_model(seed=1)
    other.starts = other.logged = None
    other.save_pretrained(folder)
    assert torch.equal(rollout(with_starts(WorldModel.from_pretrained(folder))),
                       rollout(with_starts(other)))  # fmt: skip
    assert not (folder / STARTS).exists()
    assert not (folder / LOGGED).exists()
    assert os.listdir(folder.parent) == [folder.name]


def with_starts(model: WorldModel) -> WorldModel:
    model.starts = MODEL.starts
    return model


def test_an_empty_folder_is_filled_and_a_link_followed(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    for _ in range(2):
        make_world_model().save_pretrained(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["link", "target"]
    WorldModel.from_pretrained(tmp_path / "target")


DISK_IS_FULL = OSError(errno.ENOSPC, "No space left on device")


def fails_at(monkeypatch, owner, name, count, error, *, after=False):
    """The count-th call fails, before or after it has done its work."""
    real, calls = getattr(owner, name), []

    def call(*args, **kwargs):
        calls.append(args)
        if len(calls) == count and not after:
            raise error
        result = real(*args, **kwargs)
        if len(calls) == count:
            raise error
        return result

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("older", [True, False])
@pytest.mark.parametrize("error", [DISK_IS_FULL, KeyboardInterrupt(), RuntimeError("odd")])
def test_a_failure_while_writing_leaves_what_was_there(folder, monkeypatch, error, older):
    if not older:
        folder = folder.parent / "new" / "model"
        folder.parent.mkdir()
    before = read(folder) if older else None
    for count in range(1, 2 * len(ALL) + 2, 2):  # a file is synced, then its folder
        with monkeypatch.context() as patch:
            fails_at(patch, os, "fsync", count, error)
            with pytest.raises(
                type(error), match="disk is full" if error is DISK_IS_FULL else None
            ):
                make_world_model(seed=1).save_pretrained(folder)
        assert os.listdir(folder.parent) == ([folder.name] if older else [])
        assert not older or read(folder) == before


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "bad"), KeyboardInterrupt()])
def test_a_failure_while_replacing_leaves_the_old_or_the_new(
    folder, monkeypatch, error, count, after
):
    before = read(folder)
    with monkeypatch.context() as patch:
        fails_at(patch, Path, "rename", count, error, after=after)
        with pytest.raises(type(error)):
            make_world_model(seed=1).save_pretrained(folder)
    assert os.listdir(folder.parent) == [folder.name]
    replaced = (count, after) == (2, True)
    assert (read(folder) == before) is not replaced
    WorldModel.from_pretrained(folder)


def not_ours(tmp_path: Path) -> dict[str, Path]:
    (file := tmp_path / "file").write_text("a thesis")
    (notes := tmp_path / "notes").mkdir()
    (notes / "thesis.txt").write_text("a thesis")
    other = fill(tmp_path / "other", {CONFIG: b'{"model_type": "bert"}', "README.md": b"BERT"})
    damaged = fill(tmp_path / "damaged", {CONFIG: b"{", "README.md": b"?"})
    mine = tmp_path / "mine"
    make_world_model().save_pretrained(mine)
    (mine / "plots").mkdir()
    (pipe := tmp_path / "pipe").mkdir()
    os.mkfifo(pipe / CONFIG)
    return {"file": file, "notes": notes, "other": other, "damaged": damaged, "mine": mine,
            "pipe": pipe}  # fmt: skip


def test_what_is_not_only_a_world_model_is_not_overwritten(tmp_path):
    for path in not_ours(tmp_path).values():
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FileExistsError, match=f"{path.name} exists and is not, or not only"):
            make_world_model().save_pretrained(path)
        assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "a thesis"


def broken(kind: str) -> WorldModel:
    model = make_world_model(seed=1)
    if kind == "weights":
        model.global_model.heads.reward[0].weight.fill_(torch.nan)
    elif kind == "starts":
        model.starts = make_world_model("Dot").starts
    elif kind == "logged":
        model.logged = make_world_model("Dot").logged
    elif kind == "local":
        model.local_model.eye.out.bias.fill_(torch.inf)
    else:
        facts = {"nan": {"score": np.nan}, "array": {"score": np.ones(2)}}.get(kind, {})
        model.card = Card(system="PushT", denoising_steps=int(kind != "steps"), facts=facts)
    return model


@pytest.mark.parametrize(("kind", "reason"), [
    ("weights", r"heads.safetensors is refused: reward.0.weight holds numbers that are not finite"),
    ("starts", r"starts.safetensors is refused: its actions are of shape"),
    ("logged", r"logged.safetensors is refused: its action is of shape \(3, 4, 3\) or "),
    ("local", r"local_model.safetensors is refused: eye.out.bias holds numbers that are not fin"),
    ("nan", "the world model's card is no JSON: Out of range float"),
    ("array", "the world model's card is no JSON: Object of type ndarray"),
    ("steps", "config.json is refused: denoising_steps is 0, expected 1 to 100"),
])  # fmt: skip
def test_a_model_that_nobody_could_load_replaces_none(folder, kind, reason):
    before = read(folder)
    with pytest.raises(ValueError, match=reason):
        broken(kind).save_pretrained(folder)
    assert read(folder) == before
    assert os.listdir(folder.parent) == [folder.name]


# Where a folder comes from.


def test_a_model_of_the_hub_is_asked_for_by_files_revision_and_token(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda repo, **more: asked.append((repo, more)) or str(folder),
    )
    assert located("user/repo", token="t") == folder
    assert located("user/re.po@refs/pr/1") == folder
    files = sorted({name for kind in kinds() for name in files_of(kind_named(kind))})
    assert set(FILES) <= set(files)
    assert asked == [
        ("user/repo", {"revision": None, "token": "t", "allow_patterns": files}),
        ("user/re.po", {"revision": "refs/pr/1", "token": None, "allow_patterns": files}),
    ]


def test_without_a_network_the_hub_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"'user/repo' is no folder here and could not be "
                       r"fetched from the Hub: [\s\S]*network there"):  # fmt: skip
        located("user/repo")


@pytest.mark.parametrize("name", ["", ".", "no-such", "./no/such", "user/..", "user/repo@../../x",
                                  "a/b/c", "\0", "x" * 5000, "https://hub/user/repo"])  # fmt: skip
def test_a_name_of_nothing_is_refused_without_asking_the_hub(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises((ValueError, FileNotFoundError), match=r"world_model|\. is missing|config"):
        WorldModel.from_pretrained(name)


@pytest.mark.parametrize("name", [3, b"push-t", ["push-t"]])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(TypeError, match=f"world_model is a {type(name).__name__}, expected a pack"):
        WorldModel.from_pretrained(name)


def hub_cache(folder: Path, root: Path) -> Path:
    """The same files, as the Hub keeps them."""
    blobs, snapshot = root / "models--u--r/blobs", root / "models--u--r/snapshots/abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in folder.iterdir():
        (blobs / f"{path.name}-hash").write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}-hash")
    return snapshot


def test_the_hubs_cache_loads_though_its_files_are_links(folder, tmp_path, monkeypatch):
    snapshot = hub_cache(folder, tmp_path / "hub")
    assert torch.equal(rollout(WorldModel.from_pretrained(snapshot)), rollout(MODEL))
    monkeypatch.chdir(snapshot)
    WorldModel.from_pretrained(".")
    (tmp_path / "link").symlink_to(snapshot)
    WorldModel.from_pretrained(tmp_path / "link")
    share_blobs(tmp_path / "hub")
    WorldModel.from_pretrained(snapshot)


def share_blobs(cache: Path) -> None:
    """As huggingface_hub 2 does: what a repository's blobs are lies beside the repositories."""
    (cache / "blobs/ab").mkdir(parents=True)
    for blob in (cache / "models--u--r/blobs").iterdir():
        blob.rename(cache / "blobs/ab" / blob.name)
        blob.symlink_to(f"../../blobs/ab/{blob.name}")


@pytest.mark.parametrize("name", ALL)
def test_a_link_that_leaves_the_folder_is_refused(folder, tmp_path, name):
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    assert f"{name} is refused: it is a link that leaves the folder" in refusal(folder)
    (folder / name).unlink()
    (folder / name).write_bytes((tmp_path / "elsewhere").read_bytes())
    snapshot = hub_cache(folder, tmp_path / "hub")
    (snapshot / name).unlink()
    (snapshot / name).symlink_to("../../secret")
    (snapshot.parent.parent / "secret").write_bytes((folder / name).read_bytes())
    assert f"{name} is refused: it is a link that leaves the folder" in refusal(snapshot)


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_dangling_link(path: Path) -> None:
    path.symlink_to("nothing")


def put_loop(path: Path) -> None:
    path.symlink_to(path.name)


def put_sparse_giant(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize("name", [CONFIG, HEADS, LOCAL, STARTS, LOGGED])
@pytest.mark.parametrize(("put", "reason"), [
    (put_fifo, "not a plain file"), (Path.mkdir, "not a plain file"),
    (put_device, "a link that leaves"), (put_dangling_link, "nothing"), (put_loop, "loop"),
    (put_sparse_giant, "1099511627776 bytes, expected 1 to"), (Path.touch, "0 bytes, expected"),
])  # fmt: skip
def test_what_is_no_file_is_refused(folder, name, put, reason):
    (folder / name).unlink()
    put(folder / name)
    assert name in (told := refusal(folder))
    assert reason in told


@pytest.mark.parametrize("name", ALL)
def test_a_lost_file_is_missed(folder, name):
    (folder / name).unlink()
    assert f"{name} is missing" in refusal(folder)


class Api:
    """Stands in for `huggingface_hub.HfApi`."""

    asked: list = []  # noqa: RUF012

    def __init__(self, token):
        self.asked.append(token)

    def create_repo(self, repo_id, **more):
        self.asked.append(("create", repo_id, more))
        return SimpleNamespace(repo_id=f"user/{repo_id}")

    def upload_folder(self, *, repo_id, folder_path):
        self.asked.append((repo_id, {p.name: p.read_bytes() for p in Path(folder_path).rglob("*")}))
        return f"https://hub/{repo_id}"


def test_a_push_uploads_the_folder_and_nothing_else(contents, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(Api, "asked", [])
    assert (
        make_world_model().push_to_hub("repo", token="t", private=True) == "https://hub/user/repo"
    )
    create = ("create", "repo", {"private": True, "exist_ok": True})
    assert Api.asked == ["t", create, ("user/repo", contents)]
    assert set(contents) == set(FILES) - {"curves.png"}


def test_a_failed_push_says_where_to_and_a_broken_model_makes_no_repository(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr(Api, "asked", [])
    with pytest.raises(RuntimeError, match=r"was not uploaded to 'repo': .* not finite"):
        broken("weights").push_to_hub("repo")
    assert Api.asked == [None]
    monkeypatch.setattr(Api, "upload_folder", lambda *_, **__: 1 / 0)
    with pytest.raises(RuntimeError, match="was not uploaded to 'user/repo': division by zero"):
        make_world_model().push_to_hub("repo")


# Damage.


def test_every_flipped_byte_of_weights_and_starts_is_found(folder):
    for name in ALL[1:]:
        content = bytearray((folder / name).read_bytes())
        size = len(content)
        for place in {*range(9), *range(9, size, size // 5), size - 1}:
            content[place] ^= 1 << place % 8
            (folder / name).write_bytes(content)
            assert name in refusal(folder)
            content[place] ^= 1 << place % 8
        (folder / name).write_bytes(content)
    WorldModel.from_pretrained(folder)


@pytest.mark.parametrize("name", [HEADS, LOCAL, STARTS, LOGGED])
def test_a_flipped_byte_of_a_header_is_refused_even_if_vouched_for(folder, name):
    content = bytearray((folder / name).read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    for place in {*range(10), *range(10, end, max(1, end // 12))}:
        content[place] ^= 1 << place % 7
        vouch(folder, name, bytes(content))
        is_sound(folder)
        content[place] ^= 1 << place % 7


def test_a_flipped_byte_of_the_config_is_refused_or_harmless(folder):
    content = bytearray((folder / CONFIG).read_bytes())
    refused = 0
    places = range(0, len(content), 23)
    for place in places:
        content[place] ^= 1 << place % 8
        (folder / CONFIG).write_bytes(content)
        refused += not is_sound(folder)
        content[place] ^= 1 << place % 8
    assert refused > len(places) / 2


def test_every_cut_is_found(folder):
    for name in ALL:
        content = (folder / name).read_bytes()
        size = len(content)
        for length in {0, 1, 7, 8, 9, *range(10, size, size // 3), size - 1}:
            (folder / name).write_bytes(content[:length])
            assert name in refusal(folder)
            if length > 9 and name != CONFIG:
                vouch(folder, name, content[:length])
                assert name in refusal(folder)
        vouch(folder, name, content) if name != CONFIG else (folder / name).write_bytes(content)
    WorldModel.from_pretrained(folder)


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


ODD_VALUES = {
    "null": "null", "empty text": '""', "-1": "-1", "0": "0", "1e308": "1e308", "1e400": "1e400",
    "NaN": "NaN", "-Infinity": "-Infinity", "true": "true", "1.5": "1.5", "list": "[]",
    "table": "{}", "huge": "1" + "0" * 400, "digits": "9" * 5000, "long": json.dumps("x" * 300_000),
    "text": '"\u4e16\ud83c\udf0d"', "surrogate": r'"\ud800"', "nested": nested(100_000),
    "shallow": nested(40), "4096": "4096",
}  # fmt: skip


def keys_of(table: dict, path: tuple = ()) -> list[tuple]:
    found = []
    for key, value in table.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += keys_of(value, (*path, key))
    return found


def mutated(config: dict, path: tuple, raw: str) -> str:
    """The config as text, with raw JSON in place of one value."""
    table = config = json.loads(json.dumps(config))
    for key in path[:-1]:
        table = table[key]
    table[path[-1]] = "@here@"
    return json.dumps(config).replace('"@here@"', raw)


@pytest.mark.parametrize("value", ODD_VALUES)
def test_every_setting_may_be_anything_and_is_refused_or_harmless(folder, value):
    config = {"kind": KEYPOINTS.name, **json.loads((folder / CONFIG).read_text())}
    for path in keys_of(config):
        text = mutated(config, path, ODD_VALUES[value])
        (folder / CONFIG).write_text(text, "utf-8", "surrogatepass")
        assert not is_sound(folder) or path[0] in ("system", "facts", "denoising_steps") or (
            path[-1].endswith(("scale", "_mean")) or path[-1].startswith("sigma")
        ), path  # fmt: skip


def changed(config: dict, path: str, value: object) -> None:
    *way, last = path.split(".")
    for key in way:
        config = config[key]
    config[last] = value


@pytest.mark.parametrize(("path", "value", "reason"), [
    ("format", 1, "its format is 1, expected 2"),
    ("format", 3, "its format is 3, expected 2"),
    ("format", True, "its format is True, expected 2"),
    ("denoising_steps", 101, "denoising_steps is 101, expected 1 to 100"),
    ("kind", "dreams", "kind 'dreams' is not registered here, expected one of .*keypoints"),
    ("parts.heads.class", "os.system", "expected one of class Heads"),
    ("parts.spare", {}, "parts are .*, expected"),
    ("parts.heads.config.colour", 1, "heads needs exactly the settings"),
    ("parts.autoencoder.config.frame_shape", [96, 96], "frame_shape is .96, 96., expected 3 num"),
    ("parts.autoencoder.config.frame_shape", [96, 96, 0], "frame_shape is 0, expected 1 to 4096"),
    ("parts.autoencoder.config.patch", 7, "patch is 7, expected a divisor"),
    ("parts.autoencoder.config.channels", 17, "multiple of 8"),
    ("parts.global_model.config.blocks", 65, "blocks is 65, expected 1 to 64"),
    ("parts.global_model.config.action_encoding", "one-hot", "action_encoding 'one-hot', expected"),
    ("parts.global_model.config.change_scale", 0.0, "change_scale is 0.0, expected 1e-06 to 1e"),
    ("parts.global_model.config.sigma_min", -0.1, "sigma_min is -0.1, expected 1e-06"),
    ("parts.local_model.class", "Heads", "expected one of class LocalModel"),
    ("parts.local_model.config.patch", 7, "patch is 7, expected a divisor of the frame's 96×96"),
    ("parts.local_model.config.frame_shape", [90, 96, 3], "a divisor of the frame's 90×96"),
    ("parts.local_model.config.frame_shape", [48, 96, 3], "parts disagree: .* frames of "),
    ("parts.local_model.config.channels", 1, "channels is 1, expected at least 2"),
    ("parts.local_model.config.memory", 0, "memory is 0, expected 1 to 4096"),
    ("parts.local_model.config.scale", 0.0, "scale is 0.0, expected 1e-06"),
    ("parts.heads.config.reward_scale", 1e308, "reward_scale is 1e.308, expected 1e-06 to"),
])  # fmt: skip
def test_a_wrong_setting_is_named(folder, path, value, reason):
    edit_config(folder, lambda config: changed(config, path, value))
    with pytest.raises(ValueError, match=rf"config.json is refused: .*{reason}"):
        WorldModel.from_pretrained(folder)


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "0 bytes"), (b"{}", "its format is None"), (b"[]", "its format is None"),
    (b"null", "format"), (b'"x"', "format"), (b"\xff\xfe{}", "codec can't decode"),
    (b"\xef\xbb\xbf{}", "BOM"), (b'{"format": 1, "format": 1}', "a key twice, among"),
    (b"\0" * 100, "Expecting value"), (b"{" * 100_000, "property name"),
    (nested(100_000).encode(), "recursion"), (b'{"format": 1}\n{}', "Extra data"),
])  # fmt: skip
def test_what_is_no_config_is_refused(folder, content, reason):
    (folder / CONFIG).write_bytes(content)
    assert reason in refusal(folder)


def test_files_of_different_models_in_one_folder_are_refused(folder, tmp_path):
    make_world_model(seed=1).save_pretrained(tmp_path / "other")
    for name in ALL[1:]:
        (folder / name).write_bytes((tmp_path / "other" / name).read_bytes())
        assert "SHA-256 is not the one in config.json" in refusal(folder)
    (folder / CONFIG).write_bytes((tmp_path / "other" / CONFIG).read_bytes())
    WorldModel.from_pretrained(folder)


def test_parts_that_do_not_fit_together_are_refused(folder, tmp_path):
    make_world_model("Dot").save_pretrained(tmp_path / "other")
    vouch(folder, HEADS, (tmp_path / "other" / HEADS).read_bytes())
    edit_config(folder, lambda c: changed(c, "parts.heads.config.action_size", 3))
    assert "parts disagree: latents of {8}, actions of {2, 3} numbers" in refusal(folder)


@pytest.mark.parametrize(("changes", "reason"), [
    ({"keypoints": 5}, "parts disagree: latents of {8, 10}"),
    ({"action_size": 3}, "parts disagree: actions of {2, 3} numbers, frames of {(96, 96, 3)}"),
    ({"frame_shape": (96, 96, 1)}, "parts disagree: actions of {2} numbers, frames of {("),
    ({"memory": 13}, None),
])  # fmt: skip
def test_a_local_model_of_other_sizes_is_refused_unless_they_are_its_own(folder, changes, reason):
    settings = {**json.loads((folder / CONFIG).read_text())["parts"]["local_model"]["config"]}
    other = KeypointLocalModel(**{**settings, **changes})
    vouch(folder, LOCAL, save_tensors(other.state_dict()))
    edit_config(folder, lambda config: config["parts"]["local_model"]["config"].update(changes))
    if reason is None:
        assert is_sound(folder)
    else:
        assert reason in refusal(folder)


def with_tensors(change):
    def make(content: bytes) -> bytes:
        tensors = load_tensors(content)
        change(tensors)
        return save_tensors(tensors)

    return make


def with_entry(**more):
    """The first tensor's entry in the header changed."""

    def make(content: bytes) -> bytes:
        header, tensors = split(content)
        key = next(key for key in header if key != "__metadata__")
        entry = {k: v for k, v in {**header[key], **more}.items() if v != "gone"}
        return join({**header, key: entry}, tensors)

    return make


def with_header(header: object):
    return lambda content: join(header, split(content)[1])


def overlapping(content: bytes) -> bytes:
    """Two tensors of one size share their bytes; the bytes of one are left out."""
    header, tensors = split(content)
    shared = header["reward.1.norm.weight"]["data_offsets"]
    header["reward.1.norm.bias"]["data_offsets"] = shared
    return join(header, tensors)


WRONG_PARTS = {
    "trailing garbage": (lambda c: c + b"x" * 100, r"it has \d+ bytes, expected \d+"),
    "a tensor too many": (with_tensors(lambda t: t.update(spare=torch.ones(1))), "'spare'. differ"),
    "a tensor too few": (with_tensors(lambda t: t.pop("reward.0.bias")), "'reward.0.bias'. differ"),
    "another dtype": (
        with_tensors(lambda t: t.update({"reward.0.bias": t["reward.0.bias"].double()})),
        r"reward.0.bias is .*F64.*, expected F32 or F16 \[32\]",
    ),
    "another shape": (
        with_tensors(lambda t: t.update({"reward.0.bias": t["reward.0.bias"][None]})),
        r"reward.0.bias is .*1, 32.*, expected F32 or F16 \[32\]",
    ),
    "NaN": (with_tensors(lambda t: t["reward.0.bias"].fill_(torch.nan)), "bias holds numbers that"),
    "infinity": (with_tensors(lambda t: t["reward.0.bias"].fill_(torch.inf)), "bias holds numbers"),
    "negative offsets": (with_entry(data_offsets=[-4, 60]), "refused"),
    "reversed offsets": (with_entry(data_offsets=[64, 0]), "refused"),
    "far offsets": (with_entry(data_offsets=[1 << 62, (1 << 62) + 128]), "refused"),
    "texts for offsets": (with_entry(data_offsets=["0", "128"]), "is .*, expected F32"),
    "three offsets": (with_entry(data_offsets=[0, 1, 2]), "is .*, expected F32"),
    "fractions for offsets": (with_entry(data_offsets=[0.0, 128.0]), "is .*, expected F32"),
    "no offsets": (with_entry(data_offsets="gone"), "is .*, expected F32"),
    "no dtype": (with_entry(dtype="gone"), "is .*, expected F32"),
    "a number for a shape": (with_entry(shape=32), "is .*, expected F32"),
    "a giant shape": (with_entry(shape=[1 << 40, 1 << 40]), "is .*, expected F32"),
    "overlapping tensors": (overlapping, "refused"),
    "a list for a header": (with_header([]), "its header is not a table"),
    "a nested header": (lambda c: struct.pack("<Q", 200_000) + nested(100_000).encode(), "recurs"),
    "a key twice": (
        lambda c: struct.pack("<Q", 16) + b'{"a": 1, "a": 2}' + c, "it has a key twice",
    ),
    "no text for a header": (lambda c: struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc" + c, "decode"),
    "a giant header": (lambda c: struct.pack("<Q", 1 << 62) + c[8:], "header is damaged or cut"),
    "a pickle": (lambda c: pickle.dumps({"a": 1}), "header is damaged or cut"),
    "another part": (lambda c: None, "it does not hold the expected tensors"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_PARTS)
@pytest.mark.parametrize("name", [HEADS, LOCAL])
def test_a_wrong_part_is_refused_even_if_vouched_for(folder, name, kind):
    make, reason = WRONG_PARTS[kind]
    content = make((folder / name).read_bytes()) or (folder / DREAMER).read_bytes()
    vouch(folder, name, content)
    with pytest.raises(ValueError, match=rf"{name} is refused: .*{reason}|{reason}"):
        WorldModel.from_pretrained(folder)
    assert name in refusal(folder)


def repacked(change) -> object:
    """A change of the arrays of starts."""

    def make(starts: Starts) -> Starts:
        arrays = {n: getattr(starts, n).copy() for n in ("png", "end", "first", "action")}
        return Starts(**{**arrays, **change(arrays)})

    return make


def of_frames(shape: tuple, steps: int = 0):
    frames = np.zeros((steps + 1, *shape), np.uint8)
    return lambda _: Starts.pack([Start(frames=frames, action=np.zeros((steps, 2), np.float32))])


def of_png(png: bytes):
    one = {"end": np.array([len(png)]), "first": np.array([0, 1]), "action": np.zeros((1, 2), "f4")}
    return lambda _: Starts(png=np.frombuffer(png, np.uint8), **one)


def png_of(height: int, width: int, pixels: bytes, filter_: int = 0) -> bytes:
    def chunk(kind, body):
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BIG = 1 << 62
WRONG_STARTS = {
    "damaged picture": (repacked(lambda a: {"png": a["png"] ^ (np.arange(len(a["png"])) == 300)}),
                        "picture 0: .*(checksum|damaged)"),
    "no picture": (of_png(b"x" * 500), "picture 0: a PNG of 500 bytes and"),
    "a short picture": (of_png(b"x"), "picture 0: a PNG of 1 bytes and 0 × 0 pixels"),
    "another size": (of_frames((48, 64, 3)), "and 48 × 64 pixels, expected .* and 96 × 96"),
    "grey": (of_frames((96, 96, 1)), r"picture 0: it is of shape \(96, 96, 1\), expected"),
    "a long window": (of_frames((96, 96, 3), steps=4), "a window has 5 frames, expected up to 4"),
    "a giant picture": (of_png(png_of(60_000, 60_000, b"")), "and 60000 × 60000 pixels, expected"),
    "a bomb": (of_png(png_of(96, 96, bytes(200_000_000))), "194466 bytes and 96 × 96 pixels, exp"),
    "NaN": (repacked(lambda a: {"action": a["action"] * np.float32(np.nan)}), "or not finite"),
    "another action": (repacked(lambda a: {"action": a["action"][:, :1].copy()}), "its actions"),
    "a lost action": (repacked(lambda a: {"action": a["action"][1:].copy()}), "do not add up"),
    "no windows": (repacked(lambda a: {"first": a["first"][:1].copy()}), "do not add up"),
    "nothing": (repacked(lambda a: {n: v[:0].copy() for n, v in a.items()}), "do not add up"),
    "an empty window": (repacked(lambda a: {"first": np.sort([0, *a["first"]])}), "do not add up"),
    "windows beyond": (repacked(lambda a: {"first": a["first"] + 1}), "do not add up"),
    "backwards": (repacked(lambda a: {"end": a["end"][::-1].copy()}), "do not add up"),
    "far ends": (repacked(lambda a: {"end": np.array([BIG, -BIG] * 4 + [BIG, len(a["png"])])}),
                 "do not add up"),
    "a matrix": (repacked(lambda a: {"first": a["first"][None].copy()}), "do not add up"),
    "a number": (repacked(lambda a: {"end": a["end"][-1].copy()}), "do not add up"),
    "another dtype": (repacked(lambda a: {"end": a["end"].astype("i4")}), "end is .*I32.*, exp"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_STARTS)
def test_wrong_starts_are_refused_even_if_vouched_for(folder, kind):
    make, reason = WRONG_STARTS[kind]
    starts = make(MODEL.starts)
    arrays = {
        n: np.ascontiguousarray(getattr(starts, n)) for n in ("png", "end", "first", "action")
    }
    vouch(folder, STARTS, save_arrays(arrays))
    before = psutil.Process().memory_info().rss
    with pytest.raises(ValueError, match=rf"starts.safetensors is refused: .*{reason}"):
        WorldModel.from_pretrained(folder)
    assert psutil.Process().memory_info().rss - before < 100e6


def relogged(**change):
    """Its arrays, some of them changed."""

    def make(logged: Logged) -> dict[str, torch.Tensor]:
        tensors = {name: getattr(logged, name) for name in ("embedding", "action", "reward")}
        return tensors | {name: each(tensors[name]) for name, each in change.items()}

    return make


def in_place(place: tuple, value: float):
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor = tensor.clone()
        tensor[place] = value
        return tensor

    return change


def every(change):
    return relogged(embedding=change, action=change, reward=change)


WRONG_LOGGED = {
    "another embedding": (relogged(embedding=lambda x: x[..., :7]),
                          r"embedding is of shape \(3, 5, 7\) or not finite, expected \(3, 5, 8\)"),
    "another action": (relogged(action=lambda x: x[..., :1]), r"action .*expected \(3, 4, 2\)"),
    "a lost action": (relogged(action=lambda x: x[:, 1:]), r"action .*expected \(3, 4, 2\)"),
    "a lost window": (relogged(reward=lambda x: x[1:]), r"reward .*\(2, 4\).*expected \(3, 4\)"),
    "a reward too many": (relogged(reward=lambda x: torch.zeros(3, 5)), r"expected \(3, 4\)"),
    "an axis more": (relogged(reward=lambda x: x[..., None]), r"reward .*\(3, 4, 1\).*\(3, 4\)"),
    "an axis less": (relogged(embedding=lambda x: x[:, :, 0]), r"embedding .*expected \(3, 5, 8\)"),
    "a vector": (relogged(embedding=lambda x: x[0, :, 0]), r"\(5,\), expected at least one window"),
    "a number": (every(lambda x: x.flatten()[0]), r"\(\), expected at least one window of two"),
    "no windows": (every(lambda x: x[:0]), r"\(0, 5, 8\), expected at least one window of two"),
    "one frame": (relogged(embedding=lambda x: x[:, :1], action=lambda x: x[:, :0],
                           reward=lambda x: x[:, :0]), r"\(3, 1, 8\), expected at least one"),
    "NaN embedding": (relogged(embedding=in_place((1, 2, 3), torch.nan)), "embedding is .*finite"),
    "infinite action": (relogged(action=in_place((2, 3, 1), torch.inf)), "action is .*finite"),
    "NaN reward": (relogged(reward=in_place((0, 0), -torch.inf)), "reward is .*finite"),
    "another dtype": (relogged(reward=lambda x: x.double()), "reward is .*F64.*, expected F32"),
    "a tensor too many": (lambda logged: {**relogged()(logged), "spare": torch.ones(1)}, "'spare'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG_LOGGED)
def test_wrong_logged_is_refused_even_if_vouched_for(folder, kind):
    make, reason = WRONG_LOGGED[kind]
    vouch(folder, LOGGED, save_tensors({n: t.contiguous() for n, t in make(MODEL.logged).items()}))
    with pytest.raises(ValueError, match=rf"logged.safetensors is refused: .*{reason}"):
        WorldModel.from_pretrained(folder)


def test_logged_of_another_memory_is_welcome(folder):
    """It holds what an eye saw; what the filter makes of it is worked out anew."""
    longer = make_logged(MODEL.local_model, windows=7, length=3)
    vouch(folder, LOGGED, save_tensors(relogged()(longer)))
    assert WorldModel.from_pretrained(folder).logged.embedding.shape == (7, 3, 8)


@pytest.mark.parametrize("name", [LOCAL, LOGGED])
def test_a_header_of_giant_shapes_costs_no_memory(folder, name):
    """Which names a terabyte, whatever follows it."""
    header, tensors = split((folder / name).read_bytes())
    for key, entry in header.items():
        if key != "__metadata__":
            header[key] = {**entry, "shape": [1 << 19, 1 << 19], "data_offsets": [0, 1 << 40]}
    vouch(folder, name, join(header, tensors))
    before = psutil.Process().memory_info().rss
    assert f"{name} is refused" in refusal(folder)
    assert psutil.Process().memory_info().rss - before < 100e6


@pytest.mark.parametrize(("path", "value"), [
    ("parts.local_model.config", {"width": 4096, "memory": 4096, "blocks": 64, "channels": 4096}),
    ("parts.global_model.config", {"width": 4096, "blocks": 64, "context": 4096}),
    ("parts.autoencoder.config", {"channels": 4096, "keypoints": 4096}),
    ("parts.autoencoder.config", {"frame_shape": [4096, 4096, 4096], "patch": 1}),
    ("parts.heads.config", {"latent_size": 4096, "action_size": 4096, "width": 4096, "blocks": 64}),
])  # fmt: skip
def test_a_config_that_asks_for_much_costs_no_memory(folder, path, value):
    first, part, last = path.split(".")
    edit_config(folder, lambda config: config[first][part][last].update(value))
    before = psutil.Process().memory_info().rss
    said = refusal(folder)  # its weights are of other shapes, or parts do not fit together
    assert f"{part}.safetensors is refused" in said or "config.json is refused" in said
    assert psutil.Process().memory_info().rss - before < 100e6


def test_replacing_a_card_keeps_the_weights(folder):
    """As whoever has scored a model does."""
    model = WorldModel.from_pretrained(folder)
    model.card = replace(model.card, facts={**model.card.facts, "scores": {"psnr": 30.5}})
    model.save_pretrained(folder)
    again = WorldModel.from_pretrained(folder)
    assert again.card == model.card
    assert torch.equal(rollout(again), rollout(model))

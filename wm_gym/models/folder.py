"""A world model on disk: a folder that is checked before anything in it is believed.

config.json              what the parts are, whose world it is, where it comes from, how good it is
<part>.safetensors       the weights of each part of its kind, float32; float16 where that is exact
starts.safetensors       real windows to begin from (may be absent)
logged.safetensors       what was logged, for rehearsing (may be absent)
README.md, curves.png    the model card (may be absent)

Nothing is unpickled and no code is loaded. Classes are on the list of the folder's kind, shapes are
worked out on paper (the meta device) and compared with a file's header before anything is
allocated, and no file may be a link that leaves the folder. `config.json` is written last and holds
the other files' SHA-256, so that damage, and files of different models in one folder, are found.
"""

import contextlib
import difflib
import inspect
import json
import math
import os
import re
import reprlib
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from wm_gym.models.kind import Kind, Part
from wm_gym.models.kinds import DEFAULT, kind_named, kinds
from wm_gym.models.logged import Logged
from wm_gym.models.starts import Starts
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.systems import Origin, packaged_dream

FORMAT = 2
WORLD_MODEL = "world-model"
"""The folder's name within that of the run that trained it."""

CONFIG, README, CURVES = "config.json", "README.md", "curves.png"
STARTS, LOGGED = "starts.safetensors", "logged.safetensors"
ALWAYS = (CONFIG, README, CURVES, STARTS, LOGGED)
"""Files of every kind; beside them there are those of its parts."""

PACKAGED = Path(__file__).parent.parent / "packaged"
LARGEST_CONFIG, LARGEST_PART = 1 << 20, 1 << 32
LARGEST_NUMBER, LARGEST_DEPTH, LONGEST_NAME = 4096, 64, 100
SCALES = (1e-6, 1e6)
"""What a scale or noise level can be: the dream divides by it."""

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def packaged_names() -> list[str]:
    return sorted(path.parent.name for path in PACKAGED.glob(f"*/{CONFIG}"))


def files_of(kind: Kind) -> set[str]:
    """All that a folder is made of."""
    return {*ALWAYS, *kind.files.values()}


def located(name_or_path: str | Path, *, token: str | None = None) -> Path:
    """The folder of a packaged name, a path or a Hub id, which is fetched."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        came = "missing" if name_or_path is None else f"a {type(name_or_path).__name__}"
        raise TypeError(
            f"world_model is {came}, expected a packaged name {packaged_names()}, a folder, "
            "a Hub id or a WorldModel"
        )
    name = os.fspath(name_or_path)
    if not name:
        raise ValueError("world_model is empty, expected a packaged name, a folder or a Hub id")
    if name in packaged_names():
        return PACKAGED / name
    if os.path.exists(name):
        return Path(name)
    if _HUB_ID.fullmatch(name) and not name.startswith(".") and ".." not in name:
        return _fetched(name, token)
    if (dream := packaged_dream(name)) is not None:
        raise FileNotFoundError(
            f"the world model {name!r} of {dream} is not in this installation, which has "
            f"{packaged_names()}: give world_model='path/to/folder', as `wm-gym train` writes one"
        )
    raise FileNotFoundError(
        f"world_model {name!r} is no packaged name {packaged_names()}, no folder, "
        f"and no Hub id (user/repo@revision){_meant(name)}"
    )


def _meant(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), packaged_names(), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _fetched(hub_id: str, token: str | None) -> Path:
    from huggingface_hub import snapshot_download

    repo, _, revision = hub_id.partition("@")
    known = sorted({name for kind in kinds() for name in files_of(kind_named(kind))})
    try:
        path = snapshot_download(repo, revision=revision or None, token=token, allow_patterns=known)
    except Exception as error:
        raise FileNotFoundError(
            f"world model {hub_id!r} is no folder here and could not be fetched from the Hub: "
            f"{error}. Is the name right and the network there? A folder needs neither"
        ) from error
    return Path(path)


def load_world_model(folder: Path) -> WorldModel:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; a world model is one, with {CONFIG}")
    if not exists(folder / CONFIG) and exists(folder / WORLD_MODEL / CONFIG):
        raise FileNotFoundError(
            f"{folder} is the folder of a training run; its world model is {folder / WORLD_MODEL}"
        )
    config = _config(folder)
    digests = config["sha256"]
    with _named(folder / CONFIG):
        card = Card(
            system=config["system"],
            denoising_steps=config["denoising_steps"],
            facts=config.get("facts", {}),
            origin=Origin.from_json(config["origin"]) if "origin" in config else None,
        )
        kind = kind_named(config.get("kind", DEFAULT))
        with torch.device("meta"):
            on_paper = {name: part_of(config["parts"][name], part) for name, part in _parts(kind)}
        fitting = WorldModel(*kind.assembled(on_paper), card=card)
        if card.origin is not None:
            fitting.system  # noqa: B018  # which its origin suffices for
    parts = {
        name: _loaded(folder, name, config["parts"][name], part, on_paper[name], digests)
        for name, part in _parts(kind)
    }
    world_model = WorldModel(*kind.assembled(parts), card=card)
    if STARTS in digests or exists(folder / STARTS):
        world_model.starts = _starts(folder / STARTS, world_model, digests)
    if LOGGED in digests or exists(folder / LOGGED):
        world_model.logged = _logged(folder / LOGGED, world_model, digests)
    return world_model.eval().requires_grad_(False)


def _parts(kind: Kind) -> list[tuple[str, Part]]:
    return list(kind.parts.items())


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """What goes wrong within is a ValueError that says which file and why."""
    try:
        yield
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is refused: {reason}") from error


def exists(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def checked_file(path: Path, *, largest: int) -> int:
    """The size of a plain file within its folder."""
    if not exists(path):
        raise FileNotFoundError(f"{path} is missing: this is no whole world model")
    homes = [folder := path.parent.resolve()]
    if folder.parent.name == "snapshots":  # the Hub's cache: links to a repository's blobs, and
        repository = folder.parent.parent  # since huggingface_hub 2 from there to shared ones
        homes += [repository / "blobs", repository.parent / "blobs"]
    with _named(path):
        target = path.resolve(strict=True)
        if not any(target.is_relative_to(home) for home in homes):
            raise ValueError("it is a link that leaves the folder")
        if not path.is_file():
            raise ValueError("it is not a plain file")
        if not 0 < (size := path.stat().st_size) <= largest:
            raise ValueError(f"it has {size} bytes, expected 1 to {largest}")
    return size


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    checked_file(path, largest=LARGEST_CONFIG)
    with _named(path):
        config = read_json(path.read_bytes())
        came = config.get("format") if isinstance(config, dict) else None
        if type(came) is not int or came != FORMAT:
            raise ValueError(
                f"its format is {_shown(came)}, expected {FORMAT}: get a newer wm_gym?"
            )
        expected = {"system": str, "denoising_steps": int, "parts": dict, "sha256": dict}
        for name, kind in expected.items():
            if type(config.get(name)) is not kind:
                raise ValueError(
                    f"{name} is {_shown(config.get(name))}, expected a {kind.__name__}"
                )
        if not 1 <= config["denoising_steps"] <= 100:
            raise ValueError(
                f"denoising_steps is {_shown(config['denoising_steps'])}, expected 1 to 100"
            )
        if not isinstance(config.get("facts", {}), dict):
            raise ValueError(f"facts is {_shown(config['facts'])}, expected a dictionary")
        if type(config.get("kind", DEFAULT)) is not str:
            raise ValueError(f"kind is {_shown(config['kind'])}, expected a str")
        if len(config.get("kind", DEFAULT)) > LONGEST_NAME:
            raise ValueError(
                f"kind is {_shown(config['kind'])}, expected up to {LONGEST_NAME} letters"
            )
        known = kind_named(config.get("kind", DEFAULT)).parts
        if set(config["parts"]) != set(known):
            raise ValueError(f"parts are {_shown(sorted(config['parts']))}, expected {[*known]}")
        for name, part in config["parts"].items():
            check_part(name, part, known[name])
    return config


def read_json(content: bytes) -> Any:
    """Finite numbers only, and no key twice: what is read is all that is there."""
    return json.loads(
        content.decode(), parse_float=_finite, parse_constant=_finite, object_pairs_hook=_table
    )


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"it holds {_shown(text)}, which is not a finite number")
    return number


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(table := dict(pairs)) < len(pairs):
        raise ValueError(f"it has a key twice, among {_shown(sorted(table))}")
    return table


def _shown(value: Any) -> str:
    """For messages: what comes from a file may be of any length."""
    return reprlib.repr(value)


def check_part(name: str, part: Any, known: Part) -> None:
    """Class and arguments are as expected, and no number is big enough to do harm."""
    if not isinstance(part, dict) or part.get("class") != known.label:
        raise ValueError(f"part {name} is {_shown(part)}, expected one of class {known.label}")
    arguments, parameters = part.get("config"), inspect.signature(known.make).parameters
    lacking = known.later
    if not isinstance(arguments, dict) or set(arguments) | lacking != set(parameters):
        needed, too = sorted(set(parameters) - lacking), f", or {sorted(lacking)} too"
        raise ValueError(f"part {name} needs exactly the settings {needed}{too if lacking else ''}")
    for argument, value in arguments.items():
        _check_setting(f"{name}.{argument}", value, parameters[argument].default)
    if arguments.get("blocks", 1) > LARGEST_DEPTH:
        raise ValueError(f"{name}.blocks is {arguments['blocks']}, expected 1 to {LARGEST_DEPTH}")


def _check_setting(name: str, value: Any, default: Any) -> None:
    """The default tells what a setting is: a text, a count (0 where that is the default), sizes, a
    scale (not 0), a number."""
    if isinstance(default, tuple):
        if not isinstance(value, list) or len(value) != len(default):
            raise ValueError(f"{name} is {_shown(value)}, expected {len(default)} numbers")
        for number in value:
            _check_setting(name, number, 1)
        return
    wanted = (int, float) if isinstance(default, float) else (type(default),)
    if type(value) not in wanted:
        raise ValueError(f"{name} is {_shown(value)}, expected a {type(default).__name__}")
    if isinstance(default, str) and len(value) > LONGEST_NAME:
        raise ValueError(f"{name} is {_shown(value)}, expected up to {LONGEST_NAME} letters")
    least = min(default, 1) if type(default) is int else 1
    if type(default) is int and not least <= value <= LARGEST_NUMBER:
        raise ValueError(f"{name} is {_shown(value)}, expected {least} to {LARGEST_NUMBER}")
    if isinstance(default, float):
        low, high = SCALES if default else (-SCALES[1], SCALES[1])
        if not low <= value <= high:
            raise ValueError(f"{name} is {_shown(value)}, expected {low:g} to {high:g}")


def part_of(described: Mapping[str, Any], part: Part) -> nn.Module:
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in described["config"].items()}
    return part.make(**arguments)


def _loaded(
    folder: Path,
    name: str,
    described: Mapping[str, Any],
    part: Part,
    on_paper: nn.Module,
    digests: Mapping[str, Any],
) -> nn.Module:
    path = folder / f"{name}.safetensors"
    shapes = {k: list(v.shape) for k, v in on_paper.state_dict().items()}
    tensors = _tensors(path, {k: (FRACTIONS, shape) for k, shape in shapes.items()}, digests)
    with _named(path):
        for key, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f"{key} holds numbers that are not finite")
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, only to be replaced
            made = part_of(described, part).float()  # whatever torch.set_default_dtype says
        made.load_state_dict(tensors)
    return made


Expected = Mapping[str, tuple[str, list[int] | None]]
"""Name of each tensor to its type, or types, and shape; None stands for any."""

FRACTIONS = "F32 or F16"


def _tensors(
    path: Path, expected: Expected, digests: Mapping[str, Any], optional: Expected | None = None
) -> dict[str, Tensor]:
    size = checked_file(path, largest=LARGEST_PART)
    with _named(path):
        _check_header(path, size, expected, optional or {})
        content = path.read_bytes()
        if sha256(content).hexdigest() != digests.get(path.name):
            raise ValueError(f"its SHA-256 is not the one in {CONFIG}: it is not what was saved")
        return load_tensors(content)


def _check_header(path: Path, size: int, expected: Expected, optional: Expected) -> None:
    """Names, types and shapes are the expected ones, and the bytes add up."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, LARGEST_CONFIG):
            raise ValueError("its header is damaged or cut off")
        header = read_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    header.pop("__metadata__", None)
    expected = {**expected, **{name: optional[name] for name in optional if name in header}}
    if odd := set(header) ^ set(expected):
        raise ValueError(f"it does not hold the expected tensors: {_shown(sorted(odd))} differ")
    total = 8 + length + sum(_bytes(key, header[key], *expected[key]) for key in expected)
    if size != total:
        raise ValueError(f"it has {size} bytes, expected {total}: it was cut off or added to")


def _bytes(key: str, entry: Any, dtype: str, shape: list[int] | None) -> int:
    """How many the header gives a tensor, which must be of this type and shape."""
    match entry:
        case {"dtype": found, "shape": list(sizes), "data_offsets": [int(begin), int(end)]}:
            if found in dtype.split(" or ") and shape in (None, sizes):
                return end - begin
    raise ValueError(f"{key} is {_shown(entry)}, expected {dtype} {shape or ''}")


STARTS_DTYPES = {"png": "U8", "end": "I64", "first": "I64", "action": "F32"}
STARTS_TOO = {"proprio": "F32", "task": "I64"}
"""Of models that use them; without, the first task and no proprioception."""


def _starts(path: Path, world_model: WorldModel, digests: Mapping[str, Any]) -> Starts:
    tensors = _tensors(path, _types(STARTS_DTYPES), digests, _types(STARTS_TOO))
    with _named(path):
        starts = Starts(**{name: tensor.numpy() for name, tensor in tensors.items()})
        starts.check(world_model.spec)
    return starts


LOGGED_DTYPES = {"embedding": FRACTIONS, "action": "F32", "reward": "F32"}
LOGGED_TOO = {"task": "I64"}


def _logged(path: Path, world_model: WorldModel, digests: Mapping[str, Any]) -> Logged:
    tensors = _tensors(path, _types(LOGGED_DTYPES), digests, _types(LOGGED_TOO))
    with _named(path):
        logged = Logged(**{**tensors, "embedding": tensors["embedding"].float()})
        logged.check(world_model.local_model, world_model.spec.tasks)
    return logged


def _types(dtypes: Mapping[str, str]) -> Expected:
    return {name: (kind, None) for name, kind in dtypes.items()}

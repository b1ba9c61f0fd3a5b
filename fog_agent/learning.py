"""What an agent that learns tells, and whom: callbacks, a progress bar, TensorBoard."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Update:
    """One window, and what was learned from it."""

    samples: int
    """Transitions of the environment so far."""

    local_samples: int
    """Transitions of the local model alone so far."""

    gradient_steps: int
    seconds: float
    """Of work so far, without what a caller does between updates."""

    reward: float
    """A step's, of this window."""

    diagnostics: dict[str, float]
    """Norms are means over steps that were taken; `skipped` counts those that were not."""


def check_timesteps(total_timesteps: Any) -> None:
    number = isinstance(total_timesteps, Real) and not isinstance(total_timesteps, bool)
    if not (number and total_timesteps >= 1):
        raise ValueError(f"total_timesteps is {total_timesteps!r}, expected at least 1")


class Callbacks:
    """Functions of an update, and callbacks of Stable-Baselines3, asked `on_step` once a window."""

    def __init__(self, given: Any, agent: Any, total: int, *, bar: bool) -> None:
        each = list(given) if isinstance(given, Sequence) else [given] if given else []
        self._functions: list[Callable[[Any], bool | None]] = []
        self._objects: list[Any] = []
        for one in each:
            if hasattr(one, "init_callback"):
                self._objects.append(one)
            elif callable(one):
                self._functions.append(one)
            else:
                raise TypeError(
                    f"callback is a {type(one).__name__}, expected a function of an Update, or a "
                    "callback of Stable-Baselines3"
                )
        self._agent, self._total, self._bar = agent, total, _bar(total) if bar else None
        self._begun_at = agent.num_timesteps

    def __enter__(self) -> "Callbacks":
        try:
            for each in self._objects:
                each.init_callback(self._agent)
                each.on_training_start({"self": self._agent, "total_timesteps": self._total}, {})
                each.on_rollout_start()
        except BaseException:
            self._close()
            raise
        return self

    def go_on(self, update: Update) -> bool:
        """False as soon as one says so; every one is asked."""
        if self._bar is not None:
            self._bar.update(update.samples - self._begun_at - self._bar.n)
            self._bar.set_postfix_str(f"reward {update.reward:.3g}")
        answers = [each(update) is not False for each in self._functions]
        for each in self._objects:
            each.update_locals({"self": self._agent, "update": update})
            answers.append(each.on_step() is not False)
            each.on_rollout_end()
            each.on_rollout_start()
        return all(answers)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            for each in self._objects:
                each.on_training_end()
        finally:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def _bar(total: int) -> Any:
    from tqdm import tqdm  # only who asks for a bar needs it

    return tqdm(total=total, unit=" samples", unit_scale=True)


class Logger:
    """To TensorBoard, if a folder is given; callbacks of Stable-Baselines3 may record, too."""

    def __init__(self, folder: str | Path | None) -> None:
        self._writer: Any = None
        self._recorded: dict[str, Any] = {}
        if folder is None:
            return
        try:
            tensorboard = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise ImportError(
                "tensorboard_log needs TensorBoard: pip install tensorboard"
            ) from error
        self._writer = tensorboard.SummaryWriter(str(folder))

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        """Written with the next update, if it is a number; `exclude` is there for callbacks."""
        self._recorded[key] = value

    def dump(self, step: int = 0) -> None:
        if self._writer is None:
            return
        for name, value in self._recorded.items():
            number = value.item() if getattr(value, "ndim", None) == 0 else value
            if isinstance(number, Real):
                self._writer.add_scalar(name, number, step)
        self._writer.flush()
        self._recorded.clear()

    def write(self, update: Update) -> None:
        if self._writer is None:
            return
        self.record("rollout/reward", update.reward)
        self.record("time/local_samples", update.local_samples)
        self.record("time/gradient_steps", update.gradient_steps)
        self.record("time/seconds", update.seconds)
        for name, value in update.diagnostics.items():
            self.record(f"train/{name}", value)
        self.dump(update.samples)

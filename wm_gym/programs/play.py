"""`wm-gym play`: a real system and its dream, side by side, under the same mouse or keys."""

from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium as gym
import pygame

from wm_gym.envs.dream import DreamEnv
from wm_gym.envs.real import RealEnv
from wm_gym.models.folder import packaged_names
from wm_gym.numbers import check_least
from wm_gym.programs.play_controls import COMMANDS, Controls
from wm_gym.programs.play_film import Film
from wm_gym.programs.play_session import Session
from wm_gym.programs.play_window import SIZE, Status, Window

REFRESH = 30
"""Times a second that keys are looked at."""

DREAM, REAL = "wm_gym.envs.dream:DreamEnv", "wm_gym.envs:RealEnv"


def play(
    env_id: str = "WM-PushT-v0",
    /,
    world_model: Path | None = None,
    alone: bool = False,
    seed: int = 0,
    speed: float = 0.5,
    fps: float | None = None,
    horizon: int | None = None,
    arrow_steps: int = 1,
    out: Path = Path("out"),
) -> None:
    """Steer the real system and its world model from the same frame with the same actions.

    The tool goes towards the mouse, or with W, A, S, D; the window says what other keys do. The
    arrow is the world model's gradient: the action that would raise the reward. Beside a world
    model is the simulator it learned from, beside a simulator its packaged world model.

    Args:
        env_id: Environment, such as WM-PushT-v0, Real-GymPushT-v0, or WM-v0 with --world-model.
        world_model: Folder of the world model; without it the packaged one.
        alone: Show only what was asked for, and nothing beside it.
        seed: Seed of the first start; the key N goes on to the next one.
        speed: How far a key moves the tool, as a share of the largest action.
        fps: Steps in a second; without it as many as in the real system.
        horizon: Steps of an episode; without it the environment's usual number.
        arrow_steps: The arrow is the gradient of this many rewards' sum; 0 shows no arrow.
        out: Folder for videos.
    """
    if not 0 < speed <= 1:
        raise ValueError(f"speed is {speed}, expected more than 0, up to 1")
    if fps is not None and not 0 < fps <= REFRESH:
        raise ValueError(f"fps is {fps}, expected more than 0, up to {REFRESH}")
    check_least(0, arrow_steps=arrow_steps, seed=seed)
    check_least(1, horizon=horizon)
    rules: dict[str, Any] = {} if horizon is None else {"horizon": horizon}
    real, dream = opened(env_id, world_model, alone=alone, rules=rules)
    player = Player(
        Session(real, dream, seed=seed, arrow_steps=arrow_steps), speed=speed, fps=fps, out=out
    )
    try:
        player.run()
    finally:
        player.close()
    for side, best in player.session.best.items():
        print(f"best progress, {side}: {best:.2f}")
    for path in player.films:
        print(f"video: {path}")


def opened(
    env_id: str,
    world_model: Path | None,
    *,
    alone: bool,
    rules: dict[str, Any],
) -> tuple[RealEnv | None, DreamEnv | None]:
    """What was asked for, and what belongs beside it, as far as there is such a thing."""
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module)
    kind = gym.spec(name).entry_point
    if kind not in (DREAM, REAL):
        raise ValueError(f"{name} is neither a dream nor a real system, expected e.g. WM-PushT-v0")
    if kind == REAL and alone and world_model is not None:
        raise ValueError(f"{name} alone dreams of nothing: leave out world_model, or alone")
    real = dream = None
    dreaming = {**rules, "obs_type": "latent"}
    if kind == DREAM:
        chosen = {} if world_model is None else {"world_model": world_model}
        dream = _made(name, **dreaming, **chosen)
        twin = None if alone else next(iter(dream.system.simulators), None)
        real = None if twin is None else _made(twin, **rules)
    else:
        real = _made(name, **rules)
        packaged = real.system.world_model if real.system.world_model in packaged_names() else None
        if not alone and (model := world_model or packaged) is not None:
            dream = _made(f"WM-{real.system.name}-v0", **dreaming, world_model=model)
    return real, dream


def _made(env_id: str, **chosen: Any) -> Any:
    return gym.make(env_id, disable_env_checker=True, **chosen).unwrapped


class Player:
    """Keys become steps and commands, steps become pictures."""

    def __init__(
        self, session: Session, *, speed: float = 0.5, fps: float | None = None, out: Path
    ) -> None:
        self.session, self._out = session, out
        self.window = Window(session)
        self.controls = Controls(session.system, speed)
        self._fps = session.system.fps if fps is None else fps
        self._wait = 0.0
        """Seconds until the next step."""
        self.paused, self._fresh, self.running = False, True, True
        self._notice = ""
        self._film: Film | None = None
        self.films: list[Path] = []
        self.show()

    def run(self) -> None:
        clock = pygame.time.Clock()
        while self.running:
            self.tick(clock.tick(REFRESH) / 1000)

    def tick(self, seconds: float) -> None:
        """Heed what has happened, and step if it is time; a fresh start waits for a move."""
        events = pygame.event.get()
        for event in events:
            self._heed(event)
        self._fresh = self._fresh and not self.controls.moving
        stopped = self.paused or self._fresh or self.session.now.over
        self._wait -= seconds
        if self._wait <= 0:
            self._wait = 0.0 if stopped else max(self._wait + 1 / self._fps, 0.0)
            if not stopped:
                self._step()
        if events:
            self._draw(filming=self._film is not None)

    def show(self) -> None:
        """A new moment: drawn, and a picture of the film, if there is one."""
        if self._film is not None:
            self._draw(filming=False)
            self._film.add(self.window.pixels())
        self._draw(filming=self._film is not None)

    def _draw(self, *, filming: bool) -> None:
        word = ""
        if self.session.now.over:
            word = "the episode is over: R same start, N new start"
        elif self.paused:
            word = "paused"
        elif self._fresh:
            word = "move, and it begins"
        self.window.draw(
            Status(
                word=word,
                notice=self._notice,
                filming=filming,
                mouse=self.controls.mouse,
            )
        )

    def close(self) -> None:
        self._stop_film()
        self.window.close()
        self.session.close()

    def _heed(self, event: Any) -> None:
        if event.type == pygame.QUIT:
            self.running = False
        place = self.window.place(event.pos) if event.type == pygame.MOUSEMOTION else None
        self.controls.heed(event, place)
        if event.type == pygame.KEYDOWN and event.key in COMMANDS:
            self._command(COMMANDS[event.key])

    def _command(self, name: str) -> None:
        session, self._notice = self.session, ""
        match name:
            case "quit":
                self.running = False
            case "pause":
                self.paused, self._fresh = not (self.paused or self._fresh), False
            case "step":
                self.paused, self._fresh = True, False
                self._step()
            case "branch":
                session.save()
                self._notice = f"saved step {session.steps}: G goes back to it"
            case "back":
                self._back()
            case "resync":
                self._resync()
            case "again" | "next":
                session.restart(session.seed + (name == "next"))
                self._fresh, self.paused = True, False
                self.controls.release()
                self.show()
            case "video":
                self._toggle_film()

    def _step(self) -> None:
        if self.session.now.over:
            return
        self.session.step(self.controls.action(self.session.now))
        self._notice = ""
        self.show()

    def _back(self) -> None:
        if self.session.branch is None:
            self._notice = "nothing is saved yet: B saves"
            return
        self.session.back()
        self.paused, self._notice = True, f"back at step {self.session.steps}"
        self.show()

    def _resync(self) -> None:
        if None in (self.session.now.real, self.session.now.dream):
            self._notice = "there is no real system and dream side by side"
            return
        self.session.resync()
        self._notice = "the dream goes on from the real frames"
        self.show()

    def _toggle_film(self) -> None:
        if self._film is None:
            self._film = Film(self._out, SIZE, self._fps)
            self.show()
        else:
            self._stop_film()
            self._notice = f"wrote {self.films[-1]}"

    def _stop_film(self) -> None:
        if self._film is not None:
            self.films.append(self._film.close())
            self._film = None

"""Python programs, each in a process of its own, without 3 s of importing PyTorch for each.

They are forked from one process a test worker, in which other people's packages are imported and
ours are not. What a program prints, leaves and returns is what it would if Python were started
anew; how it is interrupted, started and imported is tested with processes that are.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import warnings
from functools import cache
from multiprocessing import process
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryDirectory

IMPORTED = (
    "torch", "torch._dynamo", "torch.distributed", "diffusers.models.modeling_utils",
    "diffusers.models.unets.unet_2d", "accelerate", "gymnasium", "pyarrow.parquet",
    "matplotlib.figure", "matplotlib.backends.backend_agg", "moviepy.video.io.ffmpeg_writer",
    "moviepy", "pygame", "shapely", "pymunk", "tyro", "stable_baselines3",
)  # fmt: skip


ROOT = Path(__file__).parent.parent


def run_python(*arguments, cwd=ROOT, paths=(ROOT,), timeout=300):
    """As `subprocess.run([sys.executable, *arguments], capture_output=True, text=True)`.

    The arguments may begin with `-W ignore`; then come `-m module`, `-c code` or a script. It runs
    with the packages of this checkout, whichever is installed.
    """
    words = [str(each) for each in arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    with TemporaryDirectory() as folder:
        told, errors = Path(folder) / "stdout", Path(folder) / "stderr"
        asked = {
            "words": words, "cwd": os.path.abspath(cwd), "env": env,
            "stdout": str(told), "stderr": str(errors),
        }  # fmt: skip
        forking = _forking()
        forking.stdin.write(json.dumps(asked).encode() + b"\n")
        forking.stdin.flush()
        if not select.select([forking.stdout], [], [], timeout)[0]:
            _end(forking)
            raise TimeoutExpired(words, timeout, told.read_bytes(), errors.read_bytes())
        line = forking.stdout.readline()
        assert line, "the process that forks others has died"
        said = (file.read_text("utf-8") for file in (told, errors))
        return CompletedProcess(words, int(line), *said)


@cache
def _forking():
    """One for this worker, as long as it lives."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    forking = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True,
    )  # fmt: skip
    atexit.register(_end, forking)
    return forking


def _end(forking):
    _forking.cache_clear()
    if forking.poll() is None:
        os.killpg(forking.pid, signal.SIGKILL)
    forking.wait()
    forking.stdin.close()
    forking.stdout.close()


def _serve():
    """Returns what was asked for, in a child that is to do it."""
    asking, answering = os.fdopen(os.dup(0)), os.dup(1)
    while line := asking.readline():
        asked = json.loads(line)
        child = os.fork()
        if not child:
            asking.detach()
            os.close(answering)
            return asked
        _, status = os.waitpid(child, 0)
        os.write(answering, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return os._exit(0)


def _become(words, cwd, env, stdout, stderr):
    """As Python begins: files, folder, environment, path, arguments; then the program."""
    for number, path in enumerate((os.devnull, stdout, stderr)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.chdir(cwd)
    process.ORIGINAL_DIR = cwd  # where `multiprocessing` looks for a script again
    os.environ.clear()
    os.environ.update(env)
    if words[:2] == ["-W", "ignore"]:
        sys.warnoptions[:] = ["ignore"]
        warnings.simplefilter("ignore")
        words = words[2:]
    sys.path[:] = [*env["PYTHONPATH"].split(os.pathsep), *PLAIN]
    kind, rest = (words[0], words[1:]) if words[0] in ("-m", "-c") else ("", words)
    sys.argv = rest
    sys.orig_argv = [sys.executable, *words]
    sys.path.insert(0, {"-m": cwd, "-c": ""}.get(kind, os.path.dirname(os.path.abspath(rest[0]))))
    if kind == "-m":
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(rest[0], run_name="__main__")


if __name__ == "__main__":
    PLAIN = sys.path[1:]
    for name in IMPORTED:
        __import__(name)
    gc.freeze()  # nor are they looked through by each child again
    _become(**_serve())

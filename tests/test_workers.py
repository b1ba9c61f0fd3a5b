import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from wm_gym.data.workers import starting_workers


def interrupted(also_here):
    """Whether it went on to the end of the block."""
    went_on = False
    try:
        with starting_workers():
            os.kill(os.getpid(), signal.SIGINT)  # any thread may take it in
            if also_here:
                signal.raise_signal(signal.SIGINT)
            went_on = True
    except KeyboardInterrupt:
        return went_on
    pytest.fail("nobody told of the interrupt")


@pytest.mark.parametrize("also_here", [False, True])
def test_an_interrupt_while_workers_start_is_told_after(also_here):
    other = threading.Thread(target=time.sleep, args=(0.5,))
    other.start()
    assert interrupted(also_here)
    other.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_workers_start_in_any_thread():
    def start():
        with starting_workers():
            started.append(signal.pthread_sigmask(signal.SIG_BLOCK, set()))

    started = []
    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert signal.SIGINT in started[0]


def test_workers_do_not_hear_of_interrupts():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGINT); print('goes on')"
    with starting_workers():
        worker = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert worker.stdout == "goes on\n"

"""A training on two processes, as `accelerate launch` begins them, and what each ends with."""

import os
import socket
import sys

import torch
from accelerate import Accelerator
from torch import multiprocessing

from wm_gym.models.memory.heads import Heads
from wm_gym.training.trainer import Optimisation, Trainer


class Own:
    """Other batches in each process."""

    def __init__(self, process):
        self.process = process

    def batch(self, k):
        return torch.randn(3, 2, generator=torch.Generator().manual_seed(2 * k + self.process))


def by_its_parts(model, batch, generator):
    """As losses of worlds with a memory do, which call more than one function of a model."""
    heads, none = getattr(model, "module", model), torch.zeros(3, dtype=torch.int64)
    return heads(batch, torch.zeros(3, 4), none, none).square().mean(), {}


def work(process, port):
    told = {"RANK": process, "LOCAL_RANK": process, "WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in told.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", ACCELERATE_USE_CPU="true")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Heads(latent_size=2, context_size=4, width=8)
    settings = Optimisation(updates=3, batch_size=3, warmup=0)
    trainer = Trainer(model, settings, Accelerator(cpu=True))
    assert trainer.accelerator.num_processes == 2
    list(trainer.train(Own(process), by_its_parts))
    size = sum(float(each.double().square().sum()) for each in trainer.average.parameters())
    sys.stdout.write(f"{size!r}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(work, args=(port,), nprocs=2)

"""A training that is killed at any moment, and resumed, ends as one that was left alone, to the last bit."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.attack import SEED, Record, WrongError, amount
from helpers.forked import Process
from helpers.jobs import left_of_session
from helpers.process_memory import needs_linux
from helpers.toy_training import KINDS, toy_runner
from mmengine.hooks import Hook

from mmpanoptic.engine.checkpoint_files import latest_checkpoint
from mmpanoptic.utils import sole_writer

pytestmark = [pytest.mark.slow, needs_linux]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
STATUS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


class Slow(Hook):
    """Longer iterations, so that most signals come in one."""

    def after_train_iter(self, *args, **kwargs):
        time.sleep(0.02)


class Kill(NamedTuple):
    """One way to end a training.

    Attributes:
        number: The signal.
        writing: Whether it comes while a checkpoint is written, or at a random moment.
        to_group: Whether the workers get it, too, as from a terminal.
        twice: Whether it comes twice.
    """

    number: signal.Signals
    writing: bool
    to_group: bool
    twice: bool


def training(folder: Path, kind: str) -> Callable[[], None]:
    """What a process of its own session runs: the training from its newest checkpoint on, as tools/train.py does."""

    def main() -> None:
        os.setsid()
        (folder / 'started').touch()
        with sole_writer(folder / 'run', 'work_dir'):
            runner = toy_runner(folder / 'run', latest_checkpoint(str(folder / 'run')), **KINDS[kind])
            runner.register_hook(Slow())
            runner.train()

    return main


def start(folder: Path, kind: str, log: str, hold: str | None = None) -> Process:
    (folder / 'started').unlink(missing_ok=True)
    process = Process(training(folder, kind), folder / log, hold=hold)
    while not (folder / 'started').exists():
        time.sleep(0.005)
    return process


def finish(folder: Path, kind: str) -> dict[str, torch.Tensor]:
    """Train to the end; what the last checkpoint holds of weights and of the optimizer."""
    process = start(folder, kind, 'last')
    if (status := process.wait()) != 0:
        raise WrongError(f'the resumed training ended with {status}: {process.stderr}')
    check_left(folder, process)
    state = torch.load(latest_checkpoint(str(folder / 'run')), weights_only=False)
    momenta = {f'momentum {key}': value['momentum_buffer'] for key, value in state['optimizer']['state'].items()}
    return state['state_dict'] | momenta


def check_left(folder: Path, process: Process) -> None:
    if left := left_of_session(process.pid):
        raise WrongError(f'orphans: {left}')
    if process.wait_status == 0 and (parts := [path for path in folder.rglob('*.part') if path.exists()]):
        raise WrongError(f'left unfinished: {parts}')


def kill_one(folder: Path, kind: str, kill: Kill, rng: random.Random, seconds: float) -> str:
    """Start a training and kill it; what happened."""
    name = ('iter_{}.pth', 'epoch_{}.pth')[KINDS[kind].get('by_epoch', True)]
    written = name.format(rng.choice((4, 8, 12) if name.startswith('iter') else (1, 2, 3)))
    process = start(folder, kind, 'killed', hold=written if kill.writing else None)
    moment = time.monotonic() + (40 if kill.writing else rng.uniform(0, seconds))
    while time.monotonic() < moment and not process.is_held and not process.has_ended():
        time.sleep(0.002)
    for _ in range(1 + kill.twice):
        if not process.has_ended():
            (os.killpg if kill.to_group else os.kill)(process.pid, kill.number)
        time.sleep(rng.uniform(0, 0.05))
    status = process.go()
    if status not in (0, STATUS[kill.number]):
        raise WrongError(f'{kill} ended with {status}: {process.stderr}')
    lines = process.stderr.splitlines()
    if len(lines) != (status > 0) or not all(line.startswith('stopped by ') for line in lines):
        raise WrongError(f'{kill} printed {process.stderr!r}')
    check_left(folder, process)
    return 'ended before' if status == 0 else f'{kill.number.name}{" while writing" if kill.writing else ""}'


def test_kills(tmp_path):
    straight, seconds = {}, {}
    with Record('training: kill and resume') as record:
        for number in range(amount(20, least=4)):
            rng = random.Random(f'{SEED}:kills:{number}')
            kind = list(KINDS)[number % len(KINDS)]
            if kind not in straight:
                folder = tmp_path / kind
                folder.mkdir()
                begin = time.monotonic()
                straight[kind] = finish(folder, kind)
                seconds[kind] = time.monotonic() - begin
            folder = tmp_path / str(number)
            folder.mkdir()
            kill = Kill(SIGNALS[number % 3], number % 4 == 1 or number % 4 == 2, rng.random() < 0.5, rng.random() < 0.2)
            outcome = 'failed'
            try:
                outcome = kill_one(folder, kind, kill, rng, seconds[kind])
                resumed = finish(folder, kind)
                if differ := [key for key, value in straight[kind].items() if not torch.equal(resumed[key], value)]:
                    raise WrongError(f'other weights: {differ}')
            except AssertionError as error:
                record.failures.append(f'kill {number}, {kind}: {error}')
            record.outcomes[outcome] += 1

"""Workers end when they are told to, or when their parent has ended."""

import multiprocessing
import os
import signal
import time

import pytest

from mmpanoptic.engine.hooks import StopHook
from mmpanoptic.utils.processes import die_with_parent


def work(started) -> None:
    started.set()
    die_with_parent()
    signal.pause()


@pytest.mark.parametrize('wait', [0, 1e-4, 3e-4, 1e-3])
def test_sigterm_is_never_lost(wait):
    """As a pool sends it to workers that have just started, from a training that only takes note of it."""
    context = multiprocessing.get_context('fork')
    hook = StopHook()
    hook.before_train(None)
    try:
        for _ in range(20):
            started = context.Event()
            worker = context.Process(target=work, args=(started,))
            worker.start()
            started.wait()
            time.sleep(wait)
            worker.terminate()
            worker.join(10)
            assert not worker.is_alive()
    finally:
        hook.after_train(None)


def test_in_a_group_of_its_own_and_gone_with_the_parent():
    read, write = os.pipe()

    def grandchild():
        die_with_parent()
        os.write(write, f'{os.getpid()} {os.getpgid(0)}\n'.encode())
        signal.pause()

    def parent():
        multiprocessing.get_context('fork').Process(target=grandchild).start()
        signal.pause()

    child = multiprocessing.get_context('fork').Process(target=parent)
    child.start()
    pid, group = map(int, os.read(read, 100).split())
    assert pid == group
    child.kill()
    child.join()
    os.close(write)
    assert os.read(read, 1) == b''  # nobody holds the other end any more

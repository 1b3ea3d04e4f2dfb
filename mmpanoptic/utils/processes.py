"""Worker processes and signals."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def die_with_parent() -> None:
    """Tie this process to its parent. A worker of :mod:`multiprocessing` calls this first.

    The process dies when its parent dies, for whatever reason. It also leaves the parent's process group: Ctrl-C and
    signals to the group reach the parent only, which ends its workers when it is ready.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    os.setpgid(0, 0)
    _die_of_sigterm()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == 'linux':
        # The kernel kills this process at once when the thread that started it ends.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent.pid:  # the parent died before
            os._exit(1)
    else:
        threading.Thread(target=_exit_after, args=(parent,), daemon=True).start()


def handle_here(number: int, handler: Callable[[int, FrameType | None], None]) -> Any:
    """Handle a signal in this process only. Forked processes inherit the handler, and the signal just ends them.

    Returns:
        The previous handler.
    """
    process = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:
            os._exit(128 + number)
        handler(number, frame)

    return signal.signal(number, handle)


def _die_of_sigterm() -> None:
    """Let SIGTERM end this process, also a SIGTERM that has arrived already.

    The process has inherited its parent's handler, which may only take note of the signal. Python calls a handler some
    time after the signal arrives. If no handler is left by then, the signal is lost, and its sender waits for ever.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # earlier signals are handled here at the latest
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _exit_after(process: multiprocessing.Process) -> None:
    with contextlib.suppress(OSError):
        process.join()
    os._exit(1)

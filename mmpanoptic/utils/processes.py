"""Processes that work for another one."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def die_with_parent() -> None:
    """Tie this process to the one that forked it; for the start of a worker.

    It dies when its parent does, whatever kills that (on Linux). And it leaves the parent's process group: Ctrl-C and
    signals to the group reach the parent alone, which ends its workers when it is ready.
    """
    parent = os.getppid()
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler, which may only take note of it, came along
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:  # it died in between
        os._exit(1)

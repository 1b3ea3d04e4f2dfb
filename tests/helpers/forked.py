"""Tools in forks of the process that tests run in, to be limited, held and killed there. Linux."""

import io
import itertools
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from yapf.yapflib import yapf_api

from mmpanoptic.engine import cli
from mmpanoptic.visualization import PanopticVisualizer

#: Functions of os that put something on the disk, give it a name or take it away.
CHANGES = ('fsync', 'replace', 'rename', 'unlink', 'rmdir', 'mkdir')


class Process:
    """A writer in a fork, so that nothing is imported twice.

    Args:
        main: What it runs.
        log: What it prints, stderr under the name with ``.err``.
        limit: See :class:`Writer`.
        hold: Name of an output: the process stops before this is on the disk, until ``go()``. Or a number n: it stops
            before the n-th of the :data:`CHANGES` below ``folder``, but for those of logs; before none if it is 0.
        folder: See ``hold``.
    """

    def __init__(
        self,
        main: Callable,
        log: Path,
        limit: int | None = None,
        hold: str | int | None = None,
        folder: Path | None = None,
    ) -> None:
        self.log, self.start = log, time.monotonic()
        self.wait_status: int | None = None
        for earlier in ('.err', '.held', '.go', '.changes'):
            log.with_suffix(earlier).unlink(missing_ok=True)
        self._held, self._go = log.with_suffix('.held'), log.with_suffix('.go')
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os._exit(self._run(main, limit, hold, folder))
            finally:
                os._exit(99)

    def _run(self, main: Callable, limit: int | None, hold: str | int | None, folder: Path | None) -> int:
        printed, errors = sys.stdout, sys.stderr = io.StringIO(), io.StringIO()  # a file would be limited, too
        signal.signal(signal.SIGINT, signal.default_int_handler)  # an earlier test's handler would just end the fork
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
        for kind in (MMLogger, MessageHub, PanopticVisualizer):  # of the parent: their threads did not come along
            kind._instance_dict.clear()
        yapf_api.FormatCode = lambda text, **_: (text, True)  # layout of configs that are logged: half of the time
        if isinstance(hold, int):
            self._hold_before(hold, folder)
        elif hold:
            self._hold(hold)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit or soft, hard))
        try:
            cli.run(main)
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 98
        for number in (signal.SIGTERM, signal.SIGINT):  # the tool has ended, the process soon will
            signal.signal(number, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        self.log.write_text(printed.getvalue())
        self.log.with_suffix('.err').write_text(errors.getvalue())
        return code

    def _hold(self, name: str) -> None:
        fsync = os.fsync

        def held(file: int) -> None:
            if f'/.{name}.{os.getpid()}.part' in os.readlink(f'/proc/self/fd/{file}'):
                self._stop_here()
            fsync(file)

        os.fsync = held

    def _hold_before(self, number: int, folder: Path) -> None:
        made = itertools.count(1)
        changes = self.log.with_suffix('.changes')

        def counted(change: Callable) -> Callable:
            def held(path: str | int, *args: object, **kwargs: object) -> object:
                place = _place_of(path, kwargs.get('dir_fd'))
                if folder in place.parents and 'work' not in place.relative_to(folder).parts:
                    this = next(made)
                    if this == number:
                        self._stop_here()
                    if not number:
                        changes.write_text(str(this))
                return change(path, *args, **kwargs)

            return held

        for name in CHANGES:
            setattr(os, name, counted(getattr(os, name)))

    @property
    def num_changes(self) -> int:
        """How many changes it has made, held before none: ``hold=0``."""
        return int(self.log.with_suffix('.changes').read_text())

    def _stop_here(self) -> None:
        self._held.touch()
        while not self._go.exists():
            time.sleep(0.01)

    @property
    def is_held(self) -> bool:
        """Whether it has stopped where ``hold`` says."""
        return self._held.exists()

    def wait_until_held(self) -> 'Process':
        while not self.is_held:
            assert time.monotonic() < self.start + 60 and not self.has_ended(), self.stderr
            time.sleep(0.01)
        return self

    def go(self) -> int:
        self._go.touch()
        return self.wait()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait_status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def has_ended(self) -> bool:
        """Whether it has, by itself or not."""
        if self.wait_status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.wait_status = os.waitstatus_to_exitcode(status)
        return self.wait_status is not None

    def wait(self) -> int:
        """The exit status."""
        while not self.has_ended():
            if time.monotonic() > self.start + 40:
                self.kill()
                pytest.fail(f'it hangs: {self.stderr}')
            time.sleep(0.01)
        return self.wait_status

    @property
    def stderr(self) -> str:
        """What it printed there, without warnings of libraries."""
        file = self.log.with_suffix('.err')
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return ''.join(line for line in lines if 'Warning' not in line and 'warn' not in line)


def _place_of(path: str | int, folder: int | None) -> Path:
    """The place of a path, of one in an open folder, or of an open file."""
    if isinstance(path, int):
        return Path(os.readlink(f'/proc/self/fd/{path}'))
    return Path(os.readlink(f'/proc/self/fd/{folder}') if folder is not None else '', path)


def content(folder: Path, kept: Path | None = None) -> dict[str, bytes]:
    """All files but locks and logs; what is left unfinished beside the outputs too.

    Args:
        folder: Where they are.
        kept: A folder in it that does not count.
    """
    files = (path for path in folder.rglob('*') if path.is_file() and 'work' not in path.relative_to(folder).parts)
    counted = (path for path in files if path.suffix != '.lock' and kept not in path.parents)
    return {str(path.relative_to(folder)): path.read_bytes() for path in counted}

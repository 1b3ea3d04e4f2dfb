"""What a run says on the terminal: what a user reads while waiting. The log file has all of it."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

from mmpanoptic.utils.logs import is_file_only

# Beginnings of libraries' messages that go to the log file alone: hundreds of lines, what is said twice, deprecations
# inside of mmengine.
_FILE_ONLY = (
    f'\n{"-" * 60}\nSystem environment',
    'Config:\n',
    'Hooks will be executed',
    'Distributed training is not used',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'Exp name: ',
    'Loads checkpoint by ',
    'paramwise_options -- ',
)
# Beginnings of lines that libraries print, not log.
_PRINTED = ('Loads checkpoint by ',)
# Beginnings of warnings of libraries, of which a user can mend nothing.
_WARNINGS = (
    'Default ``avg_non_ignore``',  # of the averaging that mmdet's own Panoptic FPN uses
    'Panoptic segmentation map will not be compressed',  # --out says so
    'Setting ..._NUM_THREADS environment variable',
    'Initializing zero-element tensors',  # an error follows, of the classes
    'Image size .* exceeds limit',  # Pillow; an error follows
    '`broadcast_buffers` is deprecated',
    'torch.meshgrid: in an upcoming release',  # of mmdet
)


def silence_warnings() -> None:
    """Drop, in this process, the warnings of libraries that help nobody."""
    for message in _WARNINGS:
        warnings.filterwarnings('ignore', message=message)


def is_for_terminal(record: logging.LogRecord) -> bool:
    """Filter of a handler that writes to the terminal."""
    return not is_file_only(record) and not record.getMessage().startswith(_FILE_ONLY)


class _WithoutLines(io.TextIOBase):
    """Text that goes on to a stream, but for the lines that begin as :data:`_PRINTED` do."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._line = stream, ''

    def write(self, text: str) -> int:
        """Pass whole lines on."""
        *lines, self._line = (self._line + text).split('\n')
        for line in lines:
            if not line.startswith(_PRINTED):
                self._stream.write(f'{line}\n')
        return len(text)

    def flush(self) -> None:
        """Pass on what is there of a line."""
        if self._line and not any(text.startswith(self._line) for text in _PRINTED):
            self._stream.write(self._line)
            self._line = ''
        self._stream.flush()


@contextlib.contextmanager
def without_printed_noise() -> Iterator[None]:
    """Drop what libraries print inside that helps nobody."""
    stream = _WithoutLines(sys.stdout)
    try:
        with contextlib.redirect_stdout(stream):
            yield
    finally:
        stream.flush()


class LogFile(logging.FileHandler):
    """A log file; when it cannot be written, that is said once and the run goes on."""

    _said = False

    @classmethod
    def like(cls, handler: logging.FileHandler) -> 'LogFile':
        """One that goes on with the file of another handler."""
        new = cls(handler.baseFilename, 'a')
        new.setFormatter(handler.formatter)
        new.setLevel(handler.level)
        for each in handler.filters:
            new.addFilter(each)
        return new

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (of logging)
        """Say it once."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._said:
            self._said = True
            print(f'{self.baseFilename} cannot be written ({error.strerror}): the run goes on', file=sys.stderr)

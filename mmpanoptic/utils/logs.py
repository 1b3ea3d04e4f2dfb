"""Log messages that go to log files and not to the terminal."""

import contextlib
import io
import logging
from collections.abc import Iterator
from contextvars import ContextVar

_is_file_only: ContextVar[bool] = ContextVar('_is_file_only', default=False)


@contextlib.contextmanager
def file_only() -> Iterator[None]:
    """Keep messages that are logged inside from the terminal, except warnings and errors; see :func:`is_file_only`."""
    token = _is_file_only.set(True)
    try:
        yield
    finally:
        _is_file_only.reset(token)


def is_file_only(record: logging.LogRecord) -> bool:
    """Whether a message that is logged now is kept from the terminal; for a filter of the terminal's handler."""
    return _is_file_only.get() and record.levelno < logging.WARNING


@contextlib.contextmanager
def printed_to_log(logger: logging.Logger) -> Iterator[None]:
    """Log what is printed inside, to log files only."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        if text.getvalue():
            with file_only():
                logger.info('\n' + text.getvalue().rstrip())

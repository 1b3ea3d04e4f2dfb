"""Shared parts of the command-line tools: one-line errors, and arguments that several tools have."""

import argparse
import atexit
import re
import signal
import sys
from collections.abc import Callable
from types import FrameType
from urllib.error import URLError

from mmengine.config import DictAction
from mmengine.dist import is_main_process

from mmpanoptic.formats.images import MAX_PIXELS, set_max_pixels
from mmpanoptic.utils import UserError, one_line
from mmpanoptic.utils.processes import handle_here

from .devices import Stopped, end_process_of_group
from .terminal import silence_warnings


def run(main: Callable[[], None]) -> None:
    """Run a tool; a :class:`UserError` ends it with one line on stderr and exit status 1."""
    silence_warnings()
    handle_here(signal.SIGTERM, _end)
    # Remaining workers of data loaders end with this process; torch's handler would report them as lost.
    atexit.register(signal.signal, signal.SIGCHLD, signal.SIG_DFL)
    stopped = None
    try:
        main()
    except BaseException as error:
        stopped = _stop_of(error)
        if stopped is None:
            line = _line_of(error)
            if line is None:
                raise
            print(f'error: {line}', file=sys.stderr)
            sys.exit(1)
    if stopped is None:
        end_process_of_group()
    else:
        _leave(stopped)


def _stop_of(error: BaseException | None) -> Stopped | None:
    """The stop that caused an error, if any: libraries catch what a signal raises in them, and raise another error."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return Stopped(signal.SIGINT, 'at once')
        if isinstance(error, Stopped):
            return error.with_traceback(None)  # releases what its frames hold, such as data loaders
        error = error.__context__
    return None


def _line_of(error: BaseException) -> str | None:
    """The line to print for an error that the user can mend, or one of the system; None for any other error."""
    if isinstance(error, UserError):
        return one_line(error) + (f' (--{error.argument.replace("_", "-")})' if error.argument else '')
    if isinstance(error, URLError):
        return f'a file could not be fetched ({error.reason}): give a local path instead'
    if isinstance(error, OSError) and error.errno is not None:  # without errno, its text does not explain it
        return one_line(error)
    return None


def _end(number: int, frame: FrameType | None) -> None:
    """Signal handler that ends a tool as Ctrl-C does, with all clean-up."""
    raise Stopped(number, 'at once')


def _leave(stopped: Stopped) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if is_main_process():
        print(stopped.words, file=sys.stderr)
    end_process_of_group(stopped.status)
    sys.exit(stopped.status)


def add_checkpoint_arguments(parser: argparse.ArgumentParser, checks_values: bool = True) -> None:
    """Add ``--trust-checkpoint`` and, for tools that refuse values that are not finite, ``--allow-nan``."""
    trust = 'load checkpoints that hold Python objects, which can run any code'
    parser.add_argument('--trust-checkpoint', action='store_true', help=trust)
    if checks_values:
        parser.add_argument(
            '--allow-nan', action='store_true', help='read and write checkpoints with NaN or infinite values'
        )


class _MaxPixels(argparse.Action):
    """``--max-pixels N``, which applies to the process and its workers."""

    def __call__(self, parser: argparse.ArgumentParser, namespace, values, option_string=None) -> None:
        """Set the limit."""
        set_max_pixels(values)
        setattr(namespace, self.dest, values)


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-pixels``, which takes effect when it is parsed; the tool need not read it."""
    text = f'refuse images and maps that claim more pixels (default: {MAX_PIXELS})'
    parser.add_argument('--max-pixels', type=int, action=_MaxPixels, metavar='N', help=text)


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the panoptic files that a tool scores, and options of ``evaluation.file_scores``."""
    parser.add_argument('gt_json', help="the ground truth's panoptic JSON, or a zip with one in it")
    parser.add_argument('gt_dir', help='folder or zip of its PNGs')
    parser.add_argument('pred_json', help="the predictions' JSON, or a zip with it and the PNGs")
    parser.add_argument('pred_dir', nargs='?', help='folder or zip of their PNGs (default: named as the JSON)')
    parser.add_argument('--against', nargs=2, metavar=('JSON', 'DIR'), help='other predictions to compare with')
    parser.add_argument(
        '--instances', metavar='JSON', help="what was fused, as COCO's results of instances: what did the fusion hide?"
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.5, metavar='S', help='of --instances those below are left out (0.5)'
    )
    parser.add_argument('--trust-categories', action='store_true', help='score classes that seem to be mixed up')
    parser.add_argument('--workers', type=int, default=1, metavar='N', help='processes that decode (default: 1)')


class Options(DictAction):
    """``--cfg-options key=value ...``; anything that is no such pair raises a :class:`UserError`."""

    def __call__(self, parser: argparse.ArgumentParser, namespace, values, option_string=None) -> None:
        """Store the pairs as a dict."""
        for text in values:
            if re.search(r'[=\[(,]\s*(dict\(|\{)', text):
                raise UserError(
                    f'{option_string} {text}: no dict can be given here: set its values one by one (key.0.type=...), '
                    'or write a config of your own with the present one as its _base_'
                )
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, RecursionError) as error:
            raise UserError(f'{option_string} {" ".join(values)} is not of the form key=value: {error}') from None

"""Checks of the paths that a user gives, before any work is done."""

import os
from pathlib import PurePosixPath

from .errors import UserError


def require_file(path: str, what: str) -> None:
    """Refuse a local path that does not exist; addresses with a scheme are left to the loader.

    Args:
        path: The path.
        what: What to call it in an error: an argument, a config key or a flag.

    Raises:
        UserError: If there is no such file.
    """
    if '://' not in path and not os.path.isfile(path):
        raise UserError(f'{what} {path} does not exist')


def require_folder(path: str, what: str) -> None:
    """Make the folder for results now rather than after hours of work.

    Args:
        path: The folder; '' is the current one.
        what: What to call it in an error: an argument, a config key or a flag.

    Raises:
        UserError: If it cannot be made or written to.
    """
    try:
        os.makedirs(path or '.', exist_ok=True)
    except OSError as error:
        raise UserError(f'{what}: {path} cannot be made: {error.strerror}') from None
    if not os.access(path or '.', os.W_OK):
        raise UserError(f'{what}: {path} cannot be written to')


def safe_name(name: object) -> str | None:
    """A file name from a label file as a relative path with forward slashes; None if it leaves its folder."""
    if not isinstance(name, str) or not name.strip() or '\0' in name or len(name.splitlines()) > 1:
        return None
    path = PurePosixPath(name.replace('\\', '/'))
    parts = [part for part in path.parts if part != '.']
    if path.is_absolute() or '..' in parts or ':' in name or not parts:
        return None
    return '/'.join(parts)

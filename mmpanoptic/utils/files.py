"""Reading files."""

from http.client import HTTPException

from .errors import DatasetError

_REMEDY = 'check `data_root` and `data_prefix`'


def is_local(path: str, backend_args: dict | None = None) -> bool:
    """Whether mmengine's storage backends read ``path`` from a disk of this machine."""
    return '://' not in path and (backend_args or {}).get('backend', 'local') == 'local'


def check_storage(path: str, backend_args: dict | None = None) -> None:
    """Refuse a path that no storage backend of mmengine's can read here, before it is read.

    Raises:
        DatasetError: If its scheme is unknown, or its backend lacks a package or is given wrong ``backend_args``.
    """
    from mmengine import fileio  # see read_bytes

    try:
        fileio.get_file_backend(path, backend_args=backend_args)
    except (ImportError, LookupError, TypeError, ValueError) as error:
        raise _no_storage(path, error) from None


def read_bytes(path: str, backend_args: dict | None = None, remedy: str = _REMEDY) -> bytes:
    """File contents through mmengine's storage backends.

    Args:
        path: A path or an address.
        backend_args: Storage backend, see :mod:`mmengine.fileio`.
        remedy: How to mend a path that does not exist or cannot be read, for the error.

    Raises:
        DatasetError: If the file does not exist or cannot be read.
    """
    from mmengine import fileio  # it loads torch, which programs that only write results do without

    try:
        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise DatasetError(f'{path or repr(path)} does not exist: {remedy}') from None
    except (OSError, HTTPException) as error:  # no permission, a folder, an address that does not answer
        reason = ' '.join(str(getattr(error, 'strerror', None) or error).split())
        raise DatasetError(f'{path} cannot be read ({reason}): {remedy}') from None
    except (ImportError, LookupError, TypeError, ValueError) as error:
        raise _no_storage(path, error) from None


def _no_storage(path: str, error: Exception) -> DatasetError:
    """The error to raise for one of a storage backend, or for a name that no file can have."""
    text = ' '.join(str(error).split())
    reason = f'no storage backend for {text}' if isinstance(error, LookupError) else text
    return DatasetError(f'{path!r} cannot be read ({reason}): give a local path, or a backend that is installed')

"""Reading files."""

from mmengine import fileio

from .errors import DatasetError


def is_local(path: str, backend_args: dict | None = None) -> bool:
    """Whether mmengine's storage backends read ``path`` from a disk of this machine."""
    return '://' not in path and (backend_args or {}).get('backend', 'local') == 'local'


def read_bytes(path: str, backend_args: dict | None = None) -> bytes:
    """File contents through mmengine's storage backends.

    Raises:
        DatasetError: If the file does not exist or cannot be read.
    """
    try:
        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise DatasetError(f'{path} does not exist: check `data_root` and `data_prefix`') from None
    except OSError as error:  # no permission, a folder, an address that does not answer
        reason = ' '.join(str(error.strerror or error).split())
        raise DatasetError(
            f'{path} cannot be read ({reason}): check `data_root`, `data_prefix` and its rights'
        ) from None

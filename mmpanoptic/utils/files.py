"""Reading files."""

from mmengine import fileio

from .errors import DatasetError


def read_bytes(path: str, backend_args: dict | None = None) -> bytes:
    """File contents through mmengine's storage backends.

    Raises:
        DatasetError: If the file does not exist.
    """
    try:
        return fileio.get(path, backend_args=backend_args)
    except FileNotFoundError:
        raise DatasetError(f'{path} does not exist: check `data_root` and `data_prefix`') from None

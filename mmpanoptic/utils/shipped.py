"""Where configs and tools lie: in the folder ``.mim`` of an installed package, else in the checkout around it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Path of a folder or file of the project outside of the Python package.

    Args:
        name: 'configs', 'tools' or 'model-index.yml'.
    """
    packed = PACKAGE / '.mim' / name
    return packed if packed.exists() else PACKAGE.parent / name


def find_config(path: str) -> str:
    """Find a config: a file that the user names, or else a config of that name that comes with the package.

    Args:
        path: A file, or a path below ``configs/`` such as ``ciae/ciae_r50_fpn_90k_coco.py``, with or without
            ``configs/`` in front.

    Returns:
        The file, or ``path`` unchanged if there is no such file.
    """
    if Path(path).is_file() or Path(path).is_absolute():
        return path
    other = shipped('configs') / path.removeprefix('configs/')
    return str(other) if other.is_file() else path

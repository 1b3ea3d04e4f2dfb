"""Where configs and tools lie: in the folder ``.mim`` of an installed package, else in the checkout around it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def shipped(name: str) -> Path:
    """Folder or file of the project that is not Python of the package.

    Args:
        name: 'configs', 'tools' or 'model-index.yml'.
    """
    packed = PACKAGE / '.mim' / name
    return packed if packed.exists() else PACKAGE.parent / name


def find_config(path: str) -> str:
    """A config as the user names it, or the one of that name among those that come with the package.

    Args:
        path: A file, or a place below ``configs/`` such as ``ciae/ciae_r50_fpn_90k_coco.py``, with or without
            ``configs/`` in front.

    Returns:
        The file, or ``path`` as it is where there is none.
    """
    if Path(path).is_file() or Path(path).is_absolute():
        return path
    other = shipped('configs') / path.removeprefix('configs/')
    return str(other) if other.is_file() else path

"""Find the images and videos that files, folders, patterns, lists and addresses stand for."""

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmpanoptic.utils import UserError, require_file
from mmpanoptic.utils.fetch import is_address, require_fetchable
from mmpanoptic.utils.outputs import MARKER

IMAGE_EXTENSIONS = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')
VIDEO_EXTENSIONS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
#: Maker of folders of predictions, whose pictures are not predicted again.
MAKER = 'tools/predict.py'
# Suffixes of image formats that are not read in folders.
_OTHER_SUFFIX = re.compile(
    r'\.(3fr|arw|avif|cr[23]|dcm|dib|dng|emf|eps|exr|fits|gif|hdr|heic|heif|icns|ico|j2k|jfif|jp2|jpe|jpx|jxl|mpo|nef|'
    r'orf|p[bgfn]m|pcx|psd|raf|raw|rw2|sgi|svg|svs|tga|wmf|xbm|xpm)',
    re.IGNORECASE,
)

Image = str | os.PathLike[str] | np.ndarray
Images = Image | Sequence[Image]


@dataclass(frozen=True)
class Sources:
    """Images and videos to predict, each of them once.

    Attributes:
        images: Paths and addresses of images.
        videos: Paths of videos.
        left_out: Paths of files in folders whose suffix is that of an image format that is not read.
        file_names: ``file_name`` in a JSON of each image that was found in a folder: its path relative to that folder.
    """

    images: list[str]
    videos: list[str]
    left_out: list[str]
    file_names: dict[str, str]


def list_sources(inputs: Iterable[str | os.PathLike[str]]) -> Sources:
    """List the images and videos of files, folders, patterns, lists and addresses, see :func:`list_images`.

    Raises:
        UserError: As :func:`list_images`, except that videos are accepted; or if a video is given by its address.
    """
    images: dict[str, None] = {}
    videos: dict[str, None] = {}
    left_out: dict[str, None] = {}
    file_names: dict[str, str] = {}
    for given in inputs:
        place = os.fspath(given)
        found, others = _expand(place, IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)
        if os.path.isdir(place):
            file_names = {path: Path(path).relative_to(place).as_posix() for path in found} | file_names
        for path in found:
            if not _is_video(path):
                images[path] = None
            elif is_address(path):
                raise UserError(f'video {path} is an address: download it and give the path of the file')
            else:
                videos[path] = None
        left_out |= dict.fromkeys(others)
    return Sources(list(images), list(videos), list(left_out), file_names)


def iter_images(images: Images | Iterator[Image]) -> Iterator[str | np.ndarray]:
    """Yield the images that :func:`list_images` lists.

    Each item of an iterator is taken as one image, and its file need not exist before that item is used.
    """
    if isinstance(images, Iterator):
        for image in images:
            yield from list_images(image) if isinstance(image, np.ndarray) else [os.fspath(image)]
    else:
        yield from list_images(images)


def list_images(images: Images) -> list[str | np.ndarray]:
    """List images one by one.

    Args:
        images: One of these, or a sequence of them:

            - a file
            - a folder: all files in it and in its subfolders that have a suffix of ``IMAGE_EXTENSIONS``, sorted by
              path, without hidden files and earlier predictions
            - a pattern such as ``day*/*.jpg``, where ``**`` matches any folders
            - a list, FILE.txt, with a file, folder, pattern or address on each line, relative to the list's folder
            - an http or https address
            - an image, uint8 RGB of shape (H, W, 3)

    Raises:
        UserError: If a path does not exist, an address has another scheme, a folder, pattern or list has no image, or a
            file is a video.
        ValueError: If an array has another type or shape.
    """
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[2] != 3:
            raise ValueError(f'an image is uint8 RGB of shape (H, W, 3), not {images.dtype} of shape {images.shape}')
        return [images]
    if not isinstance(images, (str, os.PathLike)):
        return [image for item in images for image in list_images(item)]
    found, _ = _expand(os.fspath(images), IMAGE_EXTENSIONS)
    if video := next(filter(_is_video, found), None):
        raise UserError(f'{video} is a video: give its frames, which mmpanoptic.apis.frames_of reads')
    return [*found]


def _is_video(path: str) -> bool:
    return path.lower().endswith(VIDEO_EXTENSIONS)


def _expand(text: str, suffixes: tuple[str, ...], in_list: str = '') -> tuple[list[str], list[str]]:
    """Files or addresses that a text stands for, and files of other image formats in folders."""
    if is_address(text):
        require_fetchable(text, f'{in_list}image')
        return [text], []
    if os.path.isdir(text):
        return _walk(text, suffixes)
    if not os.path.lexists(text) and glob.has_magic(text):
        names = [name for name in sorted(glob.glob(text, recursive=True)) if name.lower().endswith(suffixes)]
        if not names:
            raise UserError(f'{in_list}pattern {text} matches no image ({", ".join(suffixes)}): quote and check it')
        return names, []
    require_file(text, f'{in_list}image')
    if text.lower().endswith('.txt') and not in_list:
        return _read_list(text, suffixes)
    return [str(Path(text))], []


def _walk(folder: str, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Files in a folder and its subfolders that have one of the suffixes, sorted, and files of other image formats."""
    found: list[Path] = []
    others: list[Path] = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [name for name in folders if name[0] != '.' and not _is_prediction(here / name)]
        for file in (here / name for name in files if name[0] != '.'):
            if file.suffix.lower() in suffixes and file.is_file():
                found.append(file)
            elif _OTHER_SUFFIX.fullmatch(file.suffix):
                others.append(file)
    if not found:
        raise UserError(f'folder {folder} holds no image ({", ".join(suffixes)})')
    return [str(file) for file in sorted(found)], [str(file) for file in sorted(others)]


def _is_prediction(folder: Path) -> bool:
    """Whether ``predict`` wrote the folder."""
    try:
        return json.loads((folder / MARKER).read_text())['made_by'] == MAKER
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_list(path: str, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Files or addresses that the lines of a list stand for; empty lines and lines that begin with # are skipped."""
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f'list {path} cannot be read: write one path per line, in UTF-8 ({error})') from None
    found: list[str] = []
    others: list[str] = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and line[0] != '#':
            place = line if is_address(line) else os.path.join(os.path.dirname(path), line)
            files, left_out = _expand(place, suffixes, f'{path}, line {number}: ')
            found += files
            others += left_out
    if not found:
        raise UserError(f'list {path} names no image: write one path per line')
    return found, others

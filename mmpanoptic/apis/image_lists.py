"""The images and videos that a user means by files, folders, patterns, lists and addresses."""

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
#: Who makes the folders of predictions, which are no images to predict.
MAKER = 'tools/predict.py'
# Of other images: what cameras, browsers and scanners write.
_OTHER_SUFFIX = re.compile(
    r'\.(3fr|arw|avif|cr[23]|dcm|dib|dng|emf|eps|exr|fits|gif|hdr|heic|heif|icns|ico|j2k|jfif|jp2|jpe|jpx|jxl|mpo|nef|'
    r'orf|p[bgfn]m|pcx|psd|raf|raw|rw2|sgi|svg|svs|tga|wmf|xbm|xpm)',
    re.IGNORECASE,
)

Image = str | os.PathLike | np.ndarray
Images = Image | Sequence[Image]


@dataclass(frozen=True)
class Sources:
    """What is there to predict, each once.

    Attributes:
        images: Files and addresses of images.
        videos: Files of videos.
        left_out: Files in folders that are images by their names, and of formats that are not read.
        file_names: What the images of folders are called in a JSON: their paths in the folder that was given.
    """

    images: list[str]
    videos: list[str]
    left_out: list[str]
    file_names: dict[str, str]


def list_sources(inputs: Iterable[str | os.PathLike]) -> Sources:
    """Images and videos of files, folders, patterns, lists and addresses, see :func:`list_images`.

    Raises:
        UserError: As there; an address of a video is not fetched.
    """
    images, videos, left_out, file_names = {}, {}, {}, {}
    for one in map(os.fspath, inputs):
        found, others = _expand(one, IMAGE_EXTENSIONS + VIDEO_EXTENSIONS)
        if os.path.isdir(one):
            file_names = {path: Path(path).relative_to(one).as_posix() for path in found} | file_names
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
    """What :func:`list_images` gives; of an iterator, each is an image as it is, and looked for when it is its turn."""
    if isinstance(images, Iterator):
        for one in images:
            yield from list_images(one) if isinstance(one, np.ndarray) else [os.fspath(one)]
    else:
        yield from list_images(images)


def list_images(images: Images) -> list[str | np.ndarray]:
    """Images one by one.

    Args:
        images: A file; a folder, of which and of whose subfolders the files count that have a suffix of
            ``IMAGE_EXTENSIONS``, sorted by path, hidden ones and earlier predictions left out; a pattern such as
            'day*/*.jpg' ('**' for any folders); a list, FILE.txt, with one of these a line, relative to its folder; an
            http or https address; an image (uint8 RGB of shape (H, W, 3)); or several of these.

    Raises:
        UserError: If a path does not exist, an address is not fetched, or there is no image in a folder, by a pattern
            or in a list.
        ValueError: If an array is not of that type and shape.
    """
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[2] != 3:
            raise ValueError(f'an image is uint8 RGB of shape (H, W, 3), not {images.dtype} of shape {images.shape}')
        return [images]
    if not isinstance(images, (str, os.PathLike)):
        return [image for one in images for image in list_images(one)]
    found, _ = _expand(os.fspath(images), IMAGE_EXTENSIONS)
    if video := next(filter(_is_video, found), None):
        raise UserError(f'{video} is a video: give its frames, which mmpanoptic.apis.frames_of reads')
    return found


def _is_video(path: str) -> bool:
    return path.lower().endswith(VIDEO_EXTENSIONS)


def _expand(text: str, suffixes: tuple[str, ...], in_list: str = '') -> tuple[list[str], list[str]]:
    """Files or addresses that a text means, and files in its folders that are left out."""
    if is_address(text):
        require_fetchable(text, f'{in_list}image')
        return [text], []
    if os.path.isdir(text):
        return _walk(text, suffixes)
    if not os.path.lexists(text) and glob.has_magic(text):
        names = [name for name in sorted(glob.glob(text, recursive=True)) if name.lower().endswith(suffixes)]
        if not names:
            raise UserError(f'{in_list}pattern {text} fits no image ({", ".join(suffixes)}): quote and check it')
        return names, []
    require_file(text, f'{in_list}image')
    if text.lower().endswith('.txt') and not in_list:
        return _read_list(text, suffixes)
    return [str(Path(text))], []


def _walk(folder: str, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Files with one of the suffixes below a folder, sorted, and images of other formats."""
    found, others = [], []
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
    """Whether a folder is one that predictions were written to."""
    try:
        return json.loads((folder / MARKER).read_text())['made_by'] == MAKER
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_list(path: str, suffixes: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """What the lines of a list mean; empty ones and those that begin with # mean nothing."""
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f'list {path} cannot be read: write one path a line, in UTF-8 ({error})') from None
    found, others = [], []
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and line[0] != '#':
            place = line if is_address(line) else os.path.join(os.path.dirname(path), line)
            files, left_out = _expand(place, suffixes, f'{path}, line {number}: ')
            found += files
            others += left_out
    if not found:
        raise UserError(f'list {path} names no image: write one path a line')
    return found, others

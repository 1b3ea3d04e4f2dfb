"""Videos: their frames, and a video of pictures. OpenCV reads and writes them, by its FFmpeg."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mmpanoptic.formats.images import check_pixels
from mmpanoptic.utils import DatasetError, UserError, WriteError, require_file

#: MPEG-4 part 2 in .mp4, which every OpenCV from PyPI writes. Browsers show H.264, which OpenCV does not write.
CODEC = 'mp4v'
_WHOLE = 0.95


def frames_of(path: str) -> Iterator[np.ndarray]:
    """The frames of a video, uint8 RGB of shape (H, W, 3), turned where it says so.

    Raises:
        UserError: If there is no such file.
        DatasetError: If it is no video, its frames have too many pixels, or, after the last one, there are fewer than
            it states.
    """
    require_file(path, 'video')
    with _capture(path) as video:
        number, stated = 0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        while True:
            is_there, frame = video.read()
            if not is_there:
                break
            number += 1
            yield np.ascontiguousarray(frame[..., ::-1])
    if not number:
        raise DatasetError(f'{path} has no frame that can be decoded: convert or fetch it again')
    if number < _WHOLE * stated - 1:  # what containers state may be an estimate
        raise DatasetError(f'{path} ends after {number} of {stated} frames: it is damaged, fetch or convert it again')


def frame_rate(path: str) -> float:
    """Frames a second of a video; 25 where it does not say.

    Raises:
        DatasetError: See :func:`frames_of`.
    """
    with _capture(path) as video:
        rate = video.get(cv2.CAP_PROP_FPS)
    return rate if 0 < rate < 1000 else 25.0


@contextlib.contextmanager
def _capture(path: str) -> Iterator[cv2.VideoCapture]:
    video = cv2.VideoCapture(path)
    try:
        if not video.isOpened():
            raise DatasetError(f'{path} cannot be decoded as a video: convert or fetch it again')
        height, width = (int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FRAME_WIDTH))
        check_pixels(height, width, path)
        yield video
    finally:
        video.release()


class VideoFile:
    """A video that pictures of one size are added to; a context manager.

    Args:
        path: The file, .mp4.
        rate: Frames a second.

    Raises:
        UserError: If this OpenCV does not write such videos; when the first picture is added.
        WriteError: If pictures are missing in the file, as on a full disk, of which OpenCV says nothing; at the end.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate, self.number = path, rate, 0
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: np.ndarray) -> None:
        """Add a picture, uint8 RGB; of an odd height or width, the last row or column is left out."""
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._writer is None:
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter_fourcc(*CODEC), self.rate, (width, height))
            if not self._writer.isOpened():
                raise UserError(f'{self.path} cannot be written: this OpenCV has no encoder {CODEC}: use no_pictures')
        self.number += 1
        self._writer.write(np.ascontiguousarray(picture[:height, :width, ::-1]))

    def __enter__(self) -> 'VideoFile':
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if kind is None:
            written = cv2.VideoCapture(str(self.path))
            number = int(written.get(cv2.CAP_PROP_FRAME_COUNT))
            written.release()
            if number != self.number:
                self.path.unlink(missing_ok=True)
                raise WriteError(self.path, f'{number} of {self.number} pictures are in it: is the disk full?')

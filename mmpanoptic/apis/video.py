"""Read the frames of videos, and write pictures as a video, with OpenCV and its FFmpeg."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mmpanoptic.formats.images import check_pixels
from mmpanoptic.utils import DatasetError, UserError, WriteError, require_file

#: MPEG-4 part 2 in .mp4, which every OpenCV from PyPI writes. Browsers play H.264, which it does not write.
CODEC = 'mp4v'
_WHOLE = 0.95  # least share of the stated number of frames


def frames_of(path: str) -> Iterator[np.ndarray]:
    """Yield the frames of a video, uint8 RGB of shape (H, W, 3), rotated if the file says so.

    Raises:
        UserError: If the file does not exist.
        DatasetError: If the file is not a video or its frames have too many pixels; after the last frame, if there are
            fewer frames than the file states.
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
    """Frames per second of a video; 25 if the file does not state it.

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
    """Context manager that writes pictures of equal size as a video.

    Args:
        path: The file, .mp4.
        rate: Frames per second.

    Raises:
        UserError: When the first picture is added, if this OpenCV cannot write such videos.
        WriteError: At the end, if pictures are missing in the file. OpenCV does not report a full disk.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate, self.number = path, rate, 0
        self._writer: cv2.VideoWriter | None = None

    def add(self, picture: np.ndarray) -> None:
        """Add a picture, uint8 RGB. If its height or width is odd, the last row or column is cut off."""
        height, width = (side - side % 2 for side in picture.shape[:2])
        if self._writer is None:
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*CODEC), self.rate, (width, height))
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

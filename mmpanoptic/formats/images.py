"""Image files."""

from mmpanoptic.utils import DatasetError


def check_complete(data: bytes, name: str) -> None:
    """Refuse a JPEG or PNG that ends too early; decoders fill the missing rows with grey or black.

    Raises:
        DatasetError: If the bytes are a JPEG or PNG without its end.
    """
    if data.startswith(b'\x89PNG'):
        complete = data.rfind(b'IEND') > 0
    elif data.startswith(b'\xff\xd8'):
        # An EXIF thumbnail has an end marker too: the last scan must be followed by one.
        complete = data.rfind(b'\xff\xd9') > data.rfind(b'\xff\xda')
    else:
        complete = len(data) > 0
    if not complete:
        raise DatasetError(f'{name} is truncated ({len(data)} bytes, no end marker): fetch or write it again')

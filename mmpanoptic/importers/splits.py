"""Random splits of images into training and validation."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath

from mmpanoptic.utils import UserError

WAYS = ('image', 'group', 'folder')


def split_names(names: Sequence[str], fraction: float, by: str = 'image') -> dict[str, str]:
    """Split images by the order of hashes of their names, which is the same in every run.

    Args:
        names: Names of images, with folders.
        fraction: Share of the images for training, between 0 and 1.
        by: Images that stay together: none ('image'), files whose names differ only in their last number, such as
            frames of a video ('group'), or files of a folder ('folder').

    Returns:
        'train' or 'val' by name. Each of both has at least one image.

    Raises:
        UserError: If ``fraction`` is not between 0 and 1, or all images stay together.
    """
    if not 0 < fraction < 1:
        raise UserError(f'{fraction} is no share of the images: give a number between 0 and 1', 'split')
    members = defaultdict(list)
    for name in names:
        members[_key(name, by)].append(name)
    if len(members) < 2:
        raise UserError(f'all {len(names)} images are of one {by}: they cannot be split by it', 'split_by')
    keys = sorted(members, key=lambda key: (hashlib.sha256(key.encode('utf-8', 'surrogateescape')).digest(), key))
    split_of: dict[str, str] = {}
    number = 0
    for place, key in enumerate(keys):
        # Half of the group counts, so that the share comes as close to the fraction as whole groups allow.
        is_train = number + len(members[key]) / 2 <= fraction * len(names)
        is_train = place == 0 or (is_train and place < len(keys) - 1)
        number += len(members[key])
        split_of |= dict.fromkeys(members[key], 'train' if is_train else 'val')
    return split_of


def _key(name: str, by: str) -> str:
    if by == 'folder':
        return str(PurePosixPath(name).parent)
    if by == 'group':
        path = PurePosixPath(name)
        stem = path.stem.removesuffix('_leftImg8bit')  # Cityscapes' suffix, whose 8 is no frame number
        return str(path.parent / re.sub(r'[0-9]+([^0-9]*)$', r'\1', stem))
    return name

import mmdet.datasets.transforms  # noqa: F401  (a parent registry is searched only among what is imported)

from .copy_paste import PanopticCopyPaste
from .flip import RandomFlip
from .formatting import PackPanopticInputs
from .loading import LoadAnnotations, LoadImageFromFile, LoadPanopticAnnotations
from .resize import Resize
from .test_time_aug import TestTimeAug

__all__ = [
    'LoadAnnotations',
    'LoadImageFromFile',
    'LoadPanopticAnnotations',
    'PackPanopticInputs',
    'PanopticCopyPaste',
    'RandomFlip',
    'Resize',
    'TestTimeAug',
]

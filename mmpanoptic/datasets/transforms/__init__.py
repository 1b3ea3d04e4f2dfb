import mmdet.datasets.transforms  # noqa: F401  (a parent registry is searched only among what is imported)

from .formatting import PackPanopticInputs
from .loading import LoadImageFromFile, LoadPanopticAnnotations
from .test_time_aug import TestTimeAug

__all__ = ['LoadImageFromFile', 'LoadPanopticAnnotations', 'PackPanopticInputs', 'TestTimeAug']

"""mmcv's test-time augmentation with named groups of transforms."""

import mmcv.transforms

from mmpanoptic.registry import TRANSFORMS

from ..pipelines import Groups, groups_of


@TRANSFORMS.register_module()
class TestTimeAug(mmcv.transforms.TestTimeAug):
    """Make the views of an image, one for each combination of one transform per group.

    Args:
        transforms: Groups of transforms, which may have names: see :func:`~mmpanoptic.datasets.pipelines.groups_of`.
    """

    def __init__(self, transforms: Groups) -> None:
        super().__init__(groups_of(transforms))

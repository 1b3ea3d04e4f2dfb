"""mmcv's test-time augmentation with groups of transforms that have names."""

import mmcv.transforms

from mmpanoptic.registry import TRANSFORMS

from ..pipelines import Groups, groups_of


@TRANSFORMS.register_module()
class TestTimeAug(mmcv.transforms.TestTimeAug):
    """Makes the views of an image: one for each combination of one transform from each group.

    Args:
        transforms: Groups of transforms, which may have names: see :func:`~mmpanoptic.datasets.pipelines.groups_of`.
    """

    def __init__(self, transforms: Groups) -> None:
        super().__init__(groups_of(transforms))

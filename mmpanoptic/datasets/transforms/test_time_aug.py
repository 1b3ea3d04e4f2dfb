"""mmcv's test-time augmentation with groups of transforms that have names."""

from collections.abc import Mapping, Sequence

import mmcv.transforms

from mmpanoptic.registry import TRANSFORMS

from ..pipelines import Pipeline, steps_of


@TRANSFORMS.register_module()
class TestTimeAug(mmcv.transforms.TestTimeAug):
    """Makes the views of an image: one for each combination of one transform from each group.

    Args:
        transforms: Groups by name, of which a config replaces one, or (None) leaves it out; or a list of groups as mmcv
            has it. The transforms of a group are what :func:`~mmpanoptic.datasets.pipelines.steps_of` takes.

    Raises:
        UserError: If something is no group of transforms.
    """

    def __init__(self, transforms: Mapping[str, Pipeline | None] | Sequence[Pipeline]) -> None:
        groups = transforms.items() if isinstance(transforms, Mapping) else enumerate(transforms)
        super().__init__([steps_of(group, f'transforms.{name}') for name, group in groups if group is not None])

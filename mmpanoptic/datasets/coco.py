"""mmdet's COCO dataset with a pipeline of named steps."""

import mmdet.datasets

from mmpanoptic.registry import DATASETS

from .pipelines import Pipeline, steps_of


@DATASETS.register_module()
class CocoDataset(mmdet.datasets.CocoDataset):
    """mmdet's dataset of that name.

    Args:
        pipeline: See :func:`~mmpanoptic.datasets.pipelines.steps_of`.
        kwargs: See :class:`mmdet.datasets.CocoDataset`.
    """

    def __init__(self, *args, pipeline: Pipeline = (), **kwargs) -> None:
        super().__init__(*args, pipeline=steps_of(pipeline), **kwargs)

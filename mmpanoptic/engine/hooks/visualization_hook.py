"""Pictures of predictions in validation and in testing."""

import os
from collections.abc import Sequence
from pathlib import Path

from mmcv.transforms import LoadImageFromFile
from mmdet.structures import DetDataSample
from mmengine.dist import get_rank, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.registry import HOOKS
from mmpanoptic.visualization.files import picture_names, read_image


@HOOKS.register_module()
class PanopticVisualizationHook(Hook):
    """Draws predictions next to the ground truth with the runner's visualizer.

    Images are read as by the first loading step of the dataset's pipeline: from the same storage, in the same
    orientation.

    Args:
        draw: Whether to draw in validation: the first image of every ``interval``-th batch of rank 0, for the vis
            backends.
        interval: Batches from one picture to the next in validation.
        score_thr: Instances with a lower score are not drawn, if a model predicts no panoptic map.
        test_out_dir: Folder for one ``<image stem>.png`` per tested image; it is not put below the work dir. Images
            with the same stem get the folders that distinguish them in front. Every rank writes the images that it
            tested.
        max_images: Number of images to draw in testing, on all ranks together; None for all.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        score_thr: float = 0.3,
        test_out_dir: str | None = None,
        max_images: int | None = None,
    ) -> None:
        self.draw = draw
        self.interval = interval
        self.score_thr = score_thr
        self.test_out_dir = test_out_dir
        self.max_images = max_images
        self._names: dict[str, str] = {}
        self._seen = 0

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        """Draw the first image of every ``interval``-th batch."""
        if self.draw and outputs and batch_idx % self.interval == 0 and is_main_process():
            name = f'val_{Path(outputs[0].img_path).stem}'
            self._draw(runner, runner.val_dataloader, outputs[0], name, step=runner.iter)

    def before_test(self, runner: Runner) -> None:
        """Choose the name of every image's picture; names are the same on every rank."""
        self._seen = 0
        if self.test_out_dir is not None:
            dataset = runner.test_dataloader.dataset
            self._names = picture_names(dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: Sequence[DetDataSample] | None = None,
    ) -> None:
        """Draw every image of the batch, up to ``max_images``."""
        if self.test_out_dir is None:
            return
        for data_sample in outputs or ():
            # The sampler assigns images to the ranks in turn, so this is the image's index in the dataset.
            place = self._seen * get_world_size() + get_rank()
            self._seen += 1
            if self.max_images is not None and place >= self.max_images:
                return
            out_file = os.path.join(self.test_out_dir, f'{self._names[data_sample.img_path]}.png')
            self._draw(
                runner,
                runner.test_dataloader,
                data_sample,
                Path(data_sample.img_path).stem,
                step=place,
                out_file=out_file,
            )

    def _draw(
        self,
        runner: Runner,
        dataloader: DataLoader,
        data_sample: DetDataSample,
        name: str,
        step: int,
        out_file: str | None = None,
    ) -> None:
        runner.visualizer.add_datasample(
            name,
            read_image(data_sample.img_path, **reading_of(dataloader.dataset)),
            data_sample=data_sample,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )


def reading_of(dataset: Dataset) -> dict:
    """Arguments of :func:`read_image` that make it read images as the dataset's pipeline does."""
    for inner in inner_datasets(dataset):
        for transform in getattr(getattr(inner, 'pipeline', None), 'transforms', ()):
            if isinstance(transform, LoadImageFromFile):
                return dict(
                    backend_args=transform.backend_args, flag=transform.color_type, decoder=transform.imdecode_backend
                )
    return {}

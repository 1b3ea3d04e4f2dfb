"""The visualizer that draws panoptic ground truth and predictions side by side."""

import logging

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.visualization import get_palette
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from mmengine.structures import InstanceData, PixelData
from mmengine.visualization import Visualizer

from mmpanoptic.drawing import draw, scene
from mmpanoptic.registry import VISUALIZERS
from mmpanoptic.structures import segments_of_map


@VISUALIZERS.register_module()
class PanopticVisualizer(Visualizer):
    """Draws ``image | ground truth | prediction``, without the panels that a data sample has no data for.

    Panoptic maps are drawn in the dataset's colours (``dataset_meta['palette']``, by contiguous label). Without a
    panoptic map, instances are drawn. mmengine lets only rank 0 draw; this visualizer draws on every rank, since each
    rank draws the images that it has tested. Windows and vis backends are mmengine's, on rank 0 only.

    Args:
        name: Name of the instance.
        alpha: Opacity of the colours over the image.
        min_side: Images whose short side is below this many pixels are enlarged by a whole factor before drawing.
        kwargs: Further arguments of mmengine's ``Visualizer``: ``vis_backends``, ``save_dir``.
    """

    def __init__(
        self,
        name: str = 'visualizer',
        alpha: float = scene.ALPHA,
        min_side: int = scene.MIN_SIDE,
        **kwargs,
    ) -> None:
        super().__init__(name=name, **kwargs)
        self.alpha = alpha
        self.min_side = min_side
        self._picture: np.ndarray | None = None
        self._said_full = False

    @property
    def dataset_meta(self) -> dict:
        """Metainfo of the dataset; the loops set it, on every rank."""
        return self._dataset_meta or {}

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: dict | None) -> None:
        self._dataset_meta = dataset_meta

    def get_image(self) -> np.ndarray | None:
        """The picture that :meth:`add_datasample` drew last, uint8 RGB, on any rank; None before the first."""
        return self._picture

    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        pred_score_thr: float = 0.3,
        step: int = 0,
    ) -> None:
        """Draw a data sample and show it, write it to a file, or hand it to the vis backends.

        Args:
            name: Name of the picture in a window or in the vis backends.
            image: The image, uint8 RGB of shape (H, W, 3), at the size of the maps.
            data_sample: ``gt_panoptic_seg`` (raw ids, with ``segments_info``), ``pred_panoptic_seg``, or instances.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
            show: Whether to open a window.
            wait_time: Seconds that the window stays; 0: until a key is pressed.
            out_file: File to write; its folder is made if missing. Without it and without ``show`` the picture goes to
                the vis backends, from rank 0 only.
            pred_score_thr: Predicted instances with a lower score are not drawn. A panoptic map is drawn as it is,
                since fusion has applied its thresholds.
            step: Step to record in the vis backends.

        Raises:
            ValueError: If a map is not of the image's size, or ``dataset_meta`` has no class names.
        """
        if not show and out_file is None and not is_main_process():
            return
        canvas, factor = draw.upscale(image.clip(0, 255).astype(np.uint8), self.min_side)
        panels = [draw.with_header(canvas, 'image')]
        if data_sample is not None and draw_gt:
            picture = self.draw_ground_truth(canvas, factor, data_sample)
            panels += [] if picture is None else [draw.with_header(picture, 'ground truth')]
        if data_sample is not None and draw_pred:
            picture = self.draw_prediction(canvas, factor, data_sample, pred_score_thr)
            panels += [] if picture is None else [draw.with_header(picture, 'prediction')]
        drawn = draw.side_by_side(panels)

        self._picture = drawn
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            mmcv.imwrite(drawn[..., ::-1], out_file)
        elif not show:
            self.add_image(name, drawn, step)

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None) -> None:
        """Record scalars of a step. On a full disk it warns once, and the training goes on without them."""
        try:
            super().add_scalars(scalar_dict, step, file_path)
        except OSError as error:
            if not self._said_full:
                print_log(
                    f'Scalars cannot be recorded ({error.strerror or error}): the run goes on',
                    'current',
                    logging.WARNING,
                )
            self._said_full = True

    def draw_ground_truth(self, canvas: np.ndarray, factor: int, data_sample: DetDataSample) -> np.ndarray | None:
        """Draw the ground truth on the canvas of ``factor`` times the image's size; None without ground truth."""
        panoptic = data_sample.get('gt_panoptic_seg')
        if panoptic is not None and 'segments_info' in panoptic:
            return self._draw_panoptic(canvas, factor, panoptic, panoptic.segments_info)
        instances = data_sample.get('gt_instances')
        return None if instances is None else self.draw_instances(canvas, factor, instances)

    def draw_prediction(
        self, canvas: np.ndarray, factor: int, data_sample: DetDataSample, score_thr: float
    ) -> np.ndarray | None:
        """Draw the prediction on the canvas: the panoptic map or, without one, instances above ``score_thr``."""
        panoptic = data_sample.get('pred_panoptic_seg')
        if panoptic is not None:
            segments = panoptic.get('segments_info')
            if segments is None:  # a fusion head of mmdet
                segments = segments_of_map(map_of(panoptic), len(self._classes()))
            return self._draw_panoptic(canvas, factor, panoptic, segments)
        instances = data_sample.get('pred_instances')
        if instances is None:
            return None
        return self.draw_instances(canvas, factor, instances[instances.scores > score_thr])

    def _draw_panoptic(self, canvas: np.ndarray, factor: int, panoptic: PixelData, segments: list[dict]) -> np.ndarray:
        """Draw a panoptic map on the canvas of ``factor`` times the map's size."""
        return self.draw_map(canvas, factor, map_of(panoptic), segments)

    def draw_map(self, canvas: np.ndarray, factor: int, ids: np.ndarray, segments: list[dict]) -> np.ndarray:
        """Draw a map of ids of shape (H, W) with these segments on the canvas of ``factor`` times the map's size."""
        return scene.draw_map(canvas, factor, ids, segments, self._classes(), self._palette(), self.alpha)

    def draw_instances(self, canvas: np.ndarray, factor: int, instances: InstanceData) -> np.ndarray:
        """Draw instances on the canvas of ``factor`` times the image's size."""
        boxes, masks = boxes_of(instances), masks_of(instances)
        if boxes is None and masks is None:
            return canvas
        labels = instances.labels.tolist()
        scores = instances.scores.tolist() if 'scores' in instances else [None] * len(labels)
        classes, palette = self._classes(), self._palette()
        return scene.draw_found(canvas, factor, boxes, masks, labels, scores, classes, palette, self.alpha)

    def _classes(self) -> list[str]:
        classes = self.dataset_meta.get('classes')
        if classes is None:
            raise ValueError("nothing can be drawn without class names: set the visualizer's dataset_meta")
        return classes

    def _palette(self) -> list:
        return get_palette(self.dataset_meta.get('palette'), len(self._classes()))

    def colors_of(self, labels: list[int]) -> np.ndarray:
        """Colours of segments by their contiguous labels, uint8 RGB of shape (N, 3)."""
        return draw.segment_colors(labels, self._palette())


def map_of(panoptic: PixelData) -> np.ndarray:
    """The map of shape (H, W) as an array, from any device."""
    data = panoptic.sem_seg
    data = data.cpu().numpy() if isinstance(data, torch.Tensor) else np.asarray(data)
    return data[0]


def boxes_of(instances: InstanceData) -> np.ndarray | None:
    """Boxes of shape (n, 4); None without boxes or if all are 0, as in detectors that predict only masks."""
    boxes = instances.get('bboxes')
    boxes = getattr(boxes, 'tensor', boxes)
    return None if boxes is None or not boxes.any() else boxes.cpu().numpy()


def masks_of(instances: InstanceData) -> np.ndarray | None:
    """Masks, bool of shape (n, H, W), from tensors, arrays or mmdet's mask types; None without masks."""
    masks = instances.get('masks')
    if masks is None:
        return None
    if isinstance(masks, torch.Tensor):
        return masks.cpu().numpy().astype(bool)
    return (masks.to_ndarray() if hasattr(masks, 'to_ndarray') else masks).astype(bool)

"""From images to panoptic maps with a trained model."""

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample, SampleList
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmpanoptic.datasets import steps_of
from mmpanoptic.engine.checkpoint_files import read_checkpoint
from mmpanoptic.engine.checkpoints import first_misfit, require_finite, weights_and_meta
from mmpanoptic.engine.class_counts import counted_model
from mmpanoptic.engine.components import building
from mmpanoptic.engine.configs import load_config, require_keys
from mmpanoptic.engine.data_places import LOADERS
from mmpanoptic.models.detectors.samples import add_predictions
from mmpanoptic.registry import MODELS, TRANSFORMS
from mmpanoptic.structures import Evidence, segments_of_map
from mmpanoptic.utils import UserError
from mmpanoptic.visualization import PanopticVisualizer
from mmpanoptic.visualization.draw import upscale

from .categories import meta_of_model
from .image_lists import Image, Images, list_images


@dataclass(frozen=True, eq=False)
class PanopticResult:
    """What a model says about one image; everything is on the CPU and at the image's original size.

    Attributes:
        path: The image's file, or None if it was given as an array.
        image: The image, uint8 RGB of shape (H, W, 3).
        panoptic: Map of shape (H, W), int32: ``label + INSTANCE_OFFSET * k``, ``num_classes`` where void (see
            :mod:`mmpanoptic.structures`). None from models of instances only.
        segments_info: The map's segments: ``id`` (the value in the map), ``label``, ``name`` (of the class), ``score``
            (0 to 1; None for stuff) and ``instance`` (index into ``instances``; None for stuff).
        instances: All detections, pasted into the map or not: ``bboxes`` (N, 4) as x1, y1, x2, y2 in pixels, ``labels``
            (N,), ``scores`` (N,), ``masks`` (N, H, W) bool from models that predict masks of instances.
    """

    path: str | None
    image: np.ndarray
    panoptic: np.ndarray | None
    segments_info: list[dict]
    instances: InstanceData


class Observation(NamedTuple):
    """What a model has seen in one image, for those who want to look inside.

    Attributes:
        result: The result.
        evidence: What it was fused from; None from models of instances only.
        metainfo: Of the image as it went into the network: ``img_shape``, ``ori_shape``, ``batch_input_shape``, ...
    """

    result: PanopticResult
    evidence: Evidence | None
    metainfo: dict


class PanopticInferencer:
    """Predicts images with the test pipeline of a config.

    Example:
        >>> inferencer = PanopticInferencer('config.py', 'checkpoint.pth')
        >>> for result in inferencer('images/'):
        ...     print(result.path, [segment['name'] for segment in result.segments_info])
        ...     picture = inferencer.draw(result)

    Args:
        config: Config, or its file.
        checkpoint: File or URL of its trained weights.
        device: Where to run, such as 'cuda:1'; by default the GPU if there is one.
        trust_checkpoint: Load a checkpoint that holds Python objects, which can run any code.
        allow_nan: Load a checkpoint that holds values that are not finite.

    Raises:
        UserError: If a file is missing, the weights do not fit the config, or the classes' names are not to be found.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike,
        device: str | torch.device | None = None,
        trust_checkpoint: bool = False,
        allow_nan: bool = False,
    ) -> None:
        config = config if isinstance(config, Config) else load_config(os.fspath(config))
        self.model, meta = load_model(config, checkpoint, device, trust_checkpoint, allow_nan)
        #: ``classes``, ``palette`` and, where they can be had, ``categories``.
        self.dataset_meta: dict = meta_of_model(meta, config, os.fspath(checkpoint))
        num_classes = getattr(getattr(self.model, 'panoptic_fusion_head', None), 'num_classes', None)
        if num_classes not in (None, len(self.dataset_meta['classes'])):
            raise UserError(f'{checkpoint}: names of {len(self.dataset_meta["classes"])} classes for a model of '
                            f'{num_classes}: set the num_*_classes of the config to those of its dataset')  # fmt: skip
        self._load_file, self._load_array, self._prepare = _transforms(config)
        self._visualizer = PanopticVisualizer(name='inferencer')
        self._visualizer.dataset_meta = self.dataset_meta

    def __call__(self, images: Images, batch_size: int = 1) -> Iterator[PanopticResult]:
        """Predict images one after the other, as the results are asked for.

        Args:
            images: What :func:`list_images` takes.
            batch_size: Images that go through the model at a time. Those of different sizes are padded to the
                largest, which can change a few pixels.

        Yields:
            One result an image, in their order.

        Raises:
            UserError: If a file is missing, or is no image that can be read.
        """
        images = enumerate(list_images(images))
        while batch := list(itertools.islice(images, batch_size)):
            loaded, inputs, samples = self._load_batch(batch)
            with torch.no_grad():
                samples = self.model.predict(inputs, samples)
            yield from (self._to_result(one, sample.cpu()) for one, sample in zip(loaded, samples, strict=True))

    @torch.no_grad()
    def observe(self, image: Image) -> Observation:
        """Predict one image and keep what the result was made from.

        Args:
            image: A file, or an image (uint8 RGB of shape (H, W, 3)).

        Raises:
            UserError: If the file is missing, or is no image that can be read.
        """
        (loaded,), inputs, samples = self._load_batch(list(enumerate(list_images(image))))
        evidence = None
        if hasattr(self.model, 'evidence'):
            (evidence,) = found = self.model.evidence(inputs, samples)
            (sample,) = add_predictions(samples, found, self.model.fuse(found))
        else:
            (sample,) = self.model.predict(inputs, samples)
        return Observation(self._to_result(loaded, sample.cpu()), evidence, sample.metainfo)

    def draw(self, result: PanopticResult, score_thr: float = 0.3) -> np.ndarray:
        """The image under its panoptic map or, without one, under its instances.

        Args:
            result: A result of this model.
            score_thr: Instances below are not drawn. A panoptic map is drawn as it is.

        Returns:
            uint8 RGB, f times the image's size; f > 1 where a small image had to be enlarged to be read.
        """
        sample = DetDataSample(pred_instances=result.instances)
        if result.panoptic is not None:
            metainfo = dict(segments_info=result.segments_info)
            sample.pred_panoptic_seg = PixelData(sem_seg=torch.from_numpy(result.panoptic)[None], metainfo=metainfo)
        canvas, factor = upscale(result.image, self._visualizer.min_side)
        return self._visualizer.draw_prediction(canvas, factor, sample, score_thr)

    def _load_batch(self, images: list[tuple[int, str | np.ndarray]]) -> tuple[list[dict], Tensor, SampleList]:
        """Numbered images as they were loaded, and as the model takes them."""
        loaded = [self._load(image, number) for number, image in images]
        data = self.model.data_preprocessor(pseudo_collate([self._prepare(dict(one)) for one in loaded]), False)
        return loaded, data['inputs'], data['data_samples']

    def _load(self, image: Image, number: int) -> dict:
        """A pipeline's dict with ``img``, BGR as files are loaded."""
        if isinstance(image, np.ndarray):
            return self._load_array(dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=number))
        return self._load_file(dict(img_path=image, img_id=number))

    def _to_result(self, loaded: dict, sample: DetDataSample) -> PanopticResult:
        panoptic, segments = None, []
        if 'pred_panoptic_seg' in sample:
            panoptic = sample.pred_panoptic_seg.sem_seg[0].numpy().astype(np.int32, copy=False)
            segments = sample.pred_panoptic_seg.get('segments_info')
            if segments is None:  # a fusion head of mmdet
                segments = segments_of_map(panoptic, len(self.dataset_meta['classes']))
        names = self.dataset_meta['classes']
        return PanopticResult(
            path=loaded['img_path'],
            image=np.ascontiguousarray(loaded['img'][..., ::-1]).astype(np.uint8, copy=False),
            panoptic=panoptic,
            segments_info=[dict(score=None, instance=None) | s | dict(name=names[s['label']]) for s in segments],
            instances=sample.get('pred_instances', InstanceData()),
        )


def load_model(
    config: Config,
    checkpoint: str | os.PathLike | None = None,
    device: str | torch.device | None = None,
    trust_checkpoint: bool = False,
    allow_nan: bool = False,
) -> tuple[nn.Module, dict]:
    """Build the model of a config for testing.

    Args:
        config: The config. Numbers of classes that are 'auto' are the checkpoint's or, if it does not tell them, those
            of the data: of the test's, the validation's or the training's, whichever is there.
        checkpoint: File or URL of its weights; without, they are random.
        device: Where to put it; by default the GPU if there is one.
        trust_checkpoint, allow_nan: See :class:`PanopticInferencer`.

    Returns:
        The model in eval mode, and the checkpoint's ``meta``.

    Raises:
        UserError: If the checkpoint cannot be read, it is not one of this model, or there is no such device.
    """
    init_default_scope(config.get('default_scope', 'mmpanoptic'))
    require_keys(config, 'model')
    weights, meta = None, {}
    if checkpoint is not None:
        checkpoint = os.fspath(checkpoint)
        weights, meta = weights_and_meta(read_checkpoint(checkpoint, trust_checkpoint), checkpoint)
        if not allow_nan:
            require_finite(weights, checkpoint)
    parts = dict(model=counted_model(config, LOADERS[::-1], meta.get('dataset_meta')))
    with building(parts):
        model = revert_sync_batchnorm(MODELS.build(parts['model']))
    if weights is not None:
        if misfit := first_misfit(model, weights):  # mmengine only warns, and predictions are noise then
            raise UserError(
                f'{checkpoint} is not of the model that {config.filename or "the config"} describes: {misfit}'
            )
        model.load_state_dict(weights, strict=False)
    device = device or ('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        return model.to(device).eval(), meta
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise UserError(f'device {device} cannot be used: {str(error).splitlines()[0]}') from None


def _transforms(config: Config) -> tuple:
    """Loaders of files and of arrays, and what follows them in the test pipeline but for loading annotations."""
    try:
        steps = steps_of(get_test_pipeline_cfg(config))
    except (AttributeError, RuntimeError, TypeError, LookupError):
        raise UserError(f'{config.filename or "the config"} has no test_dataloader.dataset.pipeline: set it') from None
    pipeline = [step for step in steps if 'Annotations' not in str(step['type'])]
    if not pipeline or 'LoadImageFromFile' not in str(pipeline[0]['type']):
        raise UserError('the test pipeline does not begin with LoadImageFromFile')
    load_array = dict(type='LoadImageFromNDArray', to_float32=pipeline[0].get('to_float32', False))
    with building(config, 'test_dataloader'):
        return TRANSFORMS.build(pipeline[0]), TRANSFORMS.build(load_array), Compose(pipeline[1:])

"""Predict images with a trained model."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.structures import DetDataSample, SampleList
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from torch import Tensor

from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.hooks.speed_hook import compile_dense
from mmpanoptic.engine.precision import precision_of, require_precision
from mmpanoptic.models.detectors.samples import add_predictions
from mmpanoptic.results import PanopticResult
from mmpanoptic.structures import Evidence
from mmpanoptic.utils import DatasetError, UserError
from mmpanoptic.utils.fetch import fetch, is_address, path_of
from mmpanoptic.utils.threads import ahead

from .categories import categories_by_label, meta_of_model
from .image_lists import Image, Images, iter_images, list_images
from .load import load_model, prediction_transforms
from .tiled import predict_tiles, require_tiles
from .to_result import to_result


class Observation(NamedTuple):
    """The result for one image and the evidence that it was made from.

    Attributes:
        result: The result.
        evidence: Evidence that was fused; None from models that predict only instances.
        metainfo: Metainfo of the network's input: ``img_shape``, ``ori_shape``, ``batch_input_shape``, ...
    """

    result: PanopticResult
    evidence: Evidence | None
    metainfo: dict[str, Any]


class _Loaded(NamedTuple):
    """An image before prediction.

    Attributes:
        path: Path or address; None if the image was given as an array.
        image: The image, uint8 RGB of shape (H, W, 3).
        prepared: Output of the pipeline.
    """

    path: str | None
    image: np.ndarray
    prepared: dict[str, Any]


class PanopticInferencer:
    """Predict images with the test pipeline of a config.

    Example:
        >>> inferencer = PanopticInferencer('config.py', 'checkpoint.pth')
        >>> for result in inferencer('images/'):
        ...     print(result.path, [segment.name for segment in result.segments])
        ...     picture = result.draw()

    Args:
        config: A config, or the path of one.
        checkpoint: File or URL of the trained weights.
        device: Device such as 'cuda:1'; by default the GPU if there is one.
        trust_checkpoint: Load a checkpoint with Python objects, which can run any code.
        allow_nan: Load a checkpoint with NaN or infinite values.
        dtype: 'float32', or mixed precision in 'float16' (GPUs only) or 'bfloat16'. Results are float32 in any case.
        compile: Whether to compile backbone and neck by ``torch.compile``, or a dict with its options. Compiling takes
            a minute at the first image and at each new size of the input.

    Raises:
        UserError: If a file is missing, the weights do not fit the config, the names of the classes cannot be found, or
            the device does not support the precision.
    """

    def __init__(
        self,
        config: str | os.PathLike | Config,
        checkpoint: str | os.PathLike,
        device: str | torch.device | None = None,
        trust_checkpoint: bool = False,
        allow_nan: bool = False,
        dtype: str = 'float32',
        compile: bool | dict[str, Any] = False,
    ) -> None:
        config = config if isinstance(config, Config) else load_config(os.fspath(config))
        self.model, meta = load_model(config, checkpoint, device, trust_checkpoint, allow_nan)
        #: Device of the model.
        self.device: torch.device = next(self.model.parameters()).device
        require_precision(self.device, dtype)
        self._dtype = dtype
        #: ``classes``, ``palette`` and, if they are known, ``categories``.
        self.dataset_meta: dict[str, Any] = meta_of_model(meta, config, os.fspath(checkpoint))
        num_classes = getattr(getattr(self.model, 'panoptic_fusion_head', None), 'num_classes', None)
        if num_classes not in (None, len(self.dataset_meta['classes'])):
            raise UserError(f'{checkpoint}: names of {len(self.dataset_meta["classes"])} classes for a model of '
                            f'{num_classes}: set the num_*_classes of the config to those of its dataset')  # fmt: skip
        self._load_file, self._load_array, self._prepare = prediction_transforms(config)
        self._categories = categories_by_label(self.dataset_meta, getattr(self.model, 'num_things_classes', None))
        if compile is not False:
            compile_dense(self.model, **(compile if isinstance(compile, dict) else {}))

    def __call__(
        self,
        images: Images | Iterator[Image],
        batch_size: int = 1,
        threads: int = 0,
        on_error: Callable[[Image, DatasetError], None] | None = None,
    ) -> Iterator[PanopticResult]:
        """Predict images one after the other, when the results are asked for.

        Args:
            images: Images as :func:`list_images` takes them, or an iterator of images. The iterator is read only as far
                ahead as images are loaded.
            batch_size: Number of images that go through the model together. Images of different sizes are padded to the
                largest, which can change a few pixels.
            threads: Number of threads that read and resize the next images while the model works; with 0, images are
                read between predictions.
            on_error: Called with each image that cannot be read and its error; the image is left out. If None, the
                error is raised.

        Yields:
            One result per image, in their order.

        Raises:
            UserError: If a file is missing or is not an image that can be read, and ``on_error`` is None.
        """
        depth = threads + batch_size
        for batch in _batches(ahead(self._try_load, enumerate(iter_images(images)), threads, depth), batch_size):
            loaded: list[_Loaded] = []
            for image, outcome in batch:
                if not isinstance(outcome, DatasetError):
                    loaded.append(outcome)
                elif on_error is None:
                    yield from self._predict(loaded)  # the images before the unreadable one
                    raise outcome
                else:
                    on_error(image, outcome)
            yield from self._predict(loaded)

    def _predict(self, loaded: list['_Loaded']) -> Iterator[PanopticResult]:
        if not loaded:
            return
        inputs, samples = self._collate(loaded)
        with torch.no_grad(), precision_of(self.device, self._dtype):
            samples = self.model.predict(inputs, samples)
        yield from (self._to_result(image, sample.cpu()) for image, sample in zip(loaded, samples, strict=True))

    @torch.no_grad()
    def observe(self, image: Image) -> Observation:
        """Predict one image and keep its evidence.

        Args:
            image: A file, or an image (uint8 RGB of shape (H, W, 3)).

        Raises:
            UserError: If the file is missing or is not an image that can be read.
        """
        (image,) = list_images(image)
        loaded, evidence = self._load(image, 0), None
        inputs, samples = self._collate([loaded])
        with precision_of(self.device, self._dtype):
            if hasattr(self.model, 'evidence'):
                (evidence,) = found = self.model.evidence(inputs, samples)
                (sample,) = add_predictions(samples, found, self.model.fuse(found))
            else:
                (sample,) = self.model.predict(inputs, samples)
        return Observation(self._to_result(loaded, sample.cpu()), evidence, sample.metainfo)

    def tiled(
        self,
        image: Image,
        tile: tuple[int, int] = (1024, 1024),
        overlap: int = 256,
        tracked: Callable[[list], Iterator] = iter,
    ) -> PanopticResult:
        """Predict an image that is too large for the network, in overlapping tiles.

        Parts of a thing in several tiles become one segment. Where tiles overlap, the class and the score of stuff are
        those of the mean of their logits, if the model gives logits. The area limit of stuff applies to the whole
        image. Memory grows only with the size of the map.

        Args:
            image: A file, or an image (uint8 RGB of shape (H, W, 3)).
            tile: Height and width of a tile in pixels. Each tile goes through the test pipeline, which may resize it,
                like an image.
            overlap: Least overlap of neighbouring tiles in pixels; best larger than most objects.
            tracked: Function that yields the tiles that it is given, such as a progress bar.

        Returns:
            The result, with segments and without ``instances``.

        Raises:
            UserError: If the file is missing or is not an image that can be read, the overlap is negative or not
                smaller than the tile, or the model gives no panoptic map by a fusion head of this package.
        """
        require_tiles(self.model)
        (image,) = iter_images(iter([image]))
        read = self._read(image, 0)
        rgb = _rgb_of(read)
        head = self.model.panoptic_fusion_head
        panoptic, segments = predict_tiles(rgb, head, self._evidence, tile, overlap, tracked)
        found = PixelData(sem_seg=torch.from_numpy(panoptic)[None], metainfo=dict(segments_info=segments))
        return self._to_result(_Loaded(read['img_path'], rgb, {}), DetDataSample(pred_panoptic_seg=found))

    @torch.no_grad()
    def _evidence(self, image: np.ndarray) -> Evidence:
        """Evidence of an image, uint8 RGB of shape (H, W, 3)."""
        inputs, samples = self._collate([self._load(image, 0)])
        with precision_of(self.device, self._dtype):
            (evidence,) = self.model.evidence(inputs, samples)
        return evidence

    def _collate(self, loaded: list['_Loaded']) -> tuple[Tensor, SampleList]:
        """Batch of inputs and samples for the model."""
        data = self.model.data_preprocessor(pseudo_collate([image.prepared for image in loaded]), False)
        return data['inputs'], data['data_samples']

    def _try_load(self, numbered: tuple[int, Image]) -> tuple[Image, '_Loaded | DatasetError']:
        number, image = numbered
        try:
            return image, self._load(image, number)
        except DatasetError as error:
            return image, error

    def _load(self, image: Image, number: int) -> '_Loaded':
        """Read an image and run the test pipeline on it."""
        read = self._read(image, number)
        return _Loaded(read['img_path'], _rgb_of(read), self._prepare(read))

    def _read(self, image: Image, number: int) -> dict[str, Any]:
        """Read or fetch an image into the dict of a pipeline, with ``img`` in BGR as mmcv loads files."""
        if isinstance(image, np.ndarray):
            return self._load_array(dict(img=np.ascontiguousarray(image[..., ::-1]), img_id=number))
        path = os.fspath(image)
        if not is_address(path):
            return self._load_file(dict(img_path=path, img_id=number))
        with tempfile.NamedTemporaryFile(suffix=os.path.splitext(path_of(path))[1]) as copy:
            copy.write(fetch(path))
            copy.flush()
            try:
                return self._load_file(dict(img_path=copy.name, img_id=number)) | dict(img_path=path)
            except DatasetError as error:
                raise DatasetError(str(error).replace(copy.name, path), error.argument) from None

    def _to_result(self, loaded: '_Loaded', sample: DetDataSample) -> PanopticResult:
        return to_result(sample, loaded.path, loaded.image, self._categories)


def _rgb_of(read: dict[str, Any]) -> np.ndarray:
    """Image in the dict of a pipeline as uint8 RGB of shape (H, W, 3)."""
    return np.ascontiguousarray(read['img'][..., ::-1]).astype(np.uint8, copy=False)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch

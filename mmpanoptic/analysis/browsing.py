"""Pictures of the samples that a pipeline feeds to the network, beside the images and annotations in the files."""

import copy
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import jinja2
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.dataset import Compose
from torch.utils.data import DataLoader, Dataset

from mmpanoptic.datasets.transforms import (
    LoadAnnotations,
    LoadImageFromFile,
    LoadPanopticAnnotations,
    PackPanopticInputs,
)
from mmpanoptic.datasets.transforms.loading import VOID_LABEL
from mmpanoptic.datasets.wrappers import layers
from mmpanoptic.drawing import draw
from mmpanoptic.drawing.encode import encode_jpeg
from mmpanoptic.engine.hooks.visualization_hook import reading_of
from mmpanoptic.utils import UserError
from mmpanoptic.utils.processes import die_with_parent
from mmpanoptic.visualization import PanopticVisualizer
from mmpanoptic.visualization.training import draw_training, fits


class Drawn(NamedTuple):
    """Pictures of one sample.

    Attributes:
        path: Path of the image.
        facts: Texts about the sample, by heading.
        original: JPEG of the image and its ground truth as they are in the files.
        fed: JPEG of the network's input before normalisation, and of the targets for training.
    """

    path: str
    facts: dict[str, str]
    original: bytes
    fed: bytes


class Noting:
    """Wrap a transform of a pipeline and note what it changes.

    Args:
        step: The transform.
        notes: List that (path of the image, text of the change) is appended to.
    """

    def __init__(self, step: Any, notes: list[tuple[str, str]]) -> None:
        self.step, self.notes = step, notes

    def __call__(self, results: dict) -> dict | None:
        """Apply the transform."""
        before = _state(results)
        results = self.step(results)
        loads = type(self.step).__name__.startswith('Load')
        if (
            before is not None
            and not loads
            and results is not None
            and (after := _state(results)) not in (None, before)
        ):
            text = type(self.step).__name__
            if results.get('flip_direction') and 'Flip' in text:
                text += f' {results["flip_direction"]}'
            if after[0] != before[0]:
                text += ' to {}x{}'.format(*after[0])
            if after[2] != before[2]:
                text += f', {before[2]} to {after[2]} instances'
            self.notes.append((results['img_path'], text))
        return results

    def __getattr__(self, name: str) -> Any:
        """Attributes of the transform, which ``MultiImageMixDataset`` reads."""
        if name in ('step', 'notes'):
            raise AttributeError(name)
        return getattr(self.step, name)


def _state(results: dict) -> tuple | None:
    """Size, checksum and number of instances, by which changes are found; None if there is no image (yet)."""
    if 'img' not in results:
        return None
    image = np.ascontiguousarray(results['img'])
    return image.shape[:2], zlib.crc32(image.data), len(results.get('gt_bboxes', ()))


class DrawnSamples(Dataset):
    """Pictures of samples of a dataset. The random state of each depends only on the seed and the sample's index.

    Args:
        dataset: A dataset, wrapped or not, whose pipeline packs its samples.
        places: Indices of the samples in the dataset.
        seed: Seed of the random transforms of the pipeline.
    """

    def __init__(self, dataset: Any, places: Sequence[int], seed: int) -> None:
        self.dataset, self.places, self.seed = dataset, places, seed
        self.reading = reading_of(dataset)
        self.notes: list[tuple[str, str]] = []
        for part in _pipelines(dataset):
            part[:] = [Noting(step, self.notes) for step in part]
        self.visualizer = PanopticVisualizer(name='browse')
        self.visualizer.dataset_meta = dataset.metainfo

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Drawn:
        """Draw a sample.

        Raises:
            UserError: If the pipeline does not pack its samples.
        """
        place = self.places[index]
        random.seed(self.seed + place)
        np.random.seed((self.seed + place) % 2**32)
        torch.manual_seed(self.seed + place)
        self.notes.clear()
        packed = self.dataset[place]
        if not isinstance(packed, dict) or not isinstance(packed.get('data_samples'), DetDataSample):
            raise UserError('the pipeline does not pack its samples: end it with PackPanopticInputs or PackDetInputs')
        sample = packed['data_samples']
        info = self._info_of(place, sample.get('img_path'))
        image, truth = self._original(info)
        fed = _image_of(packed['inputs'])
        facts = {
            'size': '{}x{} to {}x{}'.format(*image.shape[:2], *fed.shape[:2]),
            'steps': ', '.join(text for path, text in self.notes if path == info['img_path']) or 'none that changed it',
            'instances': f'{len(sample.gt_instances)} trained on, {len(sample.ignored_instances)} ignored',
        }
        if 'gt_sem_seg' in sample and fits(sample, fed.shape[:2]):
            facts['void'] = f'{(sample.gt_sem_seg.sem_seg == VOID_LABEL).float().mean().item():.1%}'
        elif not fits(sample, fed.shape[:2]):
            facts['instances'] += '; the ground truth keeps the original size'
        panels = [self._picture(image, truth, 'file', 'ground truth'), self._picture(fed, sample, 'fed', 'fed')]
        return Drawn(info['img_path'], facts, *map(encode_jpeg, panels))

    def _info_of(self, place: int, path: str | None) -> dict:
        """Entry of the sample with this path: datasets replace a sample that their pipeline refuses by another one."""
        info = self.dataset.get_data_info(place)
        if path in (None, info['img_path']):
            return info
        others = map(self.dataset.get_data_info, range(len(self.dataset)))
        return next(other for other in others if other['img_path'] == path)

    def _original(self, info: dict) -> tuple[np.ndarray, DetDataSample]:
        """The image, uint8 RGB, and its ground truth, both as they are in the files."""
        backend_args = self.reading.get('backend_args')
        decoder = dict(imdecode_backend=self.reading['decoder']) if 'decoder' in self.reading else {}
        color_type = self.reading.get('flag', 'color')
        steps = [LoadImageFromFile(color_type=color_type, backend_args=backend_args, **decoder)]
        if info.get('seg_map_path') is not None:
            steps.append(LoadPanopticAnnotations(with_mask=False, with_seg=False, backend_args=backend_args))
        elif 'segments_info' not in info:  # images of a test set have no annotations
            masks = all(instance.get('mask') for instance in info['instances'])
            steps.append(LoadAnnotations(with_bbox=True, with_mask=masks, backend_args=backend_args))
        packed = Compose([*steps, PackPanopticInputs(meta_keys=('img_path',))])(copy.deepcopy(info))
        return _image_of(packed['inputs']), packed['data_samples']

    def _picture(self, image: np.ndarray, sample: DetDataSample, name: str, other: str) -> np.ndarray:
        """The image and, if its annotations have the same size, the image with them drawn on it."""
        canvas, factor = draw.upscale(image, self.visualizer.min_side)
        panels = [draw.with_header(canvas, f'{name}, {image.shape[0]}x{image.shape[1]}')]
        panoptic = sample.get('gt_panoptic_seg')
        if panoptic is not None and panoptic.sem_seg.shape[1:] == image.shape[:2]:
            picture = self.visualizer.draw_map(canvas, factor, panoptic.sem_seg[0].numpy(), panoptic.segments_info)
            panels.append(draw.with_header(picture, f'{other}: panoptic'))
        elif fits(sample, image.shape[:2]):
            picture = draw_training(self.visualizer, canvas, factor, sample, VOID_LABEL)
            panels.append(draw.with_header(picture, f'{other}: annotations'))
        return draw.side_by_side(panels)


def drawn_samples(dataset: Any, number: int, seed: int, workers: int) -> Iterator[Drawn]:
    """Choose samples at random and draw them in the order of the dataset.

    Args:
        dataset: See :class:`DrawnSamples`, which changes its pipelines.
        number: Number of samples; all are drawn if the dataset has fewer.
        seed: Seed of the choice and of the pipeline. The pictures do not depend on the number of workers.
        workers: Number of processes that draw; 0: draw in this process.
    """
    places = np.random.default_rng(seed).permutation(len(dataset))[:number]
    samples = DrawnSamples(dataset, sorted(places.tolist()), seed)
    yield from DataLoader(
        samples, batch_size=None, num_workers=workers, collate_fn=_unchanged, worker_init_fn=_start_worker
    )


def _unchanged(sample: Any) -> Any:
    return sample


def _start_worker(number: int) -> None:
    die_with_parent()
    cv2.setNumThreads(0)


def _pipelines(dataset: Any) -> Iterator[list]:
    """The lists of transforms of a dataset and of all datasets that it wraps, each list once."""
    pipelines = (getattr(layer, 'pipeline', None) for layer in layers(dataset))
    lists = [getattr(pipeline, 'transforms', pipeline) for pipeline in pipelines]
    yield from {id(steps): steps for steps in lists if isinstance(steps, list)}.values()


def _image_of(inputs: torch.Tensor) -> np.ndarray:
    """A packed BGR image as uint8 RGB of shape (H, W, 3)."""
    image = inputs.permute(1, 2, 0).numpy()
    image = np.ascontiguousarray(np.rint(image).clip(0, 255).astype(np.uint8))
    return image[..., ::-1].copy() if image.shape[2] == 3 else image.repeat(3, axis=2)


_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{{ title }}</title>
<style>
body { font: 15px sans-serif; margin: 1em; color: #222; }
section { border-top: 1px solid #bbb; padding: .6em 0; }
h2 { font-size: 1em; margin: 0 0 .3em; overflow-wrap: anywhere; }
dl { margin: 0 0 .4em; }
dt, dd { display: inline; margin: 0; }
dt { color: #666; }
dd::after { content: ""; display: block; }
a { display: inline-block; width: 49%; vertical-align: top; }
img { width: 100%; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ text }}</p>
{% for sample in samples %}
<section id="{{ loop.index }}">
<h2>{{ sample.path }}</h2>
<dl>
{% for key, value in sample.facts.items() %}
<dt>{{ key }}:</dt> <dd>{{ value }}</dd>
{% endfor %}
</dl>
{% for file in sample.files %}
<a href="{{ file }}"><img src="{{ file }}" loading="lazy" alt="{{ sample.path }}"></a>
{% endfor %}
</section>
{% endfor %}
</body>
</html>
""")


def page(title: str, text: str, samples: Sequence[dict]) -> str:
    """An HTML page that shows picture files.

    Args:
        title: Title of the page.
        text: Text above the pictures.
        samples: For each sample, ``path``, ``facts`` and ``files`` (paths relative to the page).
    """
    return _PAGE.render(title=title, text=text, samples=samples)

"""Write predictions as pictures, panoptic PNGs and JSON, and keep those of an interrupted run."""

import hashlib
import heapq
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmpanoptic.drawing.encode import encode_png
from mmpanoptic.formats.panoptic_png import encode_panoptic_png
from mmpanoptic.formats.panoptic_writer import PanopticItem, fill_panoptic
from mmpanoptic.results import PanopticResult
from mmpanoptic.results.coco import CocoImage
from mmpanoptic.utils import UserError, remove_whole, whole_folder
from mmpanoptic.utils.threads import ahead

from .image_lists import MAKER

_STATE = 'unfinished.json'


class PredictedImage(CocoImage, total=False):
    """An entry of ``images``. Frames have the file name of their ``video`` and their number in it, from 1."""

    video: str
    frame: int


@dataclass(frozen=True)
class Prediction:
    """Content of the files for an image, apart from its picture.

    Attributes:
        source: Path or address of the image; of a frame, path of the video.
        item: The panoptic map; None from models that predict only instances.
        image: Entry in ``images``.
        instances: Entries of instances; empty for panoptic models.
    """

    source: str
    item: PanopticItem | None
    image: PredictedImage
    instances: list[dict[str, Any]]


@dataclass(frozen=True)
class Layout:
    """Content and names of the files of results.

    Attributes:
        folder: Folder of the results.
        names: Name of each image's files, without suffix.
        ids: Id of each image.
        file_names: ``file_name`` of images in the JSON; by default the name of the image's file.
        panoptic: Whether the model makes panoptic maps.
        pictures: Whether to write pictures.
        score_thr: Segments or instances with a lower score are left out; None: all are kept.
        number: Number beside the names in pictures, see :meth:`~mmpanoptic.results.PanopticResult.draw`.
    """

    folder: Path
    names: Mapping[str, str]
    ids: Mapping[str, int]
    file_names: Mapping[str, str]
    panoptic: bool
    pictures: bool
    score_thr: float | None
    number: str | None = 'score'

    def write(self, result: PanopticResult) -> Prediction:
        """Write the picture of an image's result, and encode its map and its entries in the JSON."""
        source = result.path
        assert source is not None  # images are given by path or address
        result = self.chosen(result)
        if self.pictures:
            picture = encode_png(self.picture(result))
            (self.folder / 'pictures' / f'{self.names[source]}.png').write_bytes(picture)
        image = result.coco_image(self.ids[source])
        file_name = self.file_names.get(source, image['file_name'])
        return self.encode(result, source, {**image, 'file_name': file_name}, self.names[source])

    def picture(self, result: PanopticResult) -> np.ndarray:
        """The picture of a result, uint8 RGB."""
        threshold = {} if self.score_thr is None else dict(score_thr=self.score_thr)
        return result.draw(number=self.number, **threshold)

    def chosen(self, result: PanopticResult) -> PanopticResult:
        """Leave out segments or instances below ``score_thr``."""
        return result if self.score_thr is None else result.above(self.score_thr)

    def encode(self, result: PanopticResult, source: str, image: PredictedImage, name: str) -> Prediction:
        """Encode the map of a result and its entries in the JSON.

        Args:
            result: The result.
            source: Path or address of the image, or path of the video.
            image: Entry in ``images``.
            name: Name of the PNG, without suffix.
        """
        if result.id_map is None:
            return Prediction(source, None, image, result.coco_instances(image['id']))
        png = encode_panoptic_png(result.id_map)
        return Prediction(source, PanopticItem(image, f'{name}.png', png, result.coco_segments()), image, [])


def written(
    results: Iterator[PanopticResult], write: Callable[[PanopticResult], Prediction], threads: int, stop: list[int]
) -> Iterator[Prediction]:
    """Write results by threads while the model predicts the next ones, until ``stop`` is not empty.

    Yields:
        A prediction for each result.

    Raises:
        OSError: If a file cannot be written.
    """

    def until_stopped() -> Iterator[PanopticResult]:
        for result in results:
            yield result
            if stop:
                return

    return ahead(write, until_stopped(), threads, 2 * threads)


def write_jsons(
    folder: Path, predictions: Iterable[Prediction], categories: list[dict[str, Any]], panoptic: bool
) -> int:
    """Write the JSON of predictions, and the PNGs of panoptic maps.

    Args:
        folder: Folder of the files.
        predictions: Predictions, consumed one by one.
        categories: ``categories`` of the JSON.
        panoptic: Write ``panoptic.json`` and ``panoptic/``; otherwise ``instances.json``.

    Returns:
        Number of images.
    """
    if panoptic:
        pngs, out_json = folder / 'panoptic', folder / 'panoptic.json'
        pngs.mkdir()
        content = fill_panoptic(pngs, map(_item_of, predictions), categories, out_json, pngs)
    else:
        out_json, images, instances = folder / 'instances.json', [], []
        for prediction in predictions:
            images.append(prediction.image)
            instances += prediction.instances
        annotations = [dict(id=number, **entry) for number, entry in enumerate(instances, 1)]
        content = dict(images=images, annotations=annotations, categories=categories)
    out_json.write_text(json.dumps(content))
    return len(content['images'])


def _item_of(prediction: Prediction) -> PanopticItem:
    assert prediction.item is not None  # models with a fusion head give a map of every image
    return prediction.item


class Unfinished:
    """Predictions of an interrupted run, in a folder beside that of its results, for the next run to continue.

    Args:
        out: The folder of results.
        run: Values that the predictions depend on. A run with other values does not continue this one.
    """

    def __init__(self, out: Path, run: Any) -> None:
        self.folder = out.with_name(f'{out.name}.unfinished')
        self.key = hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()

    def keep(self, folder: Path, sources: Mapping[str, int]) -> None:
        """Move all files of a folder to the folder of unfinished results.

        Args:
            folder: Folder of results.
            sources: Id of each predicted image by its path or address.
        """
        with whole_folder(self.folder, MAKER, 'unfinished results') as place:
            for path in list(folder.iterdir()):
                path.rename(place / path.name)
            (place / _STATE).write_text(json.dumps(dict(key=self.key, sources=sources)))

    def load(self, layout: Layout) -> dict[str, Prediction]:
        """Load the predictions and copy their pictures.

        Returns:
            Predictions by path or address of the image, in the order in which they were made.

        Raises:
            UserError: If the predictions are damaged or of a run with other values.
        """
        if not self.folder.exists():
            return {}
        try:
            state = json.loads((self.folder / _STATE).read_text())
            name = 'panoptic.json' if layout.panoptic else 'instances.json'
            content = json.loads((self.folder / name).read_text()) if state['key'] == self.key else None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f'{self.folder} cannot be read: remove it, and start again without --resume') from None
        if content is None:
            raise UserError(
                f'{self.folder} is of a run with another model, other options or other images: remove it, or start '
                'again without --resume'
            )
        try:
            return self._predictions(state['sources'], content, layout)
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f'{self.folder} is damaged ({type(error).__name__}: {error}): remove it, and start again without '
                '--resume'
            ) from None

    def _predictions(
        self, sources: Mapping[str, int], content: dict[str, Any], layout: Layout
    ) -> dict[str, Prediction]:
        images = {image['id']: image for image in content['images']}
        annotations: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in images}
        for annotation in content['annotations']:
            annotations[annotation['image_id']].append(annotation)
        predictions = {}
        for source, image_id in sources.items():
            predictions[source] = self._prediction(source, images[image_id], annotations[image_id], layout)
            if layout.pictures:
                picture = f'pictures/{layout.names[source]}.png'
                shutil.copyfile(self.folder / picture, layout.folder / picture)
        return predictions

    def _prediction(
        self, source: str, image: PredictedImage, annotations: list[dict[str, Any]], layout: Layout
    ) -> Prediction:
        if not layout.panoptic:
            instances = [{key: value for key, value in one.items() if key != 'id'} for one in annotations]
            return Prediction(source, None, image, instances)
        name, segments = annotations[0]['file_name'], annotations[0]['segments_info']
        png = (self.folder / 'panoptic' / name).read_bytes()
        return Prediction(source, PanopticItem(image, name, png, segments), image, [])

    def remove(self) -> None:
        """Remove the folder if :meth:`keep` made it, and what a killed removal of it left."""
        if (self.folder / _STATE).exists() or not self.folder.exists():
            remove_whole(self.folder)
            self.folder.with_name(f'.{self.folder.name}.lock').unlink(missing_ok=True)


def merged(sources: Iterable[str], old: Mapping[str, Prediction], new: Iterator[Prediction]) -> Iterator[Prediction]:
    """Merge predictions of an earlier run and of this one, in the order of their sources."""
    place = {source: number for number, source in enumerate(sources)}
    return heapq.merge(old.values(), new, key=lambda prediction: place[prediction.source])


def stamp_of(path: str | os.PathLike[str]) -> list[str | int]:
    """Path, size and modification time of a file, which differ after a change; an address alone."""
    if not os.path.exists(path):  # an address
        return [os.fspath(path)]
    status = os.stat(path)
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]

"""Predictions in files: pictures, panoptic PNGs, JSON, and what an interrupted run has done."""

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
from mmpanoptic.utils import UserError, remove_whole, whole_folder
from mmpanoptic.utils.threads import ahead

from .image_lists import MAKER

_STATE = 'unfinished.json'


@dataclass(frozen=True)
class Prediction:
    """What is written of an image besides its picture.

    Attributes:
        source: The image.
        item: Its panoptic map; None from models of instances only.
        image: Its entry in ``images``.
        instances: Its instances; of a panoptic model, none.
    """

    source: str
    item: PanopticItem | None
    image: dict[str, Any]
    instances: list[dict[str, Any]]


@dataclass(frozen=True)
class Layout:
    """What is written of results, and under which names.

    Attributes:
        folder: Where all of it goes.
        names: Name of each image's files, without suffix.
        ids: Id of each image.
        file_names: What images are called in the JSON; those that are not in it by the name of their file.
        panoptic: Whether the model makes panoptic maps.
        pictures: Whether pictures are wanted.
        score_thr: What is less sure is left out; None: nothing is.
        number: Which number stands beside names in pictures, see :meth:`~mmpanoptic.results.PanopticResult.draw`.
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
        """Write the picture of a result, and encode what goes into the JSON and beside it."""
        source = result.path
        result = self.chosen(result)
        if self.pictures:
            picture = encode_png(self.picture(result))
            (self.folder / 'pictures' / f'{self.names[source]}.png').write_bytes(picture)
        more = dict(file_name=self.file_names[source]) if source in self.file_names else {}
        return self.encode(result, source, self.ids[source], self.names[source], **more)

    def picture(self, result: PanopticResult) -> np.ndarray:
        """The picture of a result, uint8 RGB."""
        threshold = {} if self.score_thr is None else dict(score_thr=self.score_thr)
        return result.draw(number=self.number, **threshold)

    def chosen(self, result: PanopticResult) -> PanopticResult:
        """A result without what is less sure than asked for."""
        return result if self.score_thr is None else result.above(self.score_thr)

    def encode(self, result: PanopticResult, source: str, image_id: int, name: str, **more: Any) -> Prediction:
        """A result as it goes into the JSON; ``more`` is for its entry in ``images``."""
        image = result.coco_image(image_id) | more
        if not self.panoptic:
            return Prediction(source, None, image, result.coco_instances(image_id))
        png = encode_panoptic_png(result.id_map)
        return Prediction(source, PanopticItem(image, f'{name}.png', png, result.coco_segments()), image, [])


def written(
    results: Iterator[PanopticResult], write: Callable[[PanopticResult], Prediction], threads: int, stop: list[int]
) -> Iterator[Prediction]:
    """Results, written by threads while the model works on the next ones; no more of them once ``stop`` is not empty.

    Raises:
        OSError: If a file cannot be written.
    """

    def until_stopped() -> Iterator[PanopticResult]:
        for result in results:
            yield result
            if stop:
                return

    return ahead(write, until_stopped(), threads, 2 * threads)


def write_jsons(folder: Path, predictions: Iterable[Prediction], categories: list[dict], panoptic: bool) -> int:
    """Write the JSON of predictions, and the PNGs of panoptic maps.

    Args:
        folder: Where they go.
        predictions: Consumed one by one.
        categories: Of the JSON.
        panoptic: ``panoptic.json`` and ``panoptic/``; otherwise ``instances.json``.

    Returns:
        How many images there were.
    """
    if panoptic:
        pngs, out_json = folder / 'panoptic', folder / 'panoptic.json'
        pngs.mkdir()
        content = fill_panoptic(pngs, (one.item for one in predictions), categories, out_json, pngs)
    else:
        out_json, images, found = folder / 'instances.json', [], []
        for one in predictions:
            images.append(one.image)
            found += one.instances
        annotations = [dict(id=number, **entry) for number, entry in enumerate(found, 1)]
        content = dict(images=images, annotations=annotations, categories=categories)
    out_json.write_text(json.dumps(content))
    return len(content['images'])


class Unfinished:
    """What an interrupted run has done, in a folder beside that of its results, for the next one to go on with.

    Args:
        out: The folder of results.
        run: What the run depends on; a run on other things is another run.
    """

    def __init__(self, out: Path, run: Any) -> None:
        self.folder = out.with_name(f'{out.name}.unfinished')
        self.key = hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()

    def keep(self, folder: Path, sources: Mapping[str, int]) -> None:
        """Move all files of a folder to where the next run looks for them; ``sources`` are the ids of its images."""
        with whole_folder(self.folder, MAKER, 'unfinished results') as place:
            for path in list(folder.iterdir()):
                path.rename(place / path.name)
            (place / _STATE).write_text(json.dumps(dict(key=self.key, sources=sources)))

    def load(self, layout: Layout) -> dict[str, Prediction]:
        """Predictions by image, in the order in which they were made; their pictures are copied.

        Raises:
            UserError: If another run has made them, or they are damaged.
        """
        if not self.folder.exists():
            return {}
        try:
            state = json.loads((self.folder / _STATE).read_text())
            name = 'panoptic.json' if layout.panoptic else 'instances.json'
            content = json.loads((self.folder / name).read_text()) if state['key'] == self.key else None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f'{self.folder} cannot be read: remove it, and begin anew without --resume') from None
        if content is None:
            raise UserError(
                f'{self.folder} is of a run with another model, other options or other images: remove it, or begin '
                'anew without --resume'
            )
        try:
            return self._predictions(state['sources'], content, layout)
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f'{self.folder} is damaged ({type(error).__name__}: {error}): remove it, and begin anew without '
                '--resume'
            ) from None

    def _predictions(self, sources: Mapping[str, int], content: dict, layout: Layout) -> dict[str, Prediction]:
        images = {image['id']: image for image in content['images']}
        annotations: dict[int, list[dict]] = {image_id: [] for image_id in images}
        for one in content['annotations']:
            annotations[one['image_id']].append(one)
        found = {}
        for source, image_id in sources.items():
            found[source] = self._prediction(source, images[image_id], annotations[image_id], layout)
            if layout.pictures:
                picture = f'pictures/{layout.names[source]}.png'
                shutil.copyfile(self.folder / picture, layout.folder / picture)
        return found

    def _prediction(self, source: str, image: dict, own: list[dict], layout: Layout) -> Prediction:
        if not layout.panoptic:
            return Prediction(source, None, image, [{k: v for k, v in one.items() if k != 'id'} for one in own])
        png = (self.folder / 'panoptic' / own[0]['file_name']).read_bytes()
        return Prediction(source, PanopticItem(image, own[0]['file_name'], png, own[0]['segments_info']), image, [])

    def remove(self) -> None:
        """Remove what is there, if a run of predictions has made it."""
        if (self.folder / _STATE).exists():
            remove_whole(self.folder)
            self.folder.with_name(f'.{self.folder.name}.lock').unlink(missing_ok=True)


def merged(sources: Iterable[str], old: Mapping[str, Prediction], new: Iterator[Prediction]) -> Iterator[Prediction]:
    """Predictions of an earlier run and of this one, in the order of their sources."""
    place = {source: number for number, source in enumerate(sources)}
    return heapq.merge(old.values(), new, key=lambda one: place[one.source])


def stamp_of(path: str | os.PathLike) -> list:
    """What tells a file from what it is after a change: path, size and time."""
    if not os.path.exists(path):  # an address
        return [os.fspath(path)]
    status = os.stat(path)
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]

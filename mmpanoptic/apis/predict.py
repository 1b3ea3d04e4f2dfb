"""Predict files and videos into a folder of results, for ``mmpanoptic predict``."""

import contextlib
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from mmpanoptic.engine.configs import load_config
from mmpanoptic.engine.devices import Stopped
from mmpanoptic.formats.images import check_complete, image_size
from mmpanoptic.formats.panoptic_writer import image_ids
from mmpanoptic.results import PanopticResult
from mmpanoptic.utils import DatasetError, UserError, check_replaceable, one_line, read_bytes, whole_folder
from mmpanoptic.utils.fetch import is_address, path_of
from mmpanoptic.utils.processes import handle_here
from mmpanoptic.utils.progress import tracked
from mmpanoptic.visualization.files import picture_names

from .image_lists import IMAGE_EXTENSIONS, MAKER, Image, Sources, list_sources
from .inferencer import PanopticInferencer
from .predictions import Layout, PredictedImage, Prediction, Unfinished, merged, stamp_of, write_jsons, written
from .video import VideoFile, frame_rate, frames_of

OnError = Callable[[Any, DatasetError], None]


@dataclass(frozen=True)
class Run:
    """Arguments of a run, see ``mmpanoptic predict --help``."""

    config: str
    checkpoint: str
    inputs: list[str]
    out: Path
    device: str | None = None
    batch_size: int = 1
    threads: int = 2
    dtype: str = 'float32'
    compile: bool = False
    tile: int | None = None
    overlap: int = 256
    score_thr: float | None = None
    number: str | None = 'score'
    pictures: bool = True
    resume: bool = False
    cfg_options: dict[str, Any] | None = None
    trust_checkpoint: bool = False
    allow_nan: bool = False


def predict(run: Run) -> None:
    """Predict all inputs into a folder, and print what was left out.

    Raises:
        UserError: If an input was left out or an argument is wrong.
        WriteError: If the results cannot be written; an earlier result is kept.
        Stopped: If a signal ended the run; finished results are in ``OUT.unfinished``.
    """
    for name, least in (('batch_size', 1), ('threads', 0), ('tile', 1)):
        if getattr(run, name) is not None and getattr(run, name) < least:
            raise UserError(f'{name} {getattr(run, name)} is below {least}', name)
    check_replaceable(run.out, MAKER, '--out')
    sources = list_sources(run.inputs)
    problems: dict[str, UserError] = {}
    start, number = time.monotonic(), 0
    if sources.videos or _any_readable(sources.images, problems):
        config = load_config(run.config, run.cfg_options)
        stamps = [stamp_of(path) for path in (run.checkpoint, *sources.images, *sources.videos)]
        options = [
            run.score_thr,
            run.number,
            run.pictures,
            run.dtype,
            run.compile,
            run.batch_size,
            run.tile,
            run.overlap,
        ]
        unfinished = Unfinished(run.out, [config.to_dict(), stamps, options])
        with contextlib.suppress(_NothingPredictedError), whole_folder(run.out, MAKER, '--out') as folder:
            inferencer = PanopticInferencer(
                config, run.checkpoint, run.device, run.trust_checkpoint, run.allow_nan, run.dtype, run.compile
            )
            number = _Work(run, sources, inferencer, folder, problems).do(unfinished)
            if not number:
                raise _NothingPredictedError
        if run.resume and number:
            unfinished.remove()
    _report(problems, sources, run.out, number, time.monotonic() - start)


class _NothingPredictedError(Exception):
    """Keep an earlier result, since no input could be predicted."""


class _Work:
    """Prediction of all sources into an empty folder. Errors are added to ``problems``, by source."""

    def __init__(
        self, run: Run, sources: Sources, inferencer: PanopticInferencer, folder: Path, problems: dict[str, UserError]
    ) -> None:
        self.run, self.sources, self.inferencer, self.problems = run, sources, inferencer, problems
        self.categories = _shown(inferencer.dataset_meta.get('categories'))
        files = {source: path_of(source) if is_address(source) else source for source in sources.images}
        names, ids = picture_names([*files.values(), *sources.videos]), image_ids(files.values())
        self.layout = Layout(
            folder=folder,
            names={source: names[file] for source, file in files.items()} | {v: names[v] for v in sources.videos},
            ids=dict(zip(files, ids, strict=True)),
            file_names=sources.file_names,
            panoptic=hasattr(inferencer.model, 'panoptic_fusion_head'),
            pictures=run.pictures,
            score_thr=run.score_thr,
            number=run.number,
        )

    def do(self, unfinished: Unfinished) -> int:
        """Predict all sources.

        Returns:
            Number of predicted images and frames.

        Raises:
            Stopped: If a signal ended the run.
            RuntimeError: If the model failed, as from a lack of memory.
        """
        layout = self.layout
        done: dict[str, int] = {}
        if layout.pictures and self.sources.images:
            (layout.folder / 'pictures').mkdir()
        old = unfinished.load(layout) if self.run.resume else {}
        ended: list[BaseException] = []
        with _noted_signals() as stop:

            def predicted() -> Iterator[Prediction]:
                try:
                    for prediction in self._predictions(old, stop):
                        if prediction.source in layout.ids:
                            done[prediction.source] = layout.ids[prediction.source]
                        yield prediction
                except RuntimeError as error:
                    ended.append(error)

            number = write_jsons(layout.folder, predicted(), self.categories, layout.panoptic)
        if not stop and not ended:
            return number
        if done and not self.sources.videos:
            unfinished.keep(layout.folder, done)
        if ended:
            raise ended[0]
        way_out = ': the same command with --resume goes on' if done and not self.sources.videos else ''
        raise Stopped(stop[0], f'after {len(done)} of {len(self.sources.images)} images{way_out}')

    def _predictions(self, old: dict[str, Prediction], stop: list[int]) -> Iterator[Prediction]:
        left = [source for source in self.sources.images if source not in old and source not in self.problems]
        results = self._results(iter(left), lambda source, error: self.problems.update({source: error}))
        new = written(results, self.layout.write, self.run.threads, stop)
        yield from tracked(merged(self.sources.images, old, new), len(old) + len(left), 'Predicting')
        first = max(self.layout.ids.values(), default=0) + 1
        numbers = itertools.count(first)
        for video in self.sources.videos:
            if stop:
                return
            try:
                yield from self._frames(video, numbers, stop)
            except DatasetError as error:
                self.problems[video] = error

    def _results(self, images: Iterator[Image], on_error: OnError | None = None) -> Iterator[PanopticResult]:
        if self.run.tile is not None:
            return self._tiled(images, self.run.tile, on_error)
        return self.inferencer(images, self.run.batch_size, self.run.threads, on_error)

    def _tiled(self, images: Iterator[Image], tile: int, on_error: OnError | None) -> Iterator[PanopticResult]:
        for image in images:
            try:
                yield self.inferencer.tiled(image, (tile, tile), self.run.overlap)
            except DatasetError as error:
                if on_error is None:
                    raise
                on_error(image, error)

    def _frames(self, video: str, numbers: Iterator[int], stop: list[int]) -> Iterator[Prediction]:
        """Predict the frames of a video, and write their pictures as a video."""
        layout, name = self.layout, self.layout.names[video]
        rate = frame_rate(video)
        place = layout.folder / 'videos' / f'{name}.mp4'
        if layout.pictures:
            place.parent.mkdir(exist_ok=True)
        results = tracked(self._results(frames_of(video)), None, os.path.basename(video))
        with VideoFile(place, rate) as file:
            for frame, result in enumerate(results, 1):
                result = layout.chosen(result)
                if layout.pictures:
                    file.add(layout.picture(result))
                own = f'{name}/{frame:06}'
                image = result.coco_image(next(numbers))
                entry: PredictedImage = {
                    **image,
                    'file_name': f'{own}.png',
                    'video': os.path.basename(video),
                    'frame': frame,
                }
                yield layout.encode(result, video, entry, own)
                if stop:
                    return


def _shown(categories: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """Categories for the JSON, in the order of the data.

    Raises:
        UserError: If the checkpoint does not hold the categories.
    """
    if categories is None:
        raise UserError(
            "the checkpoint knows its classes by name only, and they are not COCO's: name a JSON of its data with "
            '--cfg-options test_dataloader.dataset.ann_file=...'
        )
    keys = ('id', 'name', 'isthing', 'color')
    return [{key: category[key] for key in keys if key in category} for category in categories]


def _any_readable(paths: list[str], problems: dict[str, UserError]) -> bool:
    """Whether one of the files is a complete image of an allowed size; errors of the files before it are added."""
    for path in paths:
        if is_address(path):
            return True
        try:
            data = read_bytes(path)
            check_complete(data, path)
            image_size(data, path)
            return True
        except UserError as error:
            problems[path] = error
    return False


@contextlib.contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Append SIGINT or SIGTERM to the yielded list; a second signal ends this process at once."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if noted:
            raise Stopped(number, 'at once')
        noted.append(number)

    before = {number: handle_here(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(problems: dict[str, UserError], sources: Sources, out: Path, number: int, seconds: float) -> None:
    """Print the files that were left out.

    Raises:
        UserError: If there are problems.
    """
    if sources.left_out:
        names = ', '.join(os.path.basename(path) for path in sources.left_out)
        print(f'{len(sources.left_out)} files of other formats are left out ({", ".join(IMAGE_EXTENSIONS)} are read): '
              f'{names}')  # fmt: skip
    total, found = len(sources.images) + len(sources.videos), list(problems.values())
    if not number:
        kept = f'nothing is predicted, and {out} is what it was'
    elif sources.videos:
        kept = f'{total - len(found)} of {total} inputs are predicted, {number} images and frames: {out}/'
    else:
        kept = f'{number} of {total} images are predicted: {out}/'
    if len(found) == 1:
        raise UserError(f'{found[0]}; {kept}', found[0].argument)
    for problem in found:
        print(f'left out: {one_line(problem)}', file=sys.stderr)
    if found:
        raise UserError(f'{len(found)} of {total} files are unusable, see above; {kept}', found[0].argument)
    print(f'{kept} ({number / max(seconds, 1e-9):.1f} a second)')

"""From a trained model to the files of a test server: what is checked before, the test, the files."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import broadcast_object_list, is_main_process
from torch import Tensor

import mmpanoptic
from mmpanoptic.apis.categories import meta_of_model
from mmpanoptic.datasets.wrappers import inner_datasets
from mmpanoptic.engine.checkpoint_files import read_checkpoint, use_strict_loading
from mmpanoptic.engine.checkpoints import RequireAllWeights, weights_and_meta
from mmpanoptic.engine.components import dataset_config
from mmpanoptic.engine.configs import require_keys
from mmpanoptic.engine.devices import join_processes
from mmpanoptic.engine.runner import build_runner
from mmpanoptic.formats.panoptic_json import dataset_meta, parse_categories
from mmpanoptic.utils import UserError, check_replaceable, require_file, require_folder, sole_writer, whole_folder

from .categories import check_categories
from .image_lists import ImageList, require_given
from .predictions import Predictions
from .targets import TARGETS, Target, fill

MAKER = 'tools/submit.py'


@dataclass(frozen=True)
class Places:
    """Where a test set lies, if not where the config and the data say.

    Attributes:
        root: Folder of the data; None: that of the config's test data.
        list_file: The list of images, which only COCO has.
        images: Folder of the images.
    """

    root: str | None = None
    list_file: str | None = None
    images: str | None = None


@dataclass(frozen=True)
class Submission:
    """What is to be predicted and written; made by :func:`plan`.

    Attributes:
        config: The config to test with.
        checkpoint: The weights.
        digest: Of the weights.
        target: The server.
        out: The folder to make, or to make again.
        name: What to call the method.
        listed: The images of the test set.
        categories: The model's, in COCO's form; of a model of instances, its things.
        panoptic: Whether panoptic maps are submitted, or instances.
    """

    config: Config
    checkpoint: str
    digest: str
    target: Target
    out: Path
    name: str
    listed: ImageList
    categories: list[dict[str, Any]]
    panoptic: bool


def plan(
    config: Config, checkpoint: str, target: str, out: Path, name: str, places: Places, trust: bool = False
) -> Submission:
    """Check all that can be checked before a model is built.

    Args:
        config: The config, with test-time augmentation where it is wanted.
        checkpoint: File or address of the weights.
        target: One of :data:`TARGETS`.
        out: The folder to make, or to make again.
        name: What to call the method: letters, digits, '.', '_', '+' and '-'.
        places: Where the test set lies.
        trust: See :func:`~mmpanoptic.engine.checkpoint_files.read_checkpoint`.

    Raises:
        UserError: If something is missing, images too, the classes of the checkpoint are not the server's, or ``out``
            holds anything else than an earlier result.
    """
    require_keys(config, 'model', 'test_dataloader', 'test_cfg')
    require_file(checkpoint, 'checkpoint')
    if not re.fullmatch(r'[A-Za-z0-9._+-]+', name):
        raise UserError(f"--name {name}: give letters, digits, '.', '_', '+' and '-', as it is part of files' names")
    check_replaceable(out, MAKER, 'OUT')
    require_folder(os.path.dirname(os.path.abspath(out)), 'OUT')
    require_given(places.list_file, places.images)
    root = places.root
    if root is None:
        root = next(inner_datasets(dataset_config(config, 'test_dataloader'))).get('data_root') or ''
    listed = TARGETS[target].images(root, places.list_file, places.images)
    panoptic = config.model.get('module', config.model).get('panoptic_fusion_head') is not None
    weights, meta = weights_and_meta(read_checkpoint(checkpoint, trust), checkpoint)
    categories = _categories(meta_of_model(meta, config, checkpoint), checkpoint, panoptic)
    check_categories(categories, listed.categories, checkpoint)
    digest = _digest_of_weights(weights)
    return Submission(config, checkpoint, digest, TARGETS[target], out, name, listed, categories, panoptic)


def _categories(meta: dict, checkpoint: str, panoptic: bool) -> list[dict[str, Any]]:
    """Categories of a model in COCO's form and in the order of the file that they come from."""
    given = meta.get('categories')
    if given is None:
        raise UserError(
            f"{checkpoint} knows its classes by name only, and they are not COCO's: name a JSON of its data with "
            '--cfg-options test_dataloader.dataset.ann_file=...'
        )
    parsed = parse_categories(given, checkpoint, None)
    if dataset_meta(parsed)['classes'] != tuple(meta['classes']):
        raise UserError(f'{checkpoint}: its categories are in another order than its classes: take another checkpoint')
    return [
        dict(id=one['id'], name=one['name'], isthing=int(one['isthing']))
        for one in parsed
        if panoptic or one['isthing']
    ]


def _digest(content: Any) -> str:
    """Of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _digest_of_weights(weights: dict[str, Tensor]) -> str:
    made = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        made.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        made.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    return made.hexdigest()


def submit(submission: Submission, trust: bool = False, allow_nan: bool = False) -> None:
    """Predict the images and write the files; to be called by each process of a run.

    Args:
        submission: See :func:`plan`.
        trust, allow_nan: See :class:`~mmpanoptic.apis.PanopticInferencer`.

    Raises:
        UserError: If the weights do not fit, an image cannot be read, or files cannot be written. What is predicted
            until then is kept, and the next call goes on from there.
    """
    join_processes(submission.config)
    predictions = Predictions(f'{submission.out}.predictions')
    with contextlib.ExitStack() as stack:
        left = [0]
        if is_main_process():
            stack.enter_context(sole_writer(predictions.folder, 'OUT'))
            left = [_begin(submission, predictions)]
        broadcast_object_list(left)
        stack.enter_context(_kept(predictions))
        if left[0]:
            _predict(submission, predictions, trust, allow_nan)
        if is_main_process():
            _write(submission, predictions)
            predictions.remove()


def _begin(submission: Submission, predictions: Predictions) -> int:
    """How many images are left to predict; says so."""
    listed, target, config = submission.listed, submission.target, submission.config
    run = dict(
        version=mmpanoptic.__version__,
        checkpoint=submission.digest,
        model=_digest(config.model.to_dict()),
        pipeline=_digest(dict(steps=_steps(config))),
        images=_digest(listed.images),
        folder=os.path.abspath(listed.folder),
        task='panoptic' if submission.panoptic else 'instances',
    )
    left = predictions.begin(run, listed.images, submission.categories)
    number = len(listed.images)
    print(f'{listed.source}: {number} images, {number - left} of them predicted before')
    if number != target.number:
        print(f'{target.title} has {target.number} images: its server refuses the results of others')
    return left


def _steps(config: Config) -> Any:
    """The pipeline of the test."""
    return next(inner_datasets(dataset_config(config, 'test_dataloader'))).get('pipeline')


def _predict(submission: Submission, predictions: Predictions, trust: bool, allow_nan: bool) -> None:
    """The test loop over the images that are left."""
    config, target = submission.config, submission.target
    dataset = ConfigDict(
        type='CocoPanopticDataset' if submission.panoptic else 'CocoInstanceDataset',
        ann_file=os.path.abspath(predictions.left_file),
        data_prefix=dict(img=os.path.abspath(submission.listed.folder)),
        test_mode=True,
        pipeline=_steps(config),
    )
    loader = config.test_dataloader
    loader.pop('batch_sampler', None)
    # One by one: in a batch images are padded to the largest, and which are together depends on the processes.
    loader.update(batch_size=1, drop_last=False, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset)
    masks = target.listing is not None and not submission.panoptic
    config.test_evaluator = dict(
        type='StoredPredictions', folder=str(predictions.folder), panoptic=submission.panoptic, need_masks=masks
    )
    config.load_from = submission.checkpoint
    use_strict_loading(trust)
    runner = build_runner(config, 'test_dataloader')
    runner.register_hook(RequireAllWeights(allow_nan=allow_nan))
    runner.test()


def _write(submission: Submission, predictions: Predictions) -> None:
    """The folder for the server, when all images are predicted."""
    images, out = submission.listed.images, submission.out
    with whole_folder(out, MAKER, 'OUT') as folder:
        zips = fill(
            folder, submission.target, submission.name, submission.panoptic, images, submission.categories, predictions
        )
        names = [str(path.relative_to(folder)) for path in zips]
    for name in names:
        size = (out / name).stat().st_size / 2**20
        print(f'{out / name}: results of {len(images)} images, {size:.1f} MiB, read back without fault')
    print(f'Nothing was sent. {submission.target.title} takes it at {submission.target.address}')


@contextlib.contextmanager
def _kept(predictions: Predictions) -> Iterator[None]:
    """Say of an error what is not lost; where that is nothing, the folder goes."""
    try:
        yield
    except UserError as error:
        if not predictions.has_some():
            if is_main_process():
                predictions.remove()
            raise
        text = f'{error}; what is predicted is kept in {predictions.folder}: the same command goes on from there'
        raise UserError(text, error.argument) from error

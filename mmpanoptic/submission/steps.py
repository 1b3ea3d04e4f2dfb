"""Write the files for a test server with a trained model: checks, the test run, the files."""

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
    """Places of a test set that differ from the defaults.

    Attributes:
        root: Folder of the data; None: that of the config's test data.
        list_file: List of the images, only for COCO; None: the default of the test set.
        images: Folder of the images; None: the default of the test set.
    """

    root: str | None = None
    list_file: str | None = None
    images: str | None = None


@dataclass(frozen=True)
class Submission:
    """A checked submission, made by :func:`plan`.

    Attributes:
        config: Config of the test.
        checkpoint: File or address of the weights.
        digest: SHA-256 of the weights.
        target: The test set and its server.
        out: Folder of the files; an earlier result is replaced.
        name: Name of the method.
        listed: Images of the test set.
        categories: Categories of the model in COCO's form; only things for instance models.
        panoptic: Whether to submit panoptic maps; otherwise instances.
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
    """Check everything that can be checked before the model is built.

    Args:
        config: The config, with test-time augmentation if it is wanted.
        checkpoint: File or address of the weights.
        target: A key of :data:`~.targets.TARGETS`.
        out: Folder of the files; an earlier result is replaced.
        name: Name of the method: letters, digits, '.', '_', '+' and '-'.
        places: Places of the test set.
        trust: See :func:`~mmpanoptic.engine.checkpoint_files.read_checkpoint`.

    Raises:
        UserError: If a file, a folder or an image is missing, the classes of the checkpoint differ from the server's,
            or ``out`` holds anything other than an earlier result.
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


def _categories(meta: dict[str, Any], checkpoint: str, panoptic: bool) -> list[dict[str, Any]]:
    """Categories of a model in COCO's form, in the order of the file that they come from."""
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
        dict(id=category['id'], name=category['name'], isthing=int(category['isthing']))
        for category in parsed
        if panoptic or category['isthing']
    ]


def _digest(content: Any) -> str:
    """SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _digest_of_weights(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def submit(submission: Submission, trust: bool = False, allow_nan: bool = False) -> None:
    """Predict the images and write the files. Each process of a run must call this.

    Args:
        submission: Result of :func:`plan`.
        trust, allow_nan: See ``trust_checkpoint`` and ``allow_nan`` of :class:`~mmpanoptic.apis.PanopticInferencer`.

    Raises:
        UserError: If the weights do not fit, an image cannot be read, or files cannot be written. Finished predictions
            are kept, and the next call continues from them.
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
    """Begin or continue the predictions; print and return the number of images that are left."""
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
    """The test pipeline."""
    return next(inner_datasets(dataset_config(config, 'test_dataloader'))).get('pipeline')


def _predict(submission: Submission, predictions: Predictions, trust: bool, allow_nan: bool) -> None:
    """Run the test loop over the images that are left."""
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
    # One image per batch: images are padded to the largest of a batch, and batches depend on the number of processes.
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
    """Write the folder for the server, after all images are predicted."""
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
    """Add to an error where predictions are kept; remove the folder if it holds no predictions."""
    try:
        yield
    except UserError as error:
        if not predictions.has_some():
            if is_main_process():
                predictions.remove()
            raise
        text = f'{error}; what is predicted is kept in {predictions.folder}: the same command goes on from there'
        raise UserError(text, error.argument) from error

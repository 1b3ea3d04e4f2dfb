"""Start of a training from a checkpoint that may have other classes."""

from collections.abc import Mapping, Sequence

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop
from torch import Tensor

from mmpanoptic.engine.checkpoints import class_names, first_misfit, weights_and_meta
from mmpanoptic.engine.class_layers import Classes
from mmpanoptic.engine.class_transfer import check_mapping, report, split_classes, transfer
from mmpanoptic.formats.panoptic_json import read_json
from mmpanoptic.registry import HOOKS
from mmpanoptic.utils import UserError


@HOOKS.register_module()
class ClassTransferHook(Hook):
    """Takes all fitting layers of the checkpoint that ``load_from`` names, and slices of classes by their names.

    See :func:`~mmpanoptic.engine.class_transfer.transfer`. The log lists the tensors that were kept, moved and left at
    random. The hook does nothing in a test, or when a training is resumed.

    Args:
        mapping: The checkpoint's names of classes that have other names there, such as ``dict(rider='person')``; or a
            JSON file with such an object.
        classes: Names of the checkpoint's classes, things and then stuff, if it does not hold them.
        strict: Whether to refuse a checkpoint that does not fit completely.

    Raises:
        UserError: When the checkpoint is loaded: if nothing fits, or with ``strict`` not everything; if it is no
            checkpoint; or if a name in ``mapping`` is unknown.
    """

    def __init__(
        self, mapping: Mapping[str, str] | str | None = None, classes: Sequence[str] | None = None, strict: bool = False
    ) -> None:
        self.mapping = mapping or {}
        self.classes = classes
        self.strict = strict

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the checkpoint's weights by the weights that the model starts from."""
        if runner._resume or not isinstance(runner._train_loop, BaseLoop):
            return
        path = runner._load_from
        weights, meta = weights_and_meta(checkpoint, path)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        ours = classes_of(runner.train_dataloader.dataset.metainfo)
        theirs = self._classes_of(meta, model, weights)
        if self.strict:
            _refuse_misfits(model, weights, ours, theirs, path)
        mapping = (
            read_json(self.mapping, remedy='name another `mapping`') if isinstance(self.mapping, str) else self.mapping
        )
        if mapping and theirs is None:
            raise UserError(f'{path} names no classes for `mapping`: give them, in order, as `classes` of the hook')
        check_mapping(mapping, ours, theirs or Classes(()), path)
        found = transfer(model, weights, ours, theirs, mapping)
        if not found.kept and not found.moved:
            raise UserError(f'{path} has no tensor of the model that the config describes: is it of another one?')
        print_log(report(found, path), 'current')
        if theirs is None:
            print_log(f'{path} names no classes: layers of classes are taken if their shapes fit', 'current')
        checkpoint.clear()
        checkpoint['state_dict'] = found.weights

    def _classes_of(self, meta: dict, model, weights: Mapping[str, Tensor]) -> Classes | None:
        of_dataset = meta.get('dataset_meta') or {}
        if self.classes is None and of_dataset.get('thing_classes') and of_dataset.get('classes'):
            return classes_of(of_dataset)
        names = tuple(self.classes or class_names(meta))
        return split_classes(names, model, weights) if names else None


def classes_of(meta: dict) -> Classes:
    """Classes of a dataset's ``metainfo``; all are thing classes if it does not tell."""
    return Classes(tuple(meta.get('thing_classes', meta.get('classes', ()))), tuple(meta.get('stuff_classes', ())))


def _refuse_misfits(model, weights: Mapping[str, Tensor], ours: Classes, theirs: Classes | None, path: str) -> None:
    problem = first_misfit(model, weights)
    names, others = ([*classes.things, *classes.stuff] for classes in (ours, theirs or ours))
    if problem is None and names != others:
        place = next(i for i, pair in enumerate(zip(names, others, strict=False)) if pair[0] != pair[1])
        problem = f'class {place} is {others[place]!r} in it and {names[place]!r} in the dataset'
    if problem:
        raise UserError(f'{path} does not fit in everything: {problem}: leave out --strict to take what fits')

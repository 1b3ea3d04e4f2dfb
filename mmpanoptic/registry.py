"""Registries of mmpanoptic, each a child of mmdet's.

A type name without a scope is looked up here first, then in mmdet, then in mmengine. A parent registry is searched only
among modules that have been imported already; therefore each location below imports its mmdet counterpart. This module
is the first to import mmdet, so that mmdet's notices can be dropped here.
"""

import contextlib
import io
import sys
import warnings

import mmpanoptic


def _import_mmdet_quietly() -> None:
    """Import ``mmdet.datasets``; pass on what it prints, without the notice that OneDL is not installed.

    Raises:
        ModuleNotFoundError: If a package is missing. The message says how to install one that depends on the machine.
    """
    captured = io.StringIO()
    try:
        with contextlib.redirect_stdout(captured):
            import mmdet.datasets  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(mmpanoptic.missing_package(error.name) or str(error), name=error.name) from None
    for line in captured.getvalue().splitlines():
        if 'OneDL' not in line:
            print(line, file=sys.stderr)


_import_mmdet_quietly()
from mmdet import registry as mmdet_registry  # noqa: E402
from mmengine.registry import Registry  # noqa: E402

# On import, mmdet.evaluation warns of a missing package of a metric that nothing here uses.
warnings.filterwarnings('ignore', message='faster_coco_eval is not installed')


def _child(name: str, location: str) -> Registry:
    """Child of mmdet's registry ``name``, filled on first use by importing ``mmpanoptic.<location>``."""
    parent = getattr(mmdet_registry, name)
    return Registry(parent.name, parent=parent, scope='mmpanoptic', locations=[f'mmpanoptic.{location}'])


HOOKS = _child('HOOKS', 'engine.hooks')
LOOPS = _child('LOOPS', 'engine.parts')
RUNNERS = _child('RUNNERS', 'engine.parts')
RUNNER_CONSTRUCTORS = _child('RUNNER_CONSTRUCTORS', 'engine.parts')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'engine.parts')
OPTIMIZERS = _child('OPTIMIZERS', 'engine.parts')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'engine.parts')
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', 'engine.parts')
LOG_PROCESSORS = _child('LOG_PROCESSORS', 'engine.parts')
DATASETS = _child('DATASETS', 'datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'datasets.transforms')
MODELS = _child('MODELS', 'models')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS', 'models')
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS', 'models')
TASK_UTILS = _child('TASK_UTILS', 'models')
METRICS = _child('METRICS', 'evaluation.metrics')
EVALUATOR = _child('EVALUATOR', 'evaluation.metrics')
VISUALIZERS = _child('VISUALIZERS', 'visualization')
VISBACKENDS = _child('VISBACKENDS', 'visualization')

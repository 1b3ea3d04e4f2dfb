"""Time, memory and operator counts of inference and training; several models are measured in turns."""

import gc
import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.structures import InstanceData, PixelData

from mmpanoptic.engine.precision import precision_of
from mmpanoptic.registry import OPTIM_WRAPPERS

from .dispatch import DispatchCounter
from .timing import Stopwatch, drawn_instances, time_prediction

MIB = 2**20


@dataclass
class Case:
    """One thing to measure.

    Attributes:
        what: 'inference' or 'training'.
        model: Name of the model.
        precision: 'float32', 'float16' or 'bfloat16'.
        compiled: Whether the dense part of the model is compiled.
        batch_size: Number of images per call.
        run: Makes the n-th call and returns milliseconds by part.
    """

    what: str
    model: str
    precision: str
    compiled: bool
    batch_size: int
    run: Callable[[int], dict[str, float]]


def prediction(
    model: BaseModel, inputs: list[dict], batch_size: int, dtype: str = 'float32', draw: Callable | None = None
) -> Callable[[int], dict[str, float]]:
    """Function that predicts the n-th batch, starting over at the end of ``inputs``; see :func:`time_prediction`."""

    def run(index: int) -> dict[str, float]:
        batch = [inputs[(index * batch_size + i) % len(inputs)] for i in range(batch_size)]
        with precision_of(next(model.parameters()).device, dtype):
            return time_prediction(model.eval(), batch, draw)

    return run


def training_step(model: BaseModel, samples: list[dict], dtype: str = 'float32') -> Callable[[int], dict[str, float]]:
    """Function that makes a step of stochastic gradient descent with a learning rate of 0; weights do not change."""
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kind = dict(type='OptimWrapper') if dtype == 'float32' else dict(type='mmpanoptic.AmpOptimWrapper', dtype=dtype)
    wrapper = OPTIM_WRAPPERS.build(dict(kind, optimizer=torch.optim.SGD(learned, lr=0.0, momentum=0.9)))
    watch = Stopwatch(learned[0].device)

    def run(index: int) -> dict[str, float]:
        model.train()
        watch.spent.clear()
        with watch.of('total'):
            model.train_step(pseudo_collate(samples), wrapper)
        return dict(watch.spent)

    return run


def training_samples(number: int, size: tuple[int, int], num_things: int, num_stuff: int, objects: int) -> list[dict]:
    """Samples as a dataset returns them: random images, drawn instances, and stuff in horizontal bands."""
    generator = torch.Generator().manual_seed(0)
    drawn = drawn_instances(objects, num_things, size, torch.device('cpu'))
    labels = (torch.arange(size[0]) * num_stuff // size[0] + num_things)[:, None].expand(size).clone()
    for mask, label in zip(drawn.masks, drawn.labels, strict=True):
        labels[mask] = label
    samples = []
    for _ in range(number):
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), pad_shape=size))
        masks = BitmapMasks(drawn.masks.numpy().astype(np.uint8), *size)
        sample.gt_instances = InstanceData(bboxes=drawn.bboxes.clone(), labels=drawn.labels.clone(), masks=masks)
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        sample.gt_sem_seg = PixelData(sem_seg=labels[None].to(torch.uint8))
        image = torch.randint(256, (3, *size), dtype=torch.uint8, generator=generator)
        samples.append(dict(inputs=image, data_samples=sample))
    return samples


def measure(cases: list[Case], repeats: int, warmup: int) -> list[dict]:
    """Run all cases in turns, so that other load on the machine affects them alike.

    Args:
        cases: Cases to run.
        repeats: Number of timed calls of each case.
        warmup: Number of calls of each case before these.

    Returns:
        A dict for each case with:

        - ``what``, ``model``, ``precision``, ``compiled`` and ``batch_size`` of the case;
        - ``milliseconds``: ``median`` and ``min`` by part, for an image (in training: for a step);
        - ``peak_device`` and ``resident``: memory in MiB;
        - ``launches``, ``waits`` and ``transfers``: numbers for an image, see :class:`DispatchCounter`; None if the
          model is compiled.
    """
    times: list[list[dict[str, float]]] = [[] for _ in cases]
    memory = [dict(peak_device=0.0, resident=0.0) for _ in cases]
    for index in range(warmup + repeats):
        for case, case_times, case_memory in zip(cases, times, memory, strict=True):
            _forget_peak()
            case_times.append(case.run(index))
            case_memory['peak_device'] = max(case_memory['peak_device'], _peak_device())
            case_memory['resident'] = max(case_memory['resident'], _resident())
    return [
        dict(
            what=case.what,
            model=case.model,
            precision=case.precision,
            compiled=case.compiled,
            batch_size=case.batch_size,
            milliseconds=_by_part(case_times[warmup:], 1 if case.what == 'training' else case.batch_size),
            **case_memory,
            **_counts(case),
        )
        for case, case_times, case_memory in zip(cases, times, memory, strict=True)
    ]


def _by_part(times: list[dict[str, float]], images: int) -> dict[str, dict[str, float]]:
    columns = {part: [parts[part] / images for parts in times] for part in times[0]}
    return {part: dict(median=median(values), min=min(values)) for part, values in columns.items()}


def _counts(case: Case) -> dict[str, float | None]:
    """Operator counts of one more call, which is not timed because counting takes time."""
    names = ('launches', 'waits', 'transfers')
    if case.compiled:  # compiled operators are not dispatched one by one
        return dict.fromkeys(names)
    with DispatchCounter() as counter:
        case.run(0)
    return {name: getattr(counter, name) / case.batch_size for name in names}


def _forget_peak() -> None:
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.reset_peak_memory_stats()


def _peak_device() -> float:
    return torch.cuda.max_memory_allocated() / MIB if torch.cuda.is_available() else 0.0


def _resident() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cases_of(
    model: BaseModel,
    name: str,
    inputs: list[dict],
    samples: list[dict],
    batch_sizes: list[int],
    dtypes: list[str],
    compiled: bool = False,
    draw: Callable | None = None,
) -> list[Case]:
    """Inference cases of a model, and training cases if there are ``samples``, enough for the largest batch."""
    cases = []
    for size in batch_sizes:
        for dtype in dtypes:
            case = partial(Case, model=name, precision=dtype, compiled=compiled, batch_size=size)
            cases.append(case('inference', run=prediction(model, inputs, size, dtype, draw)))
    for size in batch_sizes if samples else ():
        for dtype in dtypes:
            case = partial(Case, model=name, precision=dtype, compiled=compiled, batch_size=size)
            cases.append(case('training', run=training_step(model, samples[:size], dtype)))
    return cases

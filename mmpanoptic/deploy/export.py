"""Write a panoptic model with its fusion as one ONNX file, from a uint8 image to segments."""

import io
import json
import os
import warnings
from typing import Any

import torch
from mmdet.models import BaseDetector
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

import mmpanoptic
from mmpanoptic.models.detectors import CIAE, PanopticFPN, SpatialFlow
from mmpanoptic.utils import UserError, write_whole

from .checks import preparation_of, require_exportable
from .graph.ciae import CIAEGraph
from .graph.image import Preparation
from .graph.one_stage import SpatialFlowGraph
from .graph.operators import onnx_operators, opset_of
from .graph.segments import Segmented
from .graph.two_stage import TwoStageGraph
from .onnx_panoptic import METADATA, VERSION

GRAPHS = ((CIAE, CIAEGraph), (SpatialFlow, SpatialFlowGraph), (PanopticFPN, TwoStageGraph))
#: Names of the sizes of inputs and outputs in the file.
AXES: dict[str, tuple[str | int, ...]] = dict(
    image=('height', 'width', 3),
    id_map=('height', 'width'),
    ids=('segments',),
    labels=('segments',),
    scores=('segments',),
    boxes=('segments', 4),
    areas=('segments',),
)


def graph_of(model: BaseDetector, preparation: Preparation) -> nn.Module:
    """Make a module from image to segments that can be traced.

    Args:
        model: A panoptic detector in eval mode, on the CPU.
        preparation: Converts an image to the input of the network.

    Raises:
        UserError: If a part of the model cannot be exported; the error names the part.
    """
    require_exportable(model)
    graph = next(graph for kind, graph in GRAPHS if isinstance(model, kind))
    return graph(model, preparation).eval()


def export_onnx(
    model: BaseDetector,
    config: Config,
    categories: list[dict[str, Any]],
    path: str | os.PathLike,
    size: tuple[int, int] | None = None,
) -> None:
    """Write a model as an ONNX file that :class:`~mmpanoptic.deploy.OnnxPanoptic` runs.

    Args:
        model: A panoptic detector in eval mode, on the CPU.
        config: Config of the model, with its test pipeline.
        categories: Categories by label, see :class:`~mmpanoptic.results.PanopticResult`.
        path: The file. An existing file is replaced completely or, after an error, not at all.
        size: Height and width of the images that the file will take; None: images of any size.

    Raises:
        UserError: If a part of the model or of the pipeline cannot be exported, or the package onnx is not installed.
        WriteError: If the file cannot be written.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise UserError('the package onnx is not installed: pip install onnx') from None
    init_default_scope(config.get('default_scope', 'mmpanoptic'))
    preparation = preparation_of(model, config)
    graph = graph_of(model, preparation)
    exported = onnx.load_from_string(_traced(graph, size))
    _mend_shapes(exported.graph, size)
    exported.producer_name, exported.producer_version = 'mmpanoptic', mmpanoptic.__version__
    content = dict(
        version=VERSION,
        mmpanoptic=mmpanoptic.__version__,
        model=type(model).__name__,
        categories=categories,
        preprocessing=vars(preparation),
        thresholds=thresholds_of(model),
        size=size and list(size),
    )
    onnx.helper.set_model_props(exported, {METADATA: json.dumps(content)})
    onnx.checker.check_model(exported)
    write_whole(path, exported.SerializeToString())


def thresholds_of(model: BaseDetector) -> dict[str, Any]:
    """Thresholds in the graph: ``test_cfg`` and those of the fusion head."""
    head = model.panoptic_fusion_head
    names = ('score_thr', 'overlap_thr', 'stuff_area_limit', 'box_fill_thr', 'box_scale')
    fusion = {name: getattr(head, name) for name in names if hasattr(head, name)}
    return dict(test_cfg=Config(model.test_cfg or {}).to_dict(), fusion=dict(type=type(head).__name__, **fusion))


def _traced(graph: nn.Module, size: tuple[int, int] | None) -> bytes:
    """The ONNX file as torch writes it."""
    # The values of its pixels do not matter: no branch of the trace depends on the number of objects.
    height, width = size or (96, 128)
    image = torch.zeros((height, width, 3), dtype=torch.uint8)
    axes = None if size else dict(image={0: 'height', 1: 'width'})
    file = io.BytesIO()
    with torch.no_grad(), onnx_operators(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about values that become constants in a trace, and about torch's new exporter
        torch.onnx.export(
            graph,
            (image,),
            file,  # type: ignore[arg-type]  # the exporter takes a file too
            dynamo=False,
            opset_version=opset_of(graph),
            input_names=['image'],
            output_names=list(Segmented._fields),
            dynamic_axes=axes,
        )
    return file.getvalue()


def _mend_shapes(graph: Any, size: tuple[int, int] | None) -> None:
    """Remove the shapes that torch inferred, many of which are wrong, and name the sizes of inputs and outputs.

    torch gives different unknown sizes the same name. onnxruntime then gives two tensors of different sizes the same
    buffer, and fails. Without these shapes, runtimes infer them.
    """
    del graph.value_info[:]
    known = dict(zip(('height', 'width'), size or (), strict=False))
    for value in (*graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name in AXES:
            for dim, axis in zip(dims, AXES[value.name], strict=True):
                if isinstance(axis, int):
                    dim.dim_value = axis
                elif axis in known:
                    dim.dim_value = known[axis]
                else:
                    dim.dim_param = axis
        elif len(dims):  # in the body of a loop, whose counter must keep its scalar shape
            value.type.tensor_type.ClearField('shape')
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField('g'):
                _mend_shapes(attribute.g, size)

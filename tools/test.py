"""Test a model.

python tools/test.py CONFIG CHECKPOINT --eval PQ [bbox segm mIoU cityscapes] [--classwise] [--show-dir DIR]
    [--out results.pkl [--evidence]] [--report DIR] [--tta]
"""

import argparse
import contextlib
import os.path as osp
from collections.abc import Iterator

from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.runner import Runner

from mmpanoptic.engine import cli
from mmpanoptic.engine.augmented_testing import use_tta
from mmpanoptic.engine.checkpoint_files import use_strict_loading
from mmpanoptic.engine.checkpoints import RequireAllWeights
from mmpanoptic.engine.configs import load_config, require_keys
from mmpanoptic.engine.devices import set_local_rank
from mmpanoptic.engine.evaluators import METRICS, as_list, evaluators, list_classes
from mmpanoptic.engine.hooks import SpeedHook
from mmpanoptic.engine.runner import build_runner
from mmpanoptic.evaluation.metrics.written_results import raise_unwritten
from mmpanoptic.models.fusion import BaseFusionHead
from mmpanoptic.report import ReportOfTest, plotly_script
from mmpanoptic.utils import UserError, require_file, require_folder, sole_writer, whole_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--eval', nargs='+', metavar='METRIC', help=f"{', '.join(METRICS)} (default: the config's)")
    parser.add_argument('--classwise', action='store_true', help='list every class: PQ, AP, IoU')
    parser.add_argument('--work-dir', help='folder for logs and metrics (default: work_dirs/<config name>)')
    parser.add_argument(
        '--out', metavar='FILE.pkl', help='write all predictions, for tools/analysis_tools/results.py; large'
    )
    parser.add_argument(
        '--evidence', action='store_true', help='with --out: also write what panoptic maps were fused from'
    )
    parser.add_argument(
        '--show-dir',
        metavar='DIR',
        help='folder for pictures (image, ground truth, prediction); earlier ones are replaced',
    )
    parser.add_argument(
        '--report', metavar='DIR', help='folder for a page that shows where PQ is lost; an earlier one is replaced'
    )
    parser.add_argument('--tta', action='store_true', help='test with the tta_model and tta_pipeline of the config')
    parser.add_argument('--compile', action='store_true', help='compile backbone and neck (docs/speed.md)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_checkpoint_arguments(parser)
    cli.add_image_arguments(parser)
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args()


@contextlib.contextmanager
def outputs(runner: Runner, args: argparse.Namespace) -> Iterator[None]:
    """Keep other processes from writing to ``--out`` and ``--show-dir`` during a test; pictures appear at its end.

    Raises:
        UserError: If another process writes there, or the folder of pictures holds other files.
    """
    with contextlib.ExitStack() as stack:
        pictures = [None]
        if args.out is not None and is_main_process():
            stack.enter_context(sole_writer(args.out, '--out'))
        if args.show_dir is not None and is_main_process():
            pictures = [str(stack.enter_context(whole_folder(args.show_dir, 'tools/test.py', '--show-dir')))]
        broadcast_object_list(pictures)
        for hook in runner.hooks:
            if args.show_dir is not None and hasattr(hook, 'test_out_dir'):
                hook.test_out_dir = pictures[0]
        yield
        barrier()  # every rank has drawn its images


def report(runner: Runner, args: argparse.Namespace) -> contextlib.AbstractContextManager:
    """Context for a test that, with ``--report``, writes the report on exit.

    Raises:
        UserError: See :class:`ReportOfTest`.
    """
    if args.report is None:
        return contextlib.nullcontext()
    made = ReportOfTest(args.report, runner.test_loop, (args.out, args.show_dir))
    return made.written(osp.splitext(osp.basename(args.config))[0])


def main() -> None:
    args = parse_args()
    set_local_rank(args.local_rank)
    config = load_config(args.config, args.cfg_options, args.work_dir)
    config.launcher = args.launcher
    require_keys(config, 'model', 'test_dataloader', 'test_cfg')
    if args.report is not None:
        plotly_script()
    require_file(args.checkpoint, 'checkpoint')
    use_strict_loading(args.trust_checkpoint)
    config.load_from = args.checkpoint
    if args.tta:
        use_tta(config)
    if args.eval:
        config.test_evaluator = evaluators(config, args.eval, args.cfg_options or {})
    if args.classwise:
        config.test_evaluator = list_classes(config.get('test_evaluator'))
    if args.evidence and args.out is None:
        raise UserError('--evidence is written by --out FILE.pkl: give both')
    if args.out is not None:
        if not args.out.endswith(('.pkl', '.pickle')):
            raise UserError(f'--out {args.out}: the name must end in .pkl')
        require_folder(osp.dirname(args.out), '--out')
        if osp.isdir(args.out):
            raise UserError(f'--out {args.out} is a folder: name a file')
        config.test_evaluator = [
            *as_list(config.get('test_evaluator')),
            dict(type='PredictionDump', out_file_path=args.out),
        ]
    if args.report is not None:
        config.test_evaluator = [*as_list(config.get('test_evaluator')), dict(type='KeptPanoptic')]
    if args.show_dir is not None:
        hooks = config.get('default_hooks') or {}
        if not hooks.get('visualization'):
            raise UserError('--show-dir: default_hooks has no visualization: add a PanopticVisualizationHook')
        hooks['visualization'].test_out_dir = args.show_dir

    runner = build_runner(config, 'test_dataloader')
    runner.register_hook(RequireAllWeights(allow_nan=args.allow_nan))
    if args.compile:
        runner.register_hook(SpeedHook(compile=True))
    for module in runner.model.modules() if args.evidence else ():
        if isinstance(module, BaseFusionHead):
            module.keep_evidence = True
    with report(runner, args), outputs(runner, args):
        runner.test()
    raise_unwritten(runner.test_loop.evaluator)


if __name__ == '__main__':
    cli.run(main)

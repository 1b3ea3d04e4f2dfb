"""Test a model.

python tools/test.py CONFIG CHECKPOINT --eval PQ [bbox segm mIoU] [--show-dir DIR] [--out results.pkl]
"""

import argparse
import os.path as osp

from mmdet.evaluation import DumpDetResults
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmpanoptic.utils import UserError, cli
from mmpanoptic.utils.checkpoints import use_strict_loading

METRICS = ('PQ', 'bbox', 'segm', 'mIoU')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test a model')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--eval', nargs='+', metavar='METRIC', help=f"{', '.join(METRICS)} (default: the config's)")
    parser.add_argument('--work-dir', help='where logs and metrics go (default: work_dirs/<config name>)')
    parser.add_argument('--out', metavar='FILE.pkl', help='dump all predictions; large, since panoptic maps are whole')
    parser.add_argument('--show-dir', metavar='DIR', help='write image, ground truth and prediction side by side')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='config values to override, key=value')
    parser.add_argument('--trust-checkpoint', action='store_true', help='load checkpoints that hold Python objects')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_args()


def evaluators(config: Config, names: list[str]) -> list[dict]:
    """Configs of the metrics that ``--eval`` names.

    The config's own PanopticMetric keeps its settings. AP is taken against the dataset's instances JSON where it has
    one, otherwise against the things of the panoptic annotations.

    Raises:
        UserError: If a name is unknown.
    """
    known = {metric.lower(): metric for metric in METRICS}
    for name in names:
        if name.lower() not in known:
            raise UserError(f'--eval {name}: unknown metric, choose from {", ".join(METRICS)}')
    wanted = {known[name.lower()] for name in names}
    own = config.get('test_evaluator') or []
    own = own if isinstance(own, list) else [own]
    built = []
    if 'PQ' in wanted:
        built.append(next((e for e in own if e['type'] == 'PanopticMetric'), dict(type='PanopticMetric')))
    if wanted & {'bbox', 'segm'}:
        dataset = config.test_dataloader.dataset
        ann_file = dataset.get('inst_ann_file')
        if ann_file is not None:
            ann_file = osp.join(dataset.get('data_root') or '', ann_file)
            cli.require_file(ann_file, 'inst_ann_file')
        types = [metric for metric in ('bbox', 'segm') if metric in wanted]
        built.append(dict(type='InstanceMetric', metric=types, ann_file=ann_file))
    if 'mIoU' in wanted:
        built.append(dict(type='PanopticIoUMetric'))
    return built


def main() -> None:
    args = parse_args()
    cli.set_local_rank(args.local_rank)
    config = cli.load_config(args.config, args.cfg_options, args.work_dir)
    config.launcher = args.launcher
    cli.require_file(args.checkpoint, 'checkpoint')
    use_strict_loading(args.trust_checkpoint)
    config.load_from = args.checkpoint
    if args.eval:
        config.test_evaluator = evaluators(config, args.eval)
    if args.out is not None and not args.out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out {args.out}: the name must end in .pkl')
    if args.show_dir is not None:
        config.default_hooks.visualization.test_out_dir = args.show_dir

    cli.set_up_devices(config)
    runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpDetResults(out_file_path=args.out))
    runner.test()


if __name__ == '__main__':
    cli.run(main)

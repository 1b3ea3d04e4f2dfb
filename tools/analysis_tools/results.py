"""Score, draw, convert or fuse again the predictions that tools/test.py --out wrote.

python tools/analysis_tools/results.py CONFIG RESULTS.pkl [--eval PQ bbox segm mIoU [--classwise]] [--show-dir DIR]
    [--coco PREFIX] [--fuse [--checkpoint FILE]] [--cfg-options k=v ...]

--coco writes PREFIX.panoptic.json and the PNGs in PREFIX.panoptic/, COCO's format of results. --fuse needs results of
tools/test.py --out FILE --evidence and uses the fusion head of the config, for instance with
--cfg-options model.panoptic_fusion_head.score_thr=0.3. No model runs, and no code in the file is executed.
"""

import argparse
import contextlib
from pathlib import Path

from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope

from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config, require_keys
from mmpanoptic.engine.evaluators import METRICS, evaluators, list_classes
from mmpanoptic.engine.hooks.logger_hook import class_scores
from mmpanoptic.engine.hooks.visualization_hook import reading_of
from mmpanoptic.engine.results import fuse_again, fusion_head, read_results, samples_of
from mmpanoptic.engine.terminal import is_for_terminal
from mmpanoptic.evaluation.tables import closing_tables
from mmpanoptic.utils import UserError, whole_folder
from mmpanoptic.visualization import PanopticVisualizer
from mmpanoptic.visualization.files import picture_names, read_image

MAKER = 'tools/analysis_tools/results.py'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Score, draw, convert or fuse again predictions of tools/test.py --out'
    )
    parser.add_argument('config', help='config that the results were made with')
    parser.add_argument('results', metavar='RESULTS.pkl', help='file that tools/test.py --out wrote')
    parser.add_argument('--eval', nargs='+', metavar='METRIC', help=', '.join(METRICS))
    parser.add_argument('--classwise', action='store_true', help='list every class: PQ, AP, IoU')
    parser.add_argument('--show-dir', metavar='DIR', help='folder for pictures; earlier ones are replaced')
    parser.add_argument('--coco', metavar='PREFIX', help="write COCO's panoptic format: PREFIX.panoptic.json and PNGs")
    parser.add_argument('--fuse', action='store_true', help='make new panoptic maps with the fusion head of the config')
    parser.add_argument('--checkpoint', help='weights of the fusion head for --fuse, if it has any')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not (args.eval or args.show_dir or args.coco):
        raise UserError('nothing to do: give --eval, --show-dir or --coco')
    config = load_config(args.config, args.cfg_options)
    require_keys(config, 'test_dataloader')
    init_default_scope(config.get('default_scope') or 'mmpanoptic')
    for handler in MMLogger.get_current_instance().handlers:
        handler.addFilter(is_for_terminal)
    results = read_results(args.results)
    metrics = evaluators(config, args.eval or [])
    if args.classwise:
        metrics = list_classes(metrics)
    if args.coco:
        metrics.append(dict(type='PanopticMetric', format_only=True, outfile_prefix=args.coco))
    head = fusion_head(config, args.checkpoint) if args.fuse else None
    dataset = build_dataset(config, 'test_dataloader')
    evaluator = Evaluator(metrics)
    evaluator.dataset_meta = dataset.metainfo
    visualizer = PanopticVisualizer() if args.show_dir else None
    with contextlib.ExitStack() as stack:
        if visualizer is not None:
            visualizer.dataset_meta = dataset.metainfo
            folder = Path(stack.enter_context(whole_folder(args.show_dir, MAKER, '--show-dir')))
            names = picture_names(dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))
            reading = reading_of(dataset)
        for sample in samples_of(results, dataset, args.results):
            if head is not None:
                fuse_again(sample, head)
            evaluator.process([sample])
            if visualizer is not None:
                image = read_image(sample.img_path, **reading)
                out_file = str(folder / f'{names[sample.img_path]}.png')
                visualizer.add_datasample(sample.img_path, image, sample, out_file=out_file)
    scores = evaluator.evaluate(len(results)) if metrics else {}
    if scores:
        print(closing_tables(scores, class_scores(evaluator)))


if __name__ == '__main__':
    cli.run(main)

"""Draw the samples that a config's pipeline feeds to the network, beside the original images.

python tools/analysis_tools/browse.py CONFIG [--split train] [--number 20] [--out DIR] [--seed 0]

Each sample gives two pictures: the image of the file with its ground truth, and the network's input before
normalisation with the targets, a map and boxes. Ignored instances (crowds) are hatched and have dashed boxes; void is
grey. `index.html` shows the pictures and the changes made by each transform. No model is built.
"""

import argparse
import os.path as osp

from mmengine.registry import init_default_scope
from rich.progress import track

from mmpanoptic.analysis.browsing import drawn_samples, page
from mmpanoptic.engine import cli
from mmpanoptic.engine.components import build_dataset
from mmpanoptic.engine.configs import load_config
from mmpanoptic.utils import UserError, whole_folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Pictures of the samples that a pipeline feeds to the network')
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--split', choices=('train', 'val', 'test'), default='train', help='data to draw (default: train)'
    )
    parser.add_argument('--number', type=int, default=20, metavar='N', help='number of random samples (default: 20)')
    parser.add_argument(
        '--out', metavar='DIR', help='folder for the page; an earlier one is replaced (default: in the work dir)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the choice and of the pipeline (default: 0)')
    parser.add_argument('--workers', type=int, default=0, metavar='N', help='processes that draw (default: this one)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    cli.add_image_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    for name, least in (('number', 1), ('seed', 0), ('workers', 0)):
        if getattr(args, name) < least:
            raise UserError(f'--{name} {getattr(args, name)}: at least {least} is needed')
    config = load_config(args.config, args.cfg_options)
    init_default_scope(config.get('default_scope', 'mmpanoptic'))
    dataset = build_dataset(config, f'{args.split}_dataloader')
    out = args.out or osp.join(config.work_dir, f'browse_{args.split}')
    number = min(args.number, len(dataset))
    with whole_folder(out, 'tools/analysis_tools/browse.py', '--out') as folder:
        drawn = track(drawn_samples(dataset, number, args.seed, args.workers), 'Drawing', number, transient=True)
        shown = []
        for index, sample in enumerate(drawn, 1):
            name = f'{index:04d}_{osp.splitext(osp.basename(sample.path))[0]}'
            files = {f'{name}_file.jpg': sample.original, f'{name}_fed.jpg': sample.fed}
            for file, content in files.items():
                (folder / file).write_bytes(content)
            shown.append(dict(path=sample.path, facts=sample.facts, files=list(files)))
        text = f'{number} of {len(dataset)} samples of {args.split}_dataloader, seed {args.seed}'
        (folder / 'index.html').write_text(page(args.config, text, shown), encoding='utf-8')
    print(f'{number} samples: {osp.join(out, "index.html")}')


if __name__ == '__main__':
    cli.run(main)

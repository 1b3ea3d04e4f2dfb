"""Print a complete config with inherited values and options applied, as Python that tools can read.

python tools/misc/print_config.py CONFIG [--key model.backbone] [--cfg-options k=v ...]
"""

import argparse

from mmpanoptic.engine import cli
from mmpanoptic.engine.configs import load_config, value_at


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Print a complete config with inherited values')
    parser.add_argument('config', help='config file')
    parser.add_argument('--key', help='print only this part, such as model.backbone or train_cfg.max_epochs')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, help='config values to override, key=value')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    config = load_config(args.config, args.cfg_options)
    if args.key is not None:
        config = value_at(config, args.key)
    print(getattr(config, 'pretty_text', config), end='' if hasattr(config, 'pretty_text') else '\n')


if __name__ == '__main__':
    cli.run(main)

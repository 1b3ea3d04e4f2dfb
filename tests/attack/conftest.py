"""The table of all attacks of a session."""

import os
from pathlib import Path

from helpers.attack import SEED, TABLE


def pytest_terminal_summary(terminalreporter):
    """Print the table and, if ATTACK_TABLE names a file, write it there."""
    if not TABLE:
        return
    lines = ['| attack | count | outcomes | survived | seconds |', '|---|---:|---|---:|---:|']
    for tried in TABLE:
        count = tried.outcomes.total()
        outcomes = ', '.join(f'{times} {name}' for name, times in sorted(tried.outcomes.items()))
        survived = count - len(tried.failures)
        lines.append(f'| {tried.attack} | {count} | {outcomes} | {survived} | {tried.seconds:.0f} |')
    terminalreporter.section(f'attacks, seed {SEED}')
    terminalreporter.write('\n'.join(lines) + '\n')
    if path := os.environ.get('ATTACK_TABLE'):
        Path(path).write_text('\n'.join(lines) + '\n')

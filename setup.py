"""Packaging. Imports neither torch nor mmpanoptic, so that plain pip can read it in an empty environment."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_version() -> str:
    """``__version__`` of the package, without importing it."""
    source = (ROOT / 'mmpanoptic' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", source, re.MULTILINE).group(1)


def read_requirements() -> tuple[list[str], list[str]]:
    """Requirements at run time, and those of the tests: what stands below the line ``# tests`` of requirements.txt."""
    parts: tuple[list[str], list[str]] = ([], [])
    part = 0
    for line in (ROOT / 'requirements.txt').read_text(encoding='utf-8').splitlines():
        if line.startswith('# tests'):
            part = 1
        elif line.strip() and not line.startswith('#'):
            parts[part].append(line.strip())
    return parts


runtime, tests = read_requirements()
setup(
    name='mmpanoptic',
    version=read_version(),
    description='Panoptic FPN, PANet, SpatialFlow, OANet and CIAE on MMDetection 3.x',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmpanoptic', 'mmpanoptic.*']),
    python_requires='>=3.10,<3.13',
    install_requires=runtime,
    extras_require={'tests': tests},
)

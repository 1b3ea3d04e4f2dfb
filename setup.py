"""Packaging. Imports neither torch nor mmpanoptic, so that plain pip can read it in an empty environment."""

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ('configs', 'tools', 'model-index.yml')  # to mmpanoptic/.mim, where mim and mmengine look for them


def read_version() -> str:
    """``__version__`` of the package, without importing it."""
    source = (ROOT / 'mmpanoptic' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'", source, re.MULTILINE).group(1)


def read_requirements() -> dict[str, list[str]]:
    """Requirements by the parts of requirements.txt, which begin with lines such as ``# tests: ...``."""
    parts, part = {}, []
    for line in (ROOT / 'requirements.txt').read_text(encoding='utf-8').splitlines():
        if match := re.match(r'# (\w+): ', line):
            part = parts[match.group(1)] = []
        elif line.strip() and not line.startswith('#'):
            part.append(line.strip())
    return parts


class BuildWithConfigs(build_py):
    """Put configs and tools into the package: copies into a wheel, links into a checkout that is installed editable."""

    def run(self) -> None:
        """Build the package, then its folder ``.mim``."""
        super().run()
        folder = Path('mmpanoptic' if self.editable_mode else os.path.join(self.build_lib, 'mmpanoptic'), '.mim')
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name in SHIPPED:
            if self.editable_mode:
                (folder / name).symlink_to(os.path.join('..', '..', name))
            elif os.path.isdir(name):
                shutil.copytree(name, folder / name, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))
            else:
                shutil.copy2(name, folder)


requirements = read_requirements()
setup(
    name='mmpanoptic',
    version=read_version(),
    description='Panoptic FPN, PANet, SpatialFlow, OANet and CIAE on MMDetection 3.x',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmpanoptic', 'mmpanoptic.*']),
    package_data={'mmpanoptic': ['py.typed'], 'mmpanoptic.report': ['*.html', '*.js']},
    python_requires='>=3.10,<3.13',
    install_requires=requirements['package'],
    extras_require={'tests': requirements['tests'], 'docs': requirements['docs']},
    entry_points={'console_scripts': ['mmpanoptic = mmpanoptic.__main__:main']},
    cmdclass={'build_py': BuildWithConfigs},
)

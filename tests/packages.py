"""Packages from npm for one program of the tests, installed as their lock says."""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.tools import ROOT, need

INSTALL_SECONDS: Final = 600


def install_packages(name: str, folder: Path) -> Path:
    """A folder with the files of tests/npm/`name`, and their packages."""
    app = folder / name
    ignored = shutil.ignore_patterns("node_modules")
    shutil.copytree(ROOT / "tests/npm" / name, app, ignore=ignored)
    subprocess.run([need("npm"), "ci", "--silent"], cwd=app, check=True, timeout=INSTALL_SECONDS)
    return app

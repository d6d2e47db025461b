"""Packages from npm for one program of the tests, installed as their lock says."""

import shutil
import subprocess
from pathlib import Path

from tests.tools import need


def install_packages(program: Path, folder: Path, *, limit_seconds: float = 120) -> Path:
    """A folder in this one with the files of a program, and their packages."""
    copy = folder / program.name
    shutil.copytree(program, copy, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([need("npm"), "ci", "--silent"], cwd=copy, check=True, timeout=limit_seconds)
    return copy

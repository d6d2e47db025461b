"""The release before this one: the last tag, or, in a clone without tags, the commit that
`deploy/previous-release` names.
"""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
NAMED: Final = ROOT / "deploy/previous-release"
GIT_SECONDS: Final = 60


def previous_release() -> str | None:
    """A revision. None if this copy of the repository has no history that goes so far back."""
    # This commit may be the one that is released: its own tag does not count.
    tag = _git("describe", "--tags", "--abbrev=0", "--match", "v*", "HEAD^")
    revision = tag.decode().strip() if tag else NAMED.read_text().split()[-1]
    return revision if _git("rev-parse", "--verify", f"{revision}^{{commit}}") else None


def check_out(revision: str, folder: Path) -> Path:
    """Write the code of the revision into the folder."""
    archive = _git("archive", "--format=tar", revision)
    assert archive, revision
    with tarfile.open(fileobj=BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> bytes | None:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, check=False, timeout=GIT_SECONDS
    )
    return done.stdout if done.returncode == 0 else None

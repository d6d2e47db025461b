"""The image, built and run where buildah is installed. Its base is made by debootstrap, since a
registry may be out of reach; DARKROOM_TEST_ROOTFS names a folder that has one already.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.tools import need

ROOT: Final = Path(__file__).parents[2]
REQUIREMENTS: Final = ROOT / "requirements/app.txt"
LIMIT_SECONDS: Final = 1_200
BASE: Final = "localhost/base"
_OF_PIP: Final = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt")
"""How packages are reached from here, if that is configured."""


class Buildah:
    """Keeps everything in one folder, and needs no daemon."""

    def __init__(self, folder: Path) -> None:
        self._start = (need("buildah"), "--root", folder / "root", "--runroot", folder / "run")

    def __call__(self, *arguments: str | Path, code: int = 0) -> str:
        done = subprocess.run(
            [*self._start, *arguments],
            cwd=ROOT,
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.mark.timeout(2 * LIMIT_SECONDS)
def test_the_image_builds_and_names_missing_settings(tmp_path: Path) -> None:
    need("image")
    buildah = Buildah(tmp_path)
    rootfs = Path(os.environ.get("DARKROOM_TEST_ROOTFS") or _make_rootfs(tmp_path / "rootfs"))
    base = buildah("from", "scratch").split()[-1]
    buildah("add", base, rootfs, "/")
    buildah("commit", "--quiet", base, BASE)

    volumes = [word for path in _OF_PIP for word in ("--volume", f"{path}:{path}:ro")]
    present = volumes if all(Path(path).exists() for path in _OF_PIP) else []
    buildah(
        *("bud", "--pull-never", "--format", "docker", "--file", "deploy/Containerfile"),
        *("--build-arg", f"PYTHON={BASE}", "--tag", "darkroom", "--network", "host"),
        *present,
        ".",
    )

    config = json.loads(buildah("inspect", "--type", "image", "darkroom"))["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "-m"]
    assert config["Cmd"] == ["serve"]
    assert "/healthz" in config["Healthcheck"]["Test"][-1]
    assert config["Labels"]["org.opencontainers.image.title"] == "Darkroom"
    container = buildah("from", "--pull-never", "darkroom").split()[-1]
    said = buildah("run", container, "--", "python", "-m", "serve", code=2)
    assert "DARKROOM_MONGODB_URI is needed in production." in said
    assert "Traceback" not in said
    looked = "import os, app, worker, commands.status; print(os.getuid(), os.listdir('/data'))"
    assert "10001 []" in buildah("run", container, "--", "python", "-c", looked)
    bill = json.loads(buildah("run", container, "--", "cat", "/opt/darkroom/sbom.cdx.json"))
    assert bill["bomFormat"] == "CycloneDX"
    named = {f"{one['name']}=={one['version']}" for one in bill["components"]}
    assert named == set(re.findall(r"^(\S+==[^ ;]+)", REQUIREMENTS.read_text(), re.MULTILINE))
    absent = "import importlib.util as u; print([n for n in ('pip', 'fiftyone') if u.find_spec(n)])"
    assert "[]" in buildah("run", container, "--", "python", "-c", absent)


def _make_rootfs(folder: Path) -> Path:
    packages = "--include=python3,python3-venv,ca-certificates"
    command: list[str | Path] = [
        need("debootstrap"),
        "--variant=minbase",
        packages,
        "bookworm",
        folder,
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_SECONDS)
    except subprocess.SubprocessError as error:
        # Nothing of ours: its packages cannot be had here, or not in time.
        pytest.skip(f"debootstrap makes no base here: {error}")
    return folder

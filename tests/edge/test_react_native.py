"""The files of the guides in an app of React Native: bundled by Metro, checked against its types.

Its packages are many: `make resilience` runs this, and `make test` does not.
"""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.packages import install_packages
from tests.resilience.scale import THOROUGH, WHY_NOT
from tests.tools import ROOT, need

pytestmark = pytest.mark.skipif(not THOROUGH, reason=WHY_NOT)

GUIDES: Final = (ROOT / "docs/front-ends.md", ROOT / "docs/client-guide.md")
FILE: Final = re.compile(r"^```(?:js|ts) (\S+\.[jt]s)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUNDLE_SECONDS: Final = 600
INSTALL_SECONDS: Final = 600


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = install_packages(
        ROOT / "tests/npm/react-native",
        tmp_path_factory.mktemp("app"),
        limit_seconds=INSTALL_SECONDS,
    )
    for guide in GUIDES:
        for name, text in FILE.findall(guide.read_text()):
            (folder / name).write_text(text)
    return folder


def test_the_files_of_the_guides_fit_the_types_of_react_native(app: Path) -> None:
    checked = subprocess.run(
        [need("node"), "node_modules/typescript/bin/tsc", "--noEmit"],
        cwd=app,
        check=False,
        capture_output=True,
        text=True,
        timeout=BUNDLE_SECONDS,
    )

    assert (checked.stdout, checked.returncode) == ("", 0)


@pytest.mark.parametrize("platform", ["ios", "android"])
def test_metro_bundles_the_files_of_the_guides(app: Path, platform: str, tmp_path: Path) -> None:
    bundle = tmp_path / "main.js"

    subprocess.run(
        [need("node"), "bundle.cjs", platform, bundle], cwd=app, check=True, timeout=BUNDLE_SECONDS
    )

    text = bundle.read_text()
    assert "graphql-transport-ws" in text
    assert "connectApp" in text

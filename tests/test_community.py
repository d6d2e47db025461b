"""The files that newcomers to the project look for exist, and name only what exists."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.packages import install_packages
from tests.tools import need

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted((ROOT / ".github").rglob("*.*")),
    ROOT / ".github/CODEOWNERS",
    *sorted((ROOT / ".devcontainer").iterdir()),
    *(ROOT / name for name in ("SECURITY.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md")),
]
REGISTRIES = re.compile(r"\b(ghcr\.io|docker\.io|mcr\.microsoft\.com|quay\.io|pypi\.org|npmjs)\b")


def targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_commands_named_in_files_exist(file: Path) -> None:
    text = file.read_text()
    named = re.findall(r"(?:`|run: |: \")make ((?:[a-z]+ ?)+)", text)

    assert {one for words in named for one in words.split()} <= targets()
    assert not REGISTRIES.search(text)


def test_the_workflows_run_what_ci_runs() -> None:
    ours = (ROOT / ".ci/run").read_text()
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()

    (commands,) = re.findall(r"(?m)^make (?:--jobs=2 )?(.+)$", ours)
    assert re.findall(r"run: make (\w+)", workflow) == commands.split() == ["check", "test"]


def test_workflows_are_valid(tmp_path: Path) -> None:
    node, folder = need("node"), install_packages(ROOT / "tests/workflows", tmp_path)
    files = sorted((ROOT / ".github/workflows").iterdir())

    printed = subprocess.run(
        [node, "lint.mjs", *files], cwd=folder, check=True, capture_output=True, timeout=60
    ).stdout.decode()

    assert len(files) > 1
    assert printed == ""


def test_every_path_with_a_place_for_code_owners_exists() -> None:
    lines = (ROOT / ".github/CODEOWNERS").read_text().splitlines()
    paths = [line.split()[0].removeprefix("#") for line in lines if not line.startswith("# ")]

    assert all(line.startswith("#") for line in lines), (
        "owners are of the forge, not of the project"
    )
    assert paths[0] == "*"
    assert [path for path in paths[1:] if not (ROOT / path.strip("/")).exists()] == []


def test_dependencies_of_every_folder_are_updated() -> None:
    text = (ROOT / ".github/dependabot.yml").read_text()
    (listed,) = re.findall(r"npm\n +directories: \[(.+)\]", text)
    manifests = [*ROOT.glob("*/package.json"), *ROOT.glob("*/*/package.json")]

    folders = {f"/{path.parent.relative_to(ROOT)}" for path in manifests}
    assert set(listed.split(", ")) == folders
    assert list((ROOT / "requirements").glob("*.in"))


def test_the_version_is_the_same_wherever_it_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (released, *_) = re.findall(r"(?m)^## \[(\d.*)\] - ", (ROOT / "CHANGELOG.md").read_text())
    overlay = (ROOT / "deploy/kubernetes/example/kustomization.yaml").read_text()

    assert project["project"]["version"] == released
    assert f'newTag: "{released}"' in overlay


def test_security_and_conduct_are_linked_from_the_start_pages() -> None:
    readme = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()

    assert "SECURITY.md" in readme
    assert "CODE_OF_CONDUCT.md" in readme


def test_every_decision_is_listed_with_its_title() -> None:
    folder = ROOT / "docs/decisions"
    pages = sorted(folder.glob("0*.md"))
    titles = [(page.name, page.read_text().partition("\n")[0].removeprefix("# ")) for page in pages]

    listed = re.findall(r"(?m)^- \[(\d{4})\]\((.+)\) (.+)$", (folder / "README.md").read_text())

    assert [(name, f"{number} {title}") for number, name, title in listed] == titles

"""Documents, and messages and names in the source, are written in plain words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "schema.graphql")),
    *(path for path in (ROOT / "docs").glob("*.md")),
]
FOLDERS = ("domain", "edge", "commands", "runtime", "settings", "storage/imaging", "subscriptions")
ODD_WORDS = re.compile(
    r"whoever|left-over|blotted|goes? along|looks? around|\bmend|\banew\b|at work|of our own|"
    r"\b1 (credits|images|outputs|references|files|bytes)\b",
    re.IGNORECASE,
)
ROOMS = (
    *("assembly", "bench", "commands", "domain", "edge", "examples", "metrics"),
    *("outbound", "providers", "resolvers", "runtime", "schema", "settings", "storage"),
    *("subscriptions", "tests", "tracing"),
)
ODD_WORDS_IN_CODE = re.compile(
    r"whoever|left-over|blotted|\bgoes? along\b|\blooks? around\b|\bmend|anew|\bat work\b|"
    r"\bof our own\b|\btold\b|unlikeness|lately|soonest|patiently|clear_away|came_from|some_back|"
    r"\bwish|chronicl|misfortune|\bin earnest\b|\bnought\b|foreign picture",
    re.IGNORECASE,
)
MESSAGE = re.compile(r"^[A-Z`].* .*[.!?]$", re.DOTALL)


def messages(source: str) -> Iterator[str]:
    """The string literals that are sentences, without docstrings; `{}` stands for a value."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    parts = {
        id(value)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for value in node.values
    }
    for node in ast.walk(tree):
        text = ""
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(value.value) if isinstance(value, ast.Constant) else "{}"
                for value in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = "" if id(node) in docstrings | parts else node.value
        if MESSAGE.match(text):
            yield text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_is_written_in_plain_words(document: Path) -> None:
    found = [line for line in document.read_text().splitlines() if ODD_WORDS.search(line)]

    assert found == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_messages_are_written_in_plain_words(folder: str) -> None:
    read = [
        (path.name, message)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for message in messages(path.read_text())
    ]

    assert read, "There are messages here."
    assert [(name, message) for name, message in read if ODD_WORDS.search(message)] == []


def test_comments_and_names_are_written_in_plain_words() -> None:
    everywhere = [
        *ROOT.glob("*.py"),
        *(path for room in ROOMS for path in (ROOT / room).rglob("*.py")),
    ]
    paths = [path for path in everywhere if path != Path(__file__)]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in paths
        for line in path.read_text().splitlines()
        if ODD_WORDS_IN_CODE.search(line)
    ]

    assert len(paths) > 500
    assert found == []


def test_messages_are_found_in_source_and_docstrings_are_not() -> None:
    source = '''
def refuse(count: int) -> str:
    """Whoever is refused."""
    log.info("output started")
    return f"Add at most {count} references." or "This is at work."
'''

    assert list(messages(source)) == ["Add at most {} references.", "This is at work."]

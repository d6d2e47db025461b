"""Shared by tests of the checker, and the figures of storms."""

import copy
import json

import pytest

from tests.resilience.evidence import History
from tests.resilience.figures import table
from tests.resilience.valid_history import make_valid_history


@pytest.fixture(scope="session")
async def valid_history(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> History:
    """The history of a run in which everything is done once and nothing fails. Read-only."""
    return await make_valid_history(mongodb_uri, tmp_path_factory.mktemp("valid_history"))


@pytest.fixture
def tampered(valid_history: History) -> History:
    """The same, to be changed."""
    return copy.deepcopy(valid_history)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    columns = {
        name: figures
        for reports in terminalreporter.stats.values()
        for report in reports
        for title, value in getattr(report, "user_properties", ())
        if title == "figures" and getattr(report, "when", "") == "call"
        for name, figures in json.loads(value).items()
    }
    if columns:
        terminalreporter.section("storms")
        terminalreporter.line(table(columns))

"""The summary of skipped tests."""

import pytest

from tests.tools import GROUPS, find_tool, left_out, need


def test_skipped_tests_are_summarised_in_sentences() -> None:
    reasons = ["Skipped: needs nats-server", "needs nats-server", "takes long", "needs node"]

    assert list(left_out(reasons)) == [
        "Left out: 2 tests of hints through NATS. They need nats-server "
        "(on Debian: apt-get install nats-server).",
        "Left out: 1 test of clients from npm, and the README's walk-through with one. It needs "
        "node (on Debian: apt-get install nodejs).",
    ]


def test_no_summary_is_printed_if_nothing_was_skipped() -> None:
    assert not list(left_out(["takes long; DARKROOM_TEST_KILLS=20 runs it"]))


def test_a_test_whose_program_is_missing_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUPS, "no-such-program", "nothing")
    assert find_tool("no-such-program") is None

    with pytest.raises(pytest.skip.Exception, match="needs no-such-program"):
        need("no-such-program")

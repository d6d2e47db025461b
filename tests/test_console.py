"""How operators' commands end: a sentence and an exit code, whatever becomes of them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path

import pytest

from commands import credits as credits_command
from commands import make_samples, models, token, viewers, webhooks
from commands.console import run_main

ROOT = Path(__file__).parents[1]
LONG = "x" * 100_000  # more than a buffer holds
NUMBER = "is not a whole number from"
LINE = "it must be one line of 1 to"


@pytest.fixture(autouse=True)
def _without_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["command"])


def test_a_command_whose_output_nobody_reads_ends_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    for text in (LONG, "a word that is written when the command has ended"):
        with os.fdopen(os.dup(writer), "w") as output:
            monkeypatch.setattr(sys, "stdout", output)
            code = run_main(partial(_print, text))
        assert (code, capsys.readouterr().err) == (1, "")
    os.close(writer)


def test_what_was_printed_before_an_error_is_written(tmp_path: Path) -> None:
    def fail(_: list[str]) -> int:
        print("found so far")  # noqa: T201 - as commands do
        raise ExceptionGroup("", [ExceptionGroup("", [PermissionError(13, "Permission denied")])])

    output = tmp_path / "output"
    with output.open("w") as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", errors := StringIO())
        code = run_main(fail)
        assert output.read_text() == "found so far\n"

    assert code == 1
    assert errors.getvalue() == "Cannot write or read: [Errno 13] Permission denied.\n"


def test_without_stdout_an_error_is_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: list[str]) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(sys, "stdout", None)

    assert run_main(fail) == 1
    assert "Permission denied" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this disk")
def test_a_command_says_that_the_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        code = run_main(partial(_print, "a word"))

    assert code == 1
    assert "No space left" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has this disk")
def test_a_full_disk_is_not_taken_for_a_port_that_is_in_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", "listen", "--port", "0"])
    with Path("/dev/full").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        code = run_main(webhooks.main)

    assert code == 1
    assert capsys.readouterr().err.startswith("Cannot write or read: [Errno 28] No space left")


def test_an_interrupted_command_ends_with_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    async def work() -> int:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            signal.raise_signal(signal.SIGINT)
        return 0

    code = run_main(lambda _: asyncio.run(work()))

    assert (code, capsys.readouterr().err) == (1, "Interrupted.\n")


def test_a_command_that_is_interrupted_while_it_is_imported_ends_without_a_traceback(
    tmp_path: Path,
) -> None:
    imported = tmp_path / "structlog.py"
    imported.write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")

    done = subprocess.run(
        [sys.executable, "-m", "commands.token", "ana"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.fspath(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (credits_command.main, ["grant", "ana", "0", "--key", "a"], NUMBER),
        (credits_command.main, ["grant", "ana", "1.5", "--key", "a"], NUMBER),
        (credits_command.main, ["grant", "ana", "9" * 5_000, "--key", "a"], NUMBER),
        (credits_command.main, ["grant", "ana", "5", "--key", ""], LINE),
        (credits_command.main, ["grant", "ana", "5", "--key", LONG], LINE),
        (credits_command.main, ["limit", "ana", "all"], NUMBER),
        (credits_command.main, ["show", "ana", "--days", "0"], NUMBER),
        (models.main, ["off", "fal", "--reason", " "], LINE),
        (models.main, ["off", "fal", "--reason", "a\x1b[31mb"], LINE),
        (viewers.main, ["block", "ana", "--reason", "a\nb"], LINE),
        (webhooks.main, ["listen", "--port", "65536"], NUMBER),
        (webhooks.main, ["listen", "--status", "99"], NUMBER),
        (make_samples.main, ["nonsense"], "unrecognized arguments"),
        (token.main, [], "required: name"),
    ],
)
def test_an_argument_that_is_refused_is_named(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    main: Callable[[list[str]], int],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *arguments])

    code = run_main(main)

    complaint = capsys.readouterr().err
    assert code == 2
    assert message in complaint
    assert "_parse" not in complaint


def _print(text: str, _: list[str]) -> int:
    print(text)  # noqa: T201 - as commands do
    return 0

"""The sandbox for uploads: a process for each file, of which none is left behind."""

import asyncio
import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from domain.errors import Overloaded, UserErrorCode
from domain.images import ProcessedImage
from storage.imaging import sandbox as upload_processor
from storage.imaging.sandbox import UploadSandbox
from storage.imaging.sandbox_child import TOO_LARGE
from tests.storage.pictures import (
    CANARY,
    a_picture,
    encoded,
)
from tests.storage.sandboxes import LINUX, our_processes, process, refusal, slow_and_large
from tests.waits import PATIENCE_SECONDS, eventually

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.usefixtures("no_process_is_left")


async def until_running(count: int, before: set[int]) -> None:
    await eventually(
        lambda: len(our_processes() - before) >= count, what=f"{count} are running", every=0.01
    )


@LINUX
async def test_two_files_are_decoded_at_once_and_the_others_in_order(
    processor: UploadSandbox,
) -> None:
    before, most, unfinished, overtaken = our_processes(), 0, list(range(8)), []
    data = encoded(a_picture(900, 600), "JPEG")

    async def one(number: int) -> None:
        await process(processor, data)
        # How many that came before it have not ended: at most the one in the other process.
        overtaken.append(unfinished.index(number))
        unfinished.remove(number)

    working = asyncio.gather(*(one(number) for number in range(8)))
    while not working.done():
        most = max(most, len(our_processes() - before))
        await asyncio.sleep(0.005)
    await working

    assert most == 2
    assert max(overtaken) <= 1


async def test_files_beyond_the_waiting_limit_are_refused() -> None:
    processor = UploadSandbox(children=1, max_waiting=1)
    data = encoded(a_picture())

    outcomes = await asyncio.gather(
        *(process(processor, data) for _ in range(4)), return_exceptions=True
    )

    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [ProcessedImage, ProcessedImage, Overloaded, Overloaded]
    await processor.aclose()


async def test_a_file_that_waits_too_long_is_refused() -> None:
    processor = UploadSandbox(children=1, max_wait_seconds=0.01)
    data = encoded(a_picture())

    outcomes = await asyncio.gather(
        *(process(processor, data) for _ in range(2)), return_exceptions=True
    )

    assert [type(outcome) for outcome in outcomes] == [ProcessedImage, Overloaded]
    assert isinstance(await process(processor, data), ProcessedImage)


@LINUX
async def test_a_cancelled_caller_leaves_no_process_behind(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = our_processes()
    with monkeypatch.context() as patched:
        await pretend(patched, tmp_path, b"ready\n", "exec sleep 60")
        working = [asyncio.create_task(process(processor, encoded(a_picture()))) for _ in range(3)]
        await until_running(2, before)

        for task in working:
            task.cancel()
        await asyncio.wait(working)
    await eventually(lambda: our_processes() == before, what="the others have ended")

    assert all(task.cancelled() for task in working)
    assert isinstance(await process(processor, encoded(a_picture())), ProcessedImage)


@LINUX
async def test_a_caller_cancelled_at_any_moment_frees_its_capacity(
    processor: UploadSandbox,
) -> None:
    data = encoded(a_picture())

    for moment in range(40):
        task = asyncio.create_task(process(processor, data))
        for _ in range(moment % 8):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01 * (moment // 8))
        task.cancel()
        await asyncio.wait([task])

    assert isinstance(await process(processor, data), ProcessedImage)


@LINUX
async def test_closing_ends_running_sandboxes() -> None:
    processor, before = UploadSandbox(), our_processes()
    working = asyncio.create_task(process(processor, slow_and_large()))
    await until_running(1, before)

    await processor.aclose()

    assert our_processes() == before
    with pytest.raises(Overloaded):
        await working


async def test_a_sandbox_killed_from_outside_is_not_a_user_error(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await pretend(monkeypatch, tmp_path, b"ready\n", "kill -KILL $$")

    with pytest.raises(Overloaded):
        await process(processor, encoded(a_picture()))


async def test_a_machine_that_is_too_busy_is_not_a_user_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processor = UploadSandbox(max_child_seconds=0.5)
    await pretend(monkeypatch, tmp_path, b"ready\n", "exec sleep 60")

    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Overloaded):
            await process(processor, encoded(a_picture()))


async def test_a_sandbox_that_cannot_be_started_is_not_a_user_error(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for nowhere in ("/nowhere/python", "/bin/false"):
        monkeypatch.setattr(sys, "executable", nowhere)

        with pytest.raises(Overloaded):
            await process(processor, encoded(a_picture()))


PARENT = """
import asyncio, sys
from pathlib import Path
from storage.imaging.sandbox_child import Limits
from storage.imaging.sandbox import UploadSandbox
async def main():
    data = Path(sys.argv[1]).read_bytes()
    limits = Limits(decoding_seconds=60, seconds=60)
    await UploadSandbox(limits=limits).process_upload(data)
asyncio.run(main())
"""


@LINUX
async def test_a_sandbox_ends_with_its_parent(tmp_path: Path) -> None:
    """Also while it decodes, which takes seconds here."""
    noise, large = Image.effect_noise((1_000, 1_000), 60), Image.new("L", (8_000, 5_000))
    for x, y in product(range(8), range(5)):
        large.paste(noise, (x * 1_000, y * 1_000))
    (tmp_path / "large.png").write_bytes(encoded(large.convert("RGB"), "PNG", compress_level=1))
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PARENT, tmp_path / "large.png"), cwd=ROOT
    )

    def running_sandboxes() -> list[Path]:
        listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        return [Path("/proc", pid) for pid in listed if memory_of(Path("/proc", pid)) > 100_000]

    await eventually(lambda: bool(running_sandboxes()), what="a sandbox is running", every=0.01)
    [child] = running_sandboxes()
    parent.kill()
    await parent.wait()

    await eventually(lambda: not memory_of(child), within=1, what="the child has ended")


def memory_of(process: Path) -> int:
    """What it has in memory, in KB; 0 once it is gone or only not buried yet."""
    try:
        status = (process / "status").read_text()
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in status.splitlines() if x.startswith("VmRSS")), 0)


async def test_a_sandbox_sees_no_environment_variables(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DARKROOM_FAL_KEY", CANARY.decode())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY.decode())
    seen = tmp_path / "seen"
    pretender = tmp_path / "python"
    pretender.write_text(f"#!/bin/sh\nenv > {seen}\n")
    pretender.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(pretender))

    with pytest.raises(Overloaded):
        await process(processor, encoded(a_picture()))

    assert CANARY.decode() not in seen.read_text()
    assert "PATH=" in seen.read_text()


BY_UVLOOP = """
import asyncio, sys, uvloop
from pathlib import Path
from domain.errors import Overloaded, PictureRefused
from storage.imaging.sandbox import UploadSandbox

async def develop(developer, data):
    try:
        return (await developer.process_upload(data)).original.width
    except (Overloaded, PictureRefused) as error:
        return type(error).__name__

async def main():
    data, developer, python = Path(sys.argv[1]).read_bytes(), UploadSandbox(), sys.executable
    assert await asyncio.gather(develop(developer, data), develop(developer, data[:-40])) == [
        300,
        "PictureRefused",
    ]
    for moment in range(0, 100, 5):
        task = asyncio.create_task(develop(developer, data))
        await asyncio.sleep(moment / 1_000)
        task.cancel()
        await asyncio.wait([task])
    for sys.executable in ("/bin/false", "/nowhere") * 5:
        assert await develop(developer, data) == "Overloaded"
    sys.executable = python
    assert await develop(developer, data) == 300
    closed = asyncio.create_task(develop(developer, data))
    await asyncio.sleep(0.05)
    await developer.aclose()
    assert await closed == "Overloaded"
    assert not Path("/proc/thread-self/children").read_text()

uvloop.run(main())
"""


@LINUX
async def test_everything_works_with_uvloop(tmp_path: Path) -> None:
    """It implements processes and pipes itself, and the API runs on it."""
    (tmp_path / "picture.png").write_bytes(encoded(a_picture()))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", BY_UVLOOP, tmp_path / "picture.png"),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        _, complaints = await process.communicate()

    assert (process.returncode, complaints.decode()) == (0, "")


LOCKED_UP = """
import os, socket
from storage.imaging.sandbox_child import Limits, drop_rights
drop_rights(Limits())
for way in (lambda: open("/dev/null"), socket.socket, os.pipe):
    try:
        way()
    except OSError:
        continue
    raise SystemExit(1)
"""


async def test_a_compromised_decoder_can_open_nothing() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LOCKED_UP, cwd=ROOT)

    assert await process.wait() == 0


def an_answer(**changed: Any) -> bytes:
    data = encoded(a_picture(), "PNG")
    output = {"thumbhash": "abcd", "renditions": [["image/png", 300, 200, len(data)]]} | changed
    return b"ready\n" + json.dumps(output).encode() + b"\n" + data


FALSE_ANSWERS: dict[str, bytes] = {
    "nothing": b"ready\n",
    "no JSON": b"ready\nhello",
    "no line": b"ready\n" + b"[" * 100_000,
    "a refusal with an unknown code": b'ready\n["SHUT_UP", "x", "y"]\n',
    "no renditions": an_answer(renditions=[]),
    "another type": an_answer(renditions=[["text/html", 300, 200, 5]]),
    "other bytes": b'ready\n{"thumbhash": "", "renditions": [["image/png", 300, 200, 5]]}\nhello',
    "too few bytes": an_answer()[:-1],
    "too many bytes": an_answer() + b"!",
    "a size that cannot be": an_answer(renditions=[["image/png", 10**9, 1, 5]]),
    "a length below nothing": an_answer(renditions=[["image/png", 300, 200, -1]]),
}


@pytest.mark.parametrize("kind", FALSE_ANSWERS)
async def test_an_invalid_answer_of_a_sandbox_is_refused(
    processor: UploadSandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
) -> None:
    """A decoder that has been taken over may say anything."""
    await pretend(monkeypatch, tmp_path, FALSE_ANSWERS[kind])

    refused = await refusal(processor, encoded(a_picture()))

    assert refused.code is UserErrorCode.UPLOAD_INVALID


async def test_a_valid_answer_of_a_sandbox_is_accepted(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await pretend(monkeypatch, tmp_path, an_answer())

    assert (await process(processor, encoded(a_picture()))).thumbhash == "abcd"


async def test_an_endless_answer_of_a_sandbox_is_cut_off(
    processor: UploadSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(upload_processor, "_MAX_ANSWER_BYTES", 1_000_000)
    await pretend(monkeypatch, tmp_path, b"ready\n", "exec cat /dev/zero")

    assert str(await refusal(processor, encoded(a_picture()))) == TOO_LARGE


@pytest.mark.parametrize("signal", ["SEGV", "ABRT", "BUS", "XCPU"])
async def test_a_crash_of_the_decoder_is_a_user_error(
    processor: UploadSandbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    signal: str,
) -> None:
    await pretend(monkeypatch, tmp_path, b"ready\n", f"kill -{signal} $$")

    refused = await refusal(processor, encoded(a_picture()))

    assert refused.code is UserErrorCode.UPLOAD_INVALID


async def pretend(
    monkeypatch: pytest.MonkeyPatch, folder: Path, answer: bytes, then: str = ""
) -> None:
    """Another program in the place of Python, which answers so."""
    said, pretender = folder / "said", folder / "python"
    said.write_bytes(answer)
    pretender.write_text(f"#!/bin/sh\ncat {said}\n{then}\n")
    pretender.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(pretender))


async def test_the_event_loop_is_not_blocked_while_pictures_are_decoded(
    processor: UploadSandbox,
) -> None:
    loop, data = asyncio.get_running_loop(), encoded(a_picture(2_000, 1_500), "JPEG", quality=98)
    working = asyncio.gather(*(process(processor, data) for _ in range(3)))
    longest, last = 0.0, loop.time()

    while not working.done():
        await asyncio.sleep(0.001)
        longest, last = max(longest, loop.time() - last), loop.time()

    await working
    assert longest < 0.4

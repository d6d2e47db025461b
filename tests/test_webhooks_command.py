"""`python -m commands.webhooks listen` shows what arrives, and verifies it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from domain.ids import DeliveryId, ViewerId, WebhookId
from domain.webhooks import HeldWebhook, Message, WebhookEvent
from outbound.webhooks import HttpWebhookSender
from tests.serving import free_port
from tests.storage.hooks import SECRET
from tests.waits import PATIENCE_SECONDS

ROOT = Path(__file__).parents[1]
OTHER_SECRET = "whsec_" + "b" * 44


@asynccontextmanager
async def listening(
    *arguments: str, stdout: int = PIPE, stderr: int = STDOUT
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "commands.webhooks", "listen", *arguments),
        cwd=ROOT,
        stdout=stdout,
        stderr=stderr,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


async def read_until(process: asyncio.subprocess.Process, wanted: str) -> str:
    assert process.stdout
    text = ""
    async with asyncio.timeout(PATIENCE_SECONDS * 3):
        while wanted not in text:
            line = await process.stdout.readline()
            assert line, text
            text += line.decode()
    return text


def a_message() -> Message:
    return Message(
        id=DeliveryId("dlv_1"),
        subject="turn_1",
        sequence=1,
        event=WebhookEvent.TURN_ENDED,
        happened_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        facts={"turnId": "turn_1"},
        attempts=0,
    )


def a_held_webhook(url: str, secret: str = SECRET) -> HeldWebhook:
    return HeldWebhook(
        id=WebhookId("hook_1"),
        owner_id=ViewerId("user_1"),
        url=url,
        secret=secret,
        failing=False,
        hold="",
    )


async def test_signed_webhooks_are_printed_and_others_refused() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/any/path"
    sender = HttpWebhookSender(allows_loopback=True, seconds=PATIENCE_SECONDS)
    async with listening("--port", str(port), "--secret", SECRET) as process:
        await read_until(process, f"Listening at http://127.0.0.1:{port}/")

        right = await sender.send(a_held_webhook(url), a_message())
        shown = await read_until(process, "}\n\n")
        wrong = await sender.send(a_held_webhook(url, OTHER_SECRET), a_message())
        refused = await read_until(process, "refused")
    await sender.aclose()

    assert (right.status, right.error) == (204, None)
    assert "dlv_1: signature valid, answered 204" in shown
    assert '"type": "turn.ended"' in shown
    assert wrong.status == 401
    assert "dlv_1, again: refused: No matching signature found" in refused
    assert process.returncode == 0


async def test_a_listener_whose_output_nobody_reads_ends() -> None:
    port = free_port()
    sender = HttpWebhookSender(allows_loopback=True, seconds=PATIENCE_SECONDS)
    reader, writer = os.pipe()
    async with listening("--port", str(port), stdout=writer, stderr=PIPE) as process:
        os.close(writer)
        with os.fdopen(reader) as output:
            assert "Listening" in await asyncio.to_thread(output.readline)

        await sender.send(a_held_webhook(f"http://127.0.0.1:{port}/"), a_message())
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
    await sender.aclose()

    assert (process.returncode, said) == (1, b"")


async def test_an_error_is_reported_in_a_message() -> None:
    async with listening("--secret", "é") as process:
        assert process.stdout
        said = (await process.stdout.read()).decode()
        await process.wait()  # a signal to a process that has just ended would lose its code

    assert process.returncode == 2
    assert said.startswith("--secret is not a secret of a webhook")
    assert "Traceback" not in said

"""Fetches the pictures of one result, all at the same time, each with its own retries."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from domain.errors import GenerationFailed
from providers.polling import Pace, PollingPolicy
from providers.safe_http import DownloadBroke, Downloader

log = structlog.get_logger(__name__)

_TRIES: Final = 20
"""Most of a minute: a picture in a store that is restarting has been paid for."""


async def fetch_pictures(
    links: Iterable[str], downloader: Downloader, *, pace: Pace, seconds_left: float, provider: str
) -> list[bytes]:
    """Fetch the bytes behind the links, in their order, and leave out those that cannot be fetched.

    Raise the first link's `GenerationFailed` where none can be.
    """
    async with asyncio.TaskGroup() as group:
        fetches = [
            group.create_task(_fetch(link, downloader, PollingPolicy(pace, seconds_left)))
            for link in links
        ]
    fetched = [fetch.result() for fetch in fetches]
    pictures = [data for data in fetched if isinstance(data, bytes)]
    for failure in fetched:
        if isinstance(failure, GenerationFailed):
            if not pictures:
                raise failure
            log.warning("picture left out", provider=provider, reason=str(failure))
    return pictures


async def _fetch(
    link: str, downloader: Downloader, policy: PollingPolicy
) -> bytes | GenerationFailed:
    while True:
        try:
            return await downloader.fetch(link)
        except DownloadBroke as broken:
            try:
                await policy.wait_out(broken, tries=_TRIES)
            except GenerationFailed as end:
                return end
        except GenerationFailed as refusal:
            return refusal

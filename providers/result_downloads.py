"""Fetches the pictures of one result: all of them together, and each as patiently as it needs."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from domain.errors import GenerationFailed
from providers.polling import Pace, PollingPolicy
from providers.safe_http import DownloadBroke, Downloader

log = structlog.get_logger(__name__)

_TRIES: Final = 20
"""Most of a minute: what a store has that is just being started again has been paid for."""


async def fetch_pictures(
    links: Iterable[str], downloader: Downloader, *, pace: Pace, seconds_left: float, provider: str
) -> list[bytes]:
    """The bytes behind the links, in their order. What cannot be had is left out if there is more.

    Raise the first link's `GenerationFailed` where nothing can be had.
    """
    async with asyncio.TaskGroup() as group:
        fetches = [
            group.create_task(_fetched(link, downloader, PollingPolicy(pace, seconds_left)))
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


async def _fetched(
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

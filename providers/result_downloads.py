"""Fetches the images of one result, all at the same time, each with its own retries."""

import asyncio
from collections.abc import Iterable
from typing import Final

import structlog

from domain.errors import GenerationFailed
from providers.polling import Pace, PollingPolicy
from providers.safe_http import DownloadBroke, Downloader

log = structlog.get_logger(__name__)

_TRIES: Final = 20
"""Most of a minute: an image in a store that is restarting has been paid for."""


async def fetch_pictures(
    pictures: Iterable[bytes | str],
    downloader: Downloader,
    *,
    pace: Pace,
    seconds_left: float,
    provider: str,
) -> list[bytes]:
    """Fetch the images that are links, and return all in their order, without those that cannot be
    fetched. Raise the first one's `GenerationFailed` where none is left.
    """
    async with asyncio.TaskGroup() as group:
        fetches = [
            group.create_task(_fetch(picture, downloader, PollingPolicy(pace, seconds_left)))
            for picture in pictures
        ]
    fetched = [fetch.result() for fetch in fetches]
    whole = [data for data in fetched if isinstance(data, bytes)]
    for failure in fetched:
        if isinstance(failure, GenerationFailed):
            if not whole:
                raise failure
            log.warning("picture left out", provider=provider, reason=str(failure))
    return whole


async def _fetch(
    picture: bytes | str, downloader: Downloader, policy: PollingPolicy
) -> bytes | GenerationFailed:
    if isinstance(picture, bytes):
        return picture
    while True:
        try:
            return await downloader.fetch(picture)
        except DownloadBroke as broken:
            try:
                await policy.wait_out(broken, tries=_TRIES)
            except GenerationFailed as end:
                return end
        except GenerationFailed as refusal:
            return refusal

"""`python -m tests.resilience.delivering`: delivers webhooks until it is killed, with short
intervals.
"""

import asyncio
import os

from storage.mongo.database import open_database
from tests.storage.hooks import delivering


async def main() -> None:
    uri, name = os.environ["DARKROOM_MONGODB_URI"], os.environ["DARKROOM_MONGODB_DATABASE"]
    async with open_database(uri, name) as database, delivering(database):
        print("delivering", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

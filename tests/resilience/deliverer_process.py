"""`python -m tests.resilience.deliverer_process`: delivers webhooks until it is killed, with short
intervals.
"""

import asyncio
import os
from dataclasses import replace
from datetime import timedelta
from typing import Final

from domain.webhooks import DeliveryRules
from storage.mongo.database import open_database
from tests.storage.hooks import QUICK, delivering

PATIENT: Final = replace(
    QUICK,
    # Nothing is given up, however slow the machine is.
    give_up_after=DeliveryRules().give_up_after,
    request_seconds=1.0,
    lease=timedelta(seconds=3),
)


async def main() -> None:
    uri, name = os.environ["DARKROOM_MONGODB_URI"], os.environ["DARKROOM_MONGODB_DATABASE"]
    async with open_database(uri, name) as database, delivering(database, PATIENT):
        print("delivering", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())

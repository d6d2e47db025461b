"""Exports and imports, as a client requests and polls them."""

import asyncio
from typing import Final

from tests.clients import PAUSE_SECONDS, Data, GraphQLClient
from tests.waits import PATIENCE_SECONDS

ARCHIVE: Final = "application/zip"
_EXPORT: Final = "id status progress url byteSize expiresAt error { code message retryable }"
_IMPORT: Final = "id status progress error { code message } conversation { id title turnCount }"
EXPORT: Final = f"""
mutation Export($id: ID!) {{
  exportConversation(input: {{conversationId: $id}}) {{
    export {{ {_EXPORT} }} userErrors {{ code message path }}
  }}
}}
"""
EXPORT_VIEWER: Final = f"""
mutation {{ exportViewer {{ export {{ {_EXPORT} }} userErrors {{ code message path }} }} }}
"""
IMPORT: Final = f"""
mutation Import($id: ID!) {{
  importConversation(input: {{uploadId: $id}}) {{
    import {{ {_IMPORT} }} userErrors {{ code message path }}
  }}
}}
"""
NODE: Final = f"""
query($id: ID!) {{
  node(id: $id) {{ ... on Export {{ {_EXPORT} }} ... on Import {{ {_IMPORT} }} }}
}}
"""


async def ended(client: GraphQLClient, job: Data, *, within: float = PATIENCE_SECONDS) -> Data:
    """The job, polled until it has ended."""
    async with asyncio.timeout(within):
        while job["status"] in ("QUEUED", "GENERATING"):
            await asyncio.sleep(PAUSE_SECONDS)  # it needs the processor, too
            job = (await client(NODE, id=job["id"]))["node"]
    return job

"""P20: the audits of graphql-http, again and again, and the schema that is introspected."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Final

from graphql import build_client_schema, build_schema, get_introspection_query

from tests.attacks.limits import Limit
from tests.attacks.site import Site
from tests.edge.conftest import PROJECT
from tests.edge.test_npm_clients import AUDITS
from tests.packages import install_packages
from tests.test_contract import ROOT, lines_of
from tests.tools import need

ROUND_SECONDS: Final = 60.0


async def attack(site: Site, limit: Limit) -> str:
    with tempfile.TemporaryDirectory() as folder:
        clients = await asyncio.to_thread(
            install_packages, PROJECT, Path(folder), limit_seconds=600
        )
        for _ in range(limit.count):
            limit.done += 1
            await _audit(site, clients)
    client = site.client("auditor")
    introspected = await client(get_introspection_query(input_value_deprecation=True))
    await client.aclose()
    seen = build_client_schema(introspected)  # type: ignore[arg-type]
    assert lines_of(seen) == lines_of(build_schema((ROOT / "schema.graphql").read_text()))
    return (
        f"{limit.done} times {AUDITS} audits, all ok; the introspected schema is the committed one"
    )


async def _audit(site: Site, clients: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(need("node"), "audit.mjs", f"{site.api.url}/graphql"),
        cwd=clients,
        stdout=asyncio.subprocess.PIPE,
    )
    printed_lines, _ = await asyncio.wait_for(process.communicate(), ROUND_SECONDS)
    audits = [json.loads(line) for line in printed_lines.splitlines()]
    assert len(audits) == AUDITS, audits
    failed = [audit for audit in audits if audit["status"] != "ok"]
    assert failed == [], failed

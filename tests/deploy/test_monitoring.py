"""Dashboard and alert rules: everything that they name exists, their queries are valid, and each
alert links to its instructions.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.metrics import MetricWrapperBase

from metrics.series import Metrics
from tests.conftest import StartDarkroom
from tests.metrics.scrapes import scrape
from tests.serving import free_port
from tests.tools import need

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
RULES: Final = DEPLOY / "prometheus/darkroom.rules.yml"
DASHBOARD: Final = DEPLOY / "grafana/darkroom.json"
AUTOSCALING: Final = [
    DEPLOY / "kubernetes/base" / name for name in ("scaling.yaml", "prometheus-adapter.yaml")
]
OPERATIONS: Final = ROOT / "docs/operations.md"

_NAME: Final = re.compile(r"\b((?:darkroom|process)_[a-z_]+)(\{[^}]*\})?")
_LABEL: Final = re.compile(r"([a-z_]+)\s*(?:=~|!~|!=|=)")
_GIVEN_BY_PROMETHEUS: Final = frozenset({"job", "instance", "le", "namespace", "pod"})


def queries() -> Iterator[str]:
    """Every query of the dashboard, with an interval in place of Grafana's variable."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "1m")


def table_rows(heading: str) -> list[str]:
    """The first cells of the table below a heading of docs/operations.md."""
    section = OPERATIONS.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if "|" in line]


def values_of(field: str) -> list[str]:
    """Of the rules, without a parser of YAML: one line each."""
    found = re.findall(rf"^ +{field}: (.+)$", RULES.read_text(), re.MULTILINE)
    return [value.strip('"') for value in found]


async def test_every_named_metric_exists_with_its_labels(
    start_darkroom: StartDarkroom,
) -> None:
    port = free_port()
    await start_darkroom(metrics_port=port)
    known = await _known_series(port)

    scaled_by = [path.read_text() for path in AUTOSCALING]
    asked = [*queries(), *_expressions(), *scaled_by]

    assert len(asked) > 40
    for query in asked:
        for name, selector in _NAME.findall(query):
            assert name in known, f"{name} in {query}"
            assert set(_LABEL.findall(selector or "")) <= known[name] | _GIVEN_BY_PROMETHEUS, query


def test_metrics_for_autoscaling_are_derived_from_existing_series() -> None:
    scaling, adapter = (path.read_text() for path in AUTOSCALING)
    asked = re.findall(r"metric: \{ name: (\w+) \}", scaling)

    assert len(asked) == 2
    assert set(asked) == set(re.findall(r"seriesQuery: (\w+)", adapter))


def test_every_alert_links_to_a_row_of_the_troubleshooting_table() -> None:
    alerts, rows = values_of("- alert"), values_of("row")

    assert len(alerts) == len(rows) > 10
    assert set(rows) <= set(table_rows("Troubleshooting"))


def declared_series() -> set[str]:
    sources = _source_of("metrics"), _source_of("app.py", "assembly")
    return {name for text in sources for name in re.findall(r'"(darkroom_[a-z_]+)"', text)}


def test_every_series_is_documented_for_operators() -> None:
    explained, declared = OPERATIONS.read_text(), declared_series()

    assert len(declared) > 30
    for name in declared:
        assert f"`{name}`" in explained, name


def test_queries_are_valid(tmp_path: Path) -> None:
    promtool = need("promtool")
    rules = [{"record": f"query:{i}", "expr": query} for i, query in enumerate(queries())]
    file = tmp_path / "queries.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))

    _run(promtool, "check", "rules", str(file))
    _run(promtool, "check", "rules", str(RULES))


@pytest.mark.parametrize("name", ["prometheus.yml", "kubernetes.yml"])
def test_the_configurations_of_prometheus_are_valid(name: str, tmp_path: Path) -> None:
    promtool = need("promtool")
    shutil.copytree(DEPLOY / "prometheus", tmp_path, dirs_exist_ok=True)
    config = tmp_path / name
    # Debian's Prometheus cannot ask Kubernetes.
    found = config.read_text().replace(
        "kubernetes_sd_configs: [{ role: pod }]", "static_configs: []"
    )
    config.write_text(found)

    _run(promtool, "check", "config", config)


def test_every_alert_fires_and_clears() -> None:
    promtool = need("promtool")
    cases = DEPLOY / "prometheus/darkroom.tests.yml"

    _run(promtool, "test", "rules", str(cases))

    tried = cases.read_text()
    for alert in values_of("- alert"):
        assert len(re.findall(rf"alertname: {alert} ", tried)) >= 1, f"{alert} never clears"
        assert re.search(rf"alertname: {alert}\n +exp_alerts:", tried), f"{alert} never fires"


def test_the_dashboard_is_valid_for_grafana() -> None:
    dashboard: dict[str, Any] = json.loads(DASHBOARD.read_text())

    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][side] for side in "xy") for panel in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"


async def _known_series(port: int) -> dict[str, set[str]]:
    """The labels of every series that a process shows, by each name under which it is stored."""
    text = (await scrape(port)).text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    declared = {
        one._name: set(one._labelnames)  # there is no public way
        for one in vars(Metrics()).values()
        if isinstance(one, MetricWrapperBase)
    }
    known: dict[str, set[str]] = {}
    for name, kind in kinds.items():
        suffixes = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        samples = re.findall(rf"^{name}(?:_\w+)?{{(.*)}}", text, re.MULTILINE)
        shown = {label for sample in samples for label in re.findall(r'(\w+)="', sample)}
        own = declared.get(name.removesuffix("_total"), set()) | shown
        known.update({name + suffix: own for suffix in suffixes})
    return known


def _expressions() -> list[str]:
    """Of the rules: what stands between `expr:` and the next field."""
    text = RULES.read_text()
    found = re.findall(r"expr: (.*?)\n +(?:for|labels|- record|annotations)|\Z", text, re.DOTALL)
    return [one for one in found if one]


def _source_of(*names: str) -> str:
    files = [
        file
        for name in names
        for file in ([ROOT / name] if name.endswith(".py") else sorted((ROOT / name).glob("*.py")))
    ]
    return "\n".join(file.read_text() for file in files)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr)

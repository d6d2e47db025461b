"""The image, the compose file and the Kubernetes manifests: everything that they name exists and
agrees.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from settings import Settings, read_settings, variables
from tests.tools import need

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
CONTAINERFILE: Final = (DEPLOY / "Containerfile").read_text()
KUBERNETES_VERSION: Final = "1.32"
KNOWN: Final = {variable.name for variable in variables(Settings)}
_ROOT_MODULES: Final = {"app", "bootstrap", "serve", "worker"}
_FOR_CADDY: Final = {"DARKROOM_SITE", "DARKROOM_APIS", "DARKROOM_CADDY_OPTIONS"}


def documents(*paths: Path) -> Iterator[Mapping[str, Any]]:
    for path in paths:
        yield from yaml.safe_load_all(path.read_text())


def manifests(overlay: str) -> list[Mapping[str, Any]]:
    folder = DEPLOY / "kubernetes" / overlay
    return list(
        documents(*(path for path in sorted(folder.glob("*.yaml")) if path.name not in _NO_OBJECTS))
    )


_NO_OBJECTS: Final = {"kustomization.yaml", "prometheus-adapter.yaml"}


def settings_of_compose() -> Mapping[str, str]:
    (compose,) = documents(DEPLOY / "compose.yaml")
    own: Mapping[str, str] = compose["services"]["api-1"]["environment"]
    return {**_variables((DEPLOY / "compose/example.env").read_text().splitlines()), **own}


def settings_of_kubernetes() -> Mapping[str, str]:
    generated = [
        literal
        for overlay in ("base", "example")
        for one in documents(DEPLOY / "kubernetes" / overlay / "kustomization.yaml")
        for literal in one["configMapGenerator"][0]["literals"]
    ]
    secrets = (DEPLOY / "kubernetes/example/secret.env.example").read_text().splitlines()
    return _variables([*generated, *secrets])


def _variables(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def test_the_image_contains_everything_that_runs_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(project["tool"]["importlinter"]["root_packages"])
    copied = set(re.findall(r"^COPY (\w+) \1$", CONTAINERFILE, re.MULTILINE))
    modules = re.search(r"^COPY (app\.py .*) \./$", CONTAINERFILE, re.MULTILINE)

    assert copied == packages
    assert modules is not None
    assert {name.removesuffix(".py") for name in modules[1].split()} == _ROOT_MODULES | {"LICENSE"}
    assert "COPY studio/build studio/build\n" in CONTAINERFILE
    assert "mongod.txt" not in CONTAINERFILE


def test_the_image_is_built_from_locked_requirements_and_runs_unprivileged() -> None:
    assert "--require-hashes" in CONTAINERFILE
    assert "--only-binary :all:" in CONTAINERFILE
    assert re.search(r"^USER 10001:10001$", CONTAINERFILE, re.MULTILINE)
    assert "HEALTHCHECK" in CONTAINERFILE
    assert 'ENTRYPOINT ["python", "-m"]\nCMD ["serve"]' in CONTAINERFILE


_FILES: Final = sorted(
    path for path in DEPLOY.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
)


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_every_named_setting_exists(path: Path) -> None:
    named = set(re.findall(r"DARKROOM_[A-Z0-9_]+[A-Z0-9]", path.read_text()))
    assert named <= KNOWN | _FOR_CADDY, path


@pytest.mark.parametrize("settings_of", [settings_of_compose, settings_of_kubernetes])
def test_a_process_accepts_the_settings_of_the_examples(
    settings_of: Callable[[], Mapping[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # which has no .env
    monkeypatch.setenv("DARKROOM_ENVIRONMENT", "production")  # as the image has it
    for name, value in settings_of().items():
        monkeypatch.setenv(name, value.replace("…", "x" * 32) or "x" * 32)

    settings = read_settings()

    assert settings.environment == "production"
    assert settings.nats_url is not None
    assert settings.trusted_proxies
    assert settings.s3_bucket == "darkroom"


def test_the_compose_file_scrapes_and_proxies_what_it_starts() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    services = compose["services"]
    targets = [
        target.removesuffix(":9100")
        for path in sorted((DEPLOY / "compose/targets").glob("*.json"))
        for group in json.loads(path.read_text())
        for target in group["targets"]
    ]

    started = [
        name for name in services if services[name].get("command") in (["serve"], ["worker"])
    ]
    assert sorted(started) == sorted(targets)
    apis = services["proxy"]["environment"]["DARKROOM_APIS"].split()
    assert apis == [f"{name}:8000" for name in started if services[name]["command"] == ["serve"]]
    for name, service in services.items():
        assert not service["image"].endswith(":latest"), name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), volume
            else:
                assert source in compose["volumes"], volume
        after = service.get("depends_on", ())
        assert set(after) <= services.keys(), name


def test_the_networks_of_the_compose_file_keep_stores_apart_and_name_the_proxy() -> None:
    (compose,) = documents(DEPLOY / "compose.yaml")
    services, networks = compose["services"], compose["networks"]
    on_network = {
        network: {name for name in services if network in services[name]["networks"]}
        for network in networks
    }

    ours = {name for name in services if services[name]["image"] == "darkroom"}
    assert networks["stores"]["internal"]
    assert on_network["stores"] - ours == {"mongo-1", "mongo-2", "mongo-3", "mongo-init", "nats"}
    assert on_network["watchers"] - ours == {"prometheus", "grafana"}
    assert services["proxy"]["networks"] == ["clients"]
    (of_clients,) = networks["clients"]["ipam"]["config"]
    for name in ours:
        trusted = services[name]["environment"]["DARKROOM_TRUSTED_PROXIES"]
        assert trusted == of_clients["subnet"], name


@pytest.mark.parametrize("overlay", ["base", "example"])
def test_every_manifest_is_valid_for_the_schema_of_its_kind(overlay: str) -> None:
    found = manifests(overlay)

    assert found
    for one in found:
        kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)


def test_pods_agree_with_the_processes_and_what_is_beside_them() -> None:
    by_name = {(one["kind"], one["metadata"]["name"]): one for one in manifests("base")}
    for name, grace in (("darkroom-api", 24 + 5), ("darkroom-worker", 200 + 10)):
        template = by_name["Deployment", name]["spec"]["template"]["spec"]
        assert template["terminationGracePeriodSeconds"] > grace
        (container,) = template["containers"]
        assert template["enableServiceLinks"] is False
        assert template["serviceAccountName"] == "darkroom"
        assert "replicas" not in by_name["Deployment", name]["spec"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert ports["metrics"] == 9100
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] == "metrics"
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert ("PodDisruptionBudget", name) in by_name
        assert by_name["HorizontalPodAutoscaler", name]["spec"]["scaleTargetRef"]["name"] == name


def test_the_overlay_renders(tmp_path: Path) -> None:
    kubectl = need("kubectl")
    kubernetes = DEPLOY / "kubernetes"
    for path in kubernetes.rglob("*.*"):
        copy = tmp_path / path.relative_to(kubernetes)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    example = (kubernetes / "example/secret.env.example").read_text()
    (tmp_path / "example/secret.env").write_text(example)

    done = subprocess.run(
        [kubectl, "kustomize", tmp_path / "example"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    for one in rendered:
        kubernetes_validate.validate(one, KUBERNETES_VERSION, strict=True)
    (settings,) = [one["data"] for one in rendered if one["kind"] == "ConfigMap"]
    assert settings["DARKROOM_METRICS_PORT"] == "9100"
    assert settings["DARKROOM_PUBLIC_URL"].startswith("https://")


@pytest.mark.parametrize("sites", [(), ("s3.caddy",)], ids=["alone", "compose"])
def test_caddy_accepts_its_file(sites: tuple[str, ...], tmp_path: Path) -> None:
    caddy = need("caddy")
    config = tmp_path / "Caddyfile"
    shutil.copy(DEPLOY / "caddy/Caddyfile", config)
    (tmp_path / "sites").mkdir()
    for site in sites:
        shutil.copy(DEPLOY / "compose" / site, tmp_path / "sites")

    done = subprocess.run(
        [caddy, "validate", "--config", config, "--adapter", "caddyfile"],
        env={
            "DARKROOM_SITE": "https://localhost",
            "DARKROOM_APIS": "127.0.0.1:1 127.0.0.1:2",
            "DARKROOM_S3_PUBLIC_ENDPOINT": "https://s3.localhost",
            "XDG_DATA_HOME": os.fspath(tmp_path),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr

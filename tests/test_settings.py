"""Settings: what is read, what is refused, and the files that are made from them."""

import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_bytes

import pytest

from assembly.objects import bucket_of
from settings import (
    Settings,
    SettingsError,
    load_or_create_secret,
    origin_pattern,
    other_secrets_of,
    read_settings,
    secret_of,
    secrets_in,
    settings_of_worker,
    variables,
)
from settings.variables import env_example, markdown_table

ROOT = Path(__file__).parent.parent
PRODUCTION = {
    "DARKROOM_ENVIRONMENT": "production",
    "DARKROOM_MONGODB_URI": "mongodb://user:canary@db.example.com/?replicaSet=rs0",
    "DARKROOM_SECRET": "canary-" * 6,
    "DARKROOM_JWKS_URL": "https://id.example.com/keys",
    "DARKROOM_TOKEN_ISSUER": "https://id.example.com/",
    "DARKROOM_TOKEN_AUDIENCE": "darkroom",
}


@pytest.fixture(autouse=True)
def _a_folder_without_an_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> Settings:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return read_settings()


def problems(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(monkeypatch, environ)
    return caught.value.problems


def test_development_needs_no_setting(tmp_path: Path) -> None:
    settings = read_settings()

    assert settings.environment == "development"
    assert settings.public_url == "http://127.0.0.1:8000"
    assert settings.data_dir == tmp_path / ".data"
    assert settings.mongodb_uri is None


def test_production_reads_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {**PRODUCTION, "DARKROOM_HOST": "0.0.0.0", "DARKROOM_GRACE": "7"})

    assert settings.shutdown_grace == 7
    assert settings.allowed_origins == ()
    assert secret_of(settings) == PRODUCTION["DARKROOM_SECRET"].encode()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    nats = {"DARKROOM_NATS_URL": "tls://user:canary@nats.example.com"}
    settings = read(monkeypatch, {**PRODUCTION, **nats})

    assert "canary" not in f"{settings!r} {settings}"


def test_local_models_are_off_in_production_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, {}).local_models is True
    assert read(monkeypatch, {"DARKROOM_LOCAL_MODELS": "off"}).local_models is False
    monkeypatch.delenv("DARKROOM_LOCAL_MODELS")
    assert read(monkeypatch, PRODUCTION).local_models is False
    assert read(monkeypatch, {**PRODUCTION, "DARKROOM_LOCAL_MODELS": "on"}).local_models is True


def test_default_models_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"DARKROOM_DEFAULT_MODELS": "img-reve, local-ink,"}

    assert read(monkeypatch, names).default_models == ("img-reve", "local-ink")


def test_a_worker_has_a_longer_grace_period_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of_worker(read(monkeypatch, {})).shutdown_grace == 200
    assert settings_of_worker(read(monkeypatch, {"DARKROOM_GRACE": "20"})).shutdown_grace == 20


def test_unset_settings_of_a_provider_have_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"DARKROOM_FAL_KEY": "canary", "DARKROOM_OPENAI_PLACES": "3"}
    settings = read(monkeypatch, environ)

    assert settings.fal.key is not None
    assert (settings.fal.url, settings.fal.max_concurrent_runs) == ("https://queue.fal.run", 20)
    assert (settings.openai.key, settings.openai.max_concurrent_runs) == (None, 3)
    assert "canary" not in f"{settings!r}"
    assert list(secrets_in(settings)) == ["canary"]


def test_azure_has_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = {
        "DARKROOM_AZURE_KEY": "key",
        "DARKROOM_AZURE_URL": "https://name.openai.azure.com/",
        "DARKROOM_AZURE_API_VERSION": "2025-04-01",
        "DARKROOM_AZURE_DEPLOYMENTS": "gpt-image-2=ours, b=c",
    }
    settings = read(monkeypatch, azure).azure

    assert settings.url == "https://name.openai.azure.com"
    assert settings.api_version == "2025-04-01"
    assert settings.deployments == {"gpt-image-2": "ours", "b": "c"}

    assert problems(monkeypatch, {"DARKROOM_AZURE_URL": ""}) == [
        "DARKROOM_AZURE_KEY and DARKROOM_AZURE_URL must be set together."
    ]


@pytest.mark.parametrize(
    "url",
    [
        "nats://localhost",
        "nats://127.0.0.1:4222",
        "tls://user:word@nats.example.com:4222",
        "nats://token@[::1]:4222/",
        "tls://one.example.com,tls://two.example.com:4333",
    ],
)
def test_nats_servers_are_given_as_urls(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    settings = read(monkeypatch, {"DARKROOM_NATS_URL": url})

    assert settings.nats_url is not None
    assert settings.nats_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "localhost:4222",
        "http://canary.example.com",
        "nats://",
        "nats://canary:99999999",
        "tls://[canary",
        "nats://one.example.com,two.example.com",
        "nats://one.example.com,",
        "nats://one.example.com/canary",
    ],
)
def test_a_url_that_is_no_nats_server_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    assert problems(monkeypatch, {"DARKROOM_NATS_URL": url}) == [
        "DARKROOM_NATS_URL should begin with nats:// or tls:// and name a server."
    ]


@pytest.mark.parametrize(
    "missing", ["DARKROOM_MONGODB_URI", "DARKROOM_SECRET", "DARKROOM_TOKEN_ISSUER"]
)
def test_production_names_missing_settings(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    environ = {name: value for name, value in PRODUCTION.items() if name != missing}

    assert problems(monkeypatch, environ) == [f"{missing} is needed in production."]


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("DARKROOM_PORT", "eighty", "DARKROOM_PORT should be a valid integer."),
        ("DARKROOM_PORT", "0", "DARKROOM_PORT should be greater than or equal to 1."),
        (
            "DARKROOM_ENVIRONMENT",
            "test",
            "DARKROOM_ENVIRONMENT should be 'development' or 'production'.",
        ),
        (
            "DARKROOM_MONGODB_URI",
            "http://user:canary@db",
            "DARKROOM_MONGODB_URI should begin with mongodb:// or mongodb+srv://.",
        ),
        ("DARKROOM_SECRET", "canary", "DARKROOM_SECRET should have at least 32 characters."),
        (
            "DARKROOM_MONGODB_DATABASE",
            "a.b",
            "DARKROOM_MONGODB_DATABASE should be 1 to 38 letters, digits, _ or -.",
        ),
        ("DARKROOM_PUBLIC_URL", "here", "DARKROOM_PUBLIC_URL should be an http or https URL."),
        (
            "DARKROOM_ALLOWED_ORIGINS",
            "https://a.example.com/app",
            "DARKROOM_ALLOWED_ORIGINS should list origins such as https://app.example.com, without "
            "a path; 'https://a.example.com/app' is not one.",
        ),
        ("DARKROOM_GRACE", "-1", "DARKROOM_GRACE should be greater than or equal to 0."),
        (
            "DARKROOM_FAL_URL",
            "http://queue.example.com",
            "DARKROOM_FAL_URL should begin with https://.",
        ),
        (
            "DARKROOM_FAL_KEY",
            "id:canary secret",
            "DARKROOM_FAL_KEY should be visible ASCII characters, without spaces.",
        ),
        (
            "DARKROOM_FAL_PLACES",
            "0",
            "DARKROOM_FAL_PLACES should be greater than or equal to 1.",
        ),
        (
            "DARKROOM_PROT",
            "8000",
            "DARKROOM_PROT is not a setting of Darkroom. Did you mean DARKROOM_PORT?",
        ),
        (
            "DARKROOM_COLOUR",
            "red",
            "DARKROOM_COLOUR is not a setting of Darkroom. See .env.example.",
        ),
        (
            "DARKROOM_TOKEN_ISSUER",
            "me",
            "DARKROOM_TOKEN_ISSUER has no effect in development: leave it out, or set "
            "DARKROOM_ENVIRONMENT=production.",
        ),
        (
            "DARKROOM_HOST",
            "0.0.0.0",
            "DARKROOM_HOST=0.0.0.0 can be reached from other machines, and in development anyone "
            "could issue tokens: use 127.0.0.1, or set DARKROOM_ENVIRONMENT=production.",
        ),
    ],
)
def test_an_invalid_setting_is_reported_in_a_message(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    assert problems(monkeypatch, {name: value}) == [sentence]


def test_all_invalid_settings_are_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = problems(
        monkeypatch, {"DARKROOM_PORT": "x", "DARKROOM_SECRET": "y", "DARKROOM_X": "z"}
    )

    assert len(reported) == 3


def test_an_issuer_is_the_only_setting_for_tokens_that_production_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environ = {
        name: value
        for name, value in PRODUCTION.items()
        if name not in {"DARKROOM_JWKS_URL", "DARKROOM_TOKEN_AUDIENCE"}
    }

    settings = read(monkeypatch, environ)

    assert settings.jwks_url is None
    assert settings.token_audience == ()
    assert settings.token_max_seconds == 86_400


def test_settings_for_tokens_are_lists_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        {
            **PRODUCTION,
            "DARKROOM_TOKEN_AUDIENCE": "api://darkroom, 11111111-2222-3333-4444-555555555555",
            "DARKROOM_TOKEN_AUTHORIZED_PARTIES": "https://app.example.com,none",
            "DARKROOM_TOKEN_ALGORITHMS": "PS256,ES384",
            "DARKROOM_TOKEN_MAX_SECONDS": "5400",
        },
    )

    assert settings.token_audience == ("api://darkroom", "11111111-2222-3333-4444-555555555555")
    assert settings.token_authorized_parties == ("https://app.example.com", "none")
    assert settings.token_algorithms == ("PS256", "ES384")
    assert settings.token_max_seconds == 5_400


@pytest.mark.parametrize("algorithm", ["none", "HS256", "es256", "ES256K"])
def test_an_algorithm_outside_the_list_is_refused(
    monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    environ = {**PRODUCTION, "DARKROOM_TOKEN_ALGORITHMS": f"RS256,{algorithm}"}

    (problem,) = problems(monkeypatch, environ)

    assert problem.startswith("DARKROOM_TOKEN_ALGORITHMS should be 'RS256', ")


@pytest.mark.parametrize(
    "issuer", ["darkroom", "urn:example:id", "http://id.example.com", "https://id.example.com/?a=b"]
)
def test_an_issuer_without_metadata_needs_the_url_of_its_keys(
    monkeypatch: pytest.MonkeyPatch, issuer: str
) -> None:
    environ = {**PRODUCTION, "DARKROOM_TOKEN_ISSUER": issuer}
    read(monkeypatch, environ)
    monkeypatch.delenv("DARKROOM_JWKS_URL")
    del environ["DARKROOM_JWKS_URL"]

    assert problems(monkeypatch, environ) == [
        "DARKROOM_JWKS_URL is needed, since DARKROOM_TOKEN_ISSUER is not an https URL that names "
        "it."
    ]


def test_keys_are_not_fetched_over_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {**PRODUCTION, "DARKROOM_JWKS_URL": "http://id.example.com/keys"}

    assert problems(monkeypatch, environ) == ["DARKROOM_JWKS_URL should begin with https://."]


def test_variables_of_the_tests_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    read(monkeypatch, {"DARKROOM_TEST_MONGODB_URI": "whatever"})


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, {"DARKROOM_PORT": "", "DARKROOM_MONGODB_URI": ""})

    assert settings.port == 8000


def test_an_env_file_is_read_and_the_environment_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("DARKROOM_PORT=1111\nDARKROOM_LOG_LEVEL=debug\nOTHER=1\n")

    settings = read(monkeypatch, {"DARKROOM_PORT": "2222"})

    assert (settings.port, settings.log_level) == (2222, "debug")


def test_an_unknown_variable_of_an_env_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("DARKROOM_PROT=1111\n")

    assert "DARKROOM_PORT?" in problems(monkeypatch, {})[0]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:5173", True),
        ("http://127.0.0.1:80", True),
        ("http://localhost", True),
        ("https://app.example.com", True),
        ("https://app.example.com:8443", False),
        ("http://localhost.example.com:1", False),
        ("https://appxexample.com", False),
        ("http://localhost:5173/", False),
        ("null", False),
    ],
)
def test_an_origin_is_allowed_only_as_a_whole(
    monkeypatch: pytest.MonkeyPatch, origin: str, allowed: bool
) -> None:
    listed = "http://localhost, http://localhost:*, http://127.0.0.1:*,https://app.example.com"
    settings = read(monkeypatch, {"DARKROOM_ALLOWED_ORIGINS": listed})

    pattern = re.compile(origin_pattern(settings.allowed_origins))

    assert bool(pattern.fullmatch(origin)) == allowed


def test_no_origin_is_allowed_if_none_is_listed() -> None:
    assert not re.fullmatch(origin_pattern(()), "")


def test_development_creates_a_stable_secret(tmp_path: Path) -> None:
    first = secret_of(Settings(data_dir=tmp_path / "data"))
    second = secret_of(Settings(data_dir=tmp_path / "data"))

    assert first == second
    assert len(first) >= 32
    assert stat.S_IMODE((tmp_path / "data" / "secret").stat().st_mode) == 0o600


def test_concurrent_processes_create_the_same_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"

    with ThreadPoolExecutor(16) as pool:
        made = list(
            pool.map(lambda _: load_or_create_secret(path, lambda: token_bytes(32)), range(64))
        )

    assert len(set(made)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_the_committed_example_is_up_to_date() -> None:
    assert (ROOT / ".env.example").read_text() == env_example(Settings)


def test_the_table_has_a_row_for_each_setting() -> None:
    assert len(markdown_table(Settings).splitlines()) == 2 + len(list(variables(Settings)))


def test_the_documented_table_equals_the_printed_one() -> None:
    _, documented, _ = (ROOT / "docs" / "operations.md").read_text().split("<!-- settings -->")

    assert documented.strip() == markdown_table(Settings).strip()


def test_the_example_can_be_used_unchanged(tmp_path: Path) -> None:
    without = read_settings()

    (tmp_path / ".env").write_text(env_example(Settings).replace("# DARKROOM_", "DARKROOM_"))

    assert read_settings() == without


def test_settings_can_be_printed_as_an_example() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "settings"],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )

    assert printed.stdout == env_example(Settings)


BUCKET = {
    "DARKROOM_S3_BUCKET": "pictures",
    "DARKROOM_S3_KEY_ID": "AKIDEXAMPLE",
    "DARKROOM_S3_SECRET": "canary+/=",
}


def test_without_a_bucket_images_are_stored_in_the_folder() -> None:
    assert bucket_of(read_settings()) is None


def test_a_bucket_is_at_aws_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = bucket_of(read(monkeypatch, {**BUCKET, "DARKROOM_S3_REGION": "eu-west-3"}))

    assert bucket is not None
    assert bucket.endpoint == "https://s3.eu-west-3.amazonaws.com"
    assert bucket.public_url == "https://pictures.s3.eu-west-3.amazonaws.com"


def test_a_bucket_at_another_endpoint_is_addressed_by_path(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = {**BUCKET, "DARKROOM_S3_ENDPOINT": "http://Minio:80/"}
    bucket = bucket_of(read(monkeypatch, elsewhere))
    assert bucket is not None
    assert bucket.public_url == "http://minio/pictures"

    outside = {
        "DARKROOM_S3_PUBLIC_ENDPOINT": "https://s3.example.com:8443",
        "DARKROOM_S3_ADDRESSING": "virtual",
    }
    bucket = bucket_of(read(monkeypatch, outside))
    assert bucket is not None
    assert bucket.endpoint == "http://minio"
    assert bucket.public_url == "https://pictures.s3.example.com:8443"


@pytest.mark.parametrize("missing", BUCKET)
def test_a_key_needs_its_secret_and_a_bucket(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    some = {name: value for name, value in BUCKET.items() if name != missing}

    together = "DARKROOM_S3_KEY_ID and DARKROOM_S3_SECRET must be set together."
    no_bucket = "DARKROOM_S3_KEY_ID needs DARKROOM_S3_BUCKET."
    expected = no_bucket if missing == "DARKROOM_S3_BUCKET" else together
    assert problems(monkeypatch, some) == [expected]


def test_a_bucket_without_a_key_uses_the_credentials_of_the_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = bucket_of(read(monkeypatch, {"DARKROOM_S3_BUCKET": "pictures"}))

    assert bucket is not None
    assert (bucket.key_id, bucket.secret) == ("", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DARKROOM_S3_BUCKET", "Pictures"),
        ("DARKROOM_S3_BUCKET", "a/b"),
        ("DARKROOM_S3_REGION", "eu west"),
        ("DARKROOM_S3_ENDPOINT", "https://s3.example.com/pictures"),
        ("DARKROOM_S3_ENDPOINT", "https://canary@s3.example.com"),
        ("DARKROOM_S3_PUBLIC_ENDPOINT", "s3.example.com"),
        ("DARKROOM_S3_KEY_ID", "AKID/EXAMPLE"),
        ("DARKROOM_S3_SECRET", "canary canary"),
        ("DARKROOM_S3_ADDRESSING", "dns"),
    ],
)
def test_an_invalid_bucket_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    [problem] = problems(monkeypatch, {**BUCKET, name: value})

    assert problem.startswith(f"{name} should be ")
    assert "canary" not in problem


SECRETS = {
    "DARKROOM_MONGODB_URI": "mongodb://user:canary@db.example.com/?replicaSet=rs0",
    "DARKROOM_SECRET": "canary-" * 6,
    "DARKROOM_OTHER_SECRET": "canary2-" * 6,
    "DARKROOM_NATS_URL": "tls://user:canary@nats.example.com",
    "DARKROOM_S3_SECRET": "canary",
    "DARKROOM_FAL_KEY": "canary",
    "DARKROOM_OPENAI_KEY": "canary",
    "DARKROOM_AZURE_KEY": "canary",
    "DARKROOM_GEMINI_KEY": "canary",
    "DARKROOM_OPENROUTER_KEY": "canary",
    "DARKROOM_REPLICATE_KEY": "canary",
    "DARKROOM_WAVESPEED_KEY": "canary",
}


def test_every_secret_can_be_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert {one.name for one in variables(Settings) if one.is_secret} == SECRETS.keys()
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(f"{value}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in SECRETS}
    azure = {"DARKROOM_AZURE_URL": "https://name.openai.azure.com/"}
    bucket = {"DARKROOM_S3_BUCKET": "images", "DARKROOM_S3_KEY_ID": "id"}

    settings = read(monkeypatch, {**files, **azure, **bucket})

    assert sorted(secrets_in(settings)) == sorted(SECRETS.values())
    assert "canary" not in f"{settings!r}"


def test_the_file_of_a_secret_can_be_named_in_the_env_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("canary")
    (tmp_path / ".env").write_text("DARKROOM_FAL_KEY_FILE=key\n")

    fal = read_settings().fal

    assert fal.key is not None
    assert fal.key.get_secret_value() == "canary"
    assert fal.url == "https://queue.fal.run"


def test_an_unusable_file_of_a_secret_is_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "short").write_text("canary")
    environ = {
        "DARKROOM_FAL_KEY_FILE": "missing",
        "DARKROOM_OPENAI_KEY_FILE": "empty",
        "DARKROOM_GEMINI_KEY_FILE": "bytes",
        "DARKROOM_SECRET_FILE": "short",
        "DARKROOM_S3_SECRET": "canary",
        "DARKROOM_S3_SECRET_FILE": "short",
        "DARKROOM_PORT_FILE": "short",
    }

    found = problems(monkeypatch, environ)

    assert [one for one in found if "canary" in one] == []
    assert {
        "DARKROOM_FAL_KEY_FILE=missing cannot be read: No such file or directory.",
        "DARKROOM_OPENAI_KEY_FILE=empty is empty.",
        "DARKROOM_GEMINI_KEY_FILE=bytes cannot be read: it is not text.",
        "DARKROOM_SECRET should have at least 32 characters.",
        "Set DARKROOM_S3_SECRET or DARKROOM_S3_SECRET_FILE, not both.",
    } < set(found)
    assert any(one.startswith("DARKROOM_PORT_FILE is not a setting") for one in found)


def test_two_secrets_are_accepted_during_a_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"DARKROOM_OTHER_SECRET": "other-" * 6}
    settings = read(monkeypatch, {**PRODUCTION, **other})

    assert other_secrets_of(settings) == (b"other-" * 6,)
    assert other_secrets_of(read(monkeypatch, {"DARKROOM_OTHER_SECRET": ""})) == ()


def test_the_number_of_partitions_must_be_a_supported_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DARKROOM_FEED_PARTITIONS", "1024")
    assert read_settings().feed_partitions == 1024

    monkeypatch.setenv("DARKROOM_FEED_PARTITIONS", "64")
    with pytest.raises(SettingsError, match="should be 1, 32, 1024 or 32768"):
        read_settings()

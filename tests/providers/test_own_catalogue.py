"""An operator's own catalogue: what it can change, and how its errors are reported."""

import re
from pathlib import Path

import pytest

from assembly.catalogue import load_caption_registry, load_registry
from domain.models import Resolution, Scene
from settings import Settings, SettingsError
from tests.conftest import StartDarkroom
from tests.operations import start

OWN = """
order = ["img-reve", "local-ink"]
hidden = ["local-silver"]

[models.img-nano-banana]
label = "Banana"
credits_from_words = 7
prices = []

[models.local-ink]
prices = [{ credits = 11, resolution = "FOUR_K" }, { credits = 5 }]
"""


def settings_with(folder: Path, text: str, **more: object) -> Settings:
    path = folder / "own.toml"
    path.write_text(text, encoding="utf-8")
    return Settings.model_validate({"catalogue": path, **more})


def test_the_operator_sets_prices_labels_order_and_hidden_models(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, OWN)
    ours = load_registry(Settings(), with_credentials=["fal", "gemini"])
    own = load_registry(settings, with_credentials=["fal", "gemini"])

    banana, silver = own.get("img-nano-banana"), own.get("local-silver")
    assert banana is not None
    assert silver is not None
    assert banana.label == "Banana"
    assert banana.credits_per_image(Scene.TEXT_TO_IMAGE) == 7
    for route in own.routes("img-nano-banana"):
        assert route.credits_per_image(Scene.TEXT_TO_IMAGE) == 7
    assert not silver.listed
    assert silver.available
    assert [model.id for model in own.all()][:2] == ["img-reve", "local-ink"]
    rest = [model.id for model in ours.all() if model.id not in {"img-reve", "local-ink"}]
    assert [model.id for model in own.all()][2:] == rest
    local = load_registry(settings).default(Scene.TEXT_TO_IMAGE)
    assert local is not None
    assert local.id == "local-ink"
    ink = own.get("local-ink")
    assert ink is not None
    size = Resolution.FOUR_K
    assert ink.credits_per_image(Scene.TEXT_TO_IMAGE, resolution=size) == 11
    assert load_caption_registry(settings).all() == load_caption_registry(Settings()).all()


async def test_the_operators_price_is_shown_planned_and_charged(
    start_darkroom: StartDarkroom, tmp_path: Path
) -> None:
    path = tmp_path / "own.toml"
    path.write_text(OWN, encoding="utf-8")
    client = (await start_darkroom(catalogue=path)).client()

    payload = await start(client, selectedModels=None)

    assert [one["model"]["id"] for one in payload["turn"]["outputs"]] == ["local-ink"]
    spent = await client("{ viewer { credits { balance reserved } } }")
    credits_ = spent["viewer"]["credits"]
    assert credits_["reserved"] == 5 or credits_["balance"] == 10_000 - 5


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('order = ["img-canary"]', "order: there is no model img-canary."),
        ('hidden = ["img-canary"]', "hidden: there is no model img-canary."),
        ("[models.img-canary]", "models: there is no model img-canary."),
        ("[models.local-ink]\nscenes = []", "models.local-ink.scenes: only these can differ: "),
        ("[models]\nlocal-ink = 3", "models.local-ink: it must be a table."),
        ('[models.local-ink]\nlabel = "Silver"', "is called Silver too."),
        ("[models.local-ink]\nprices = [{ credits = -1 }]", "prices.0.credits: it must be at"),
        ("[models.local-ink]\ncredits_from_words = true", "credits_from_words: "),
        ("colour = 1", "colour: there is no such field."),
        ('order = ["local-ink", "local-ink"]', "order: a value stands there twice."),
        ("order = [", "is not TOML: "),
    ],
)
def test_an_error_is_reported_with_the_name_of_the_setting(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(SettingsError) as refused:
        load_registry(settings_with(tmp_path, text))

    (problem,) = refused.value.problems
    assert problem.startswith("DARKROOM_CATALOGUE: ")
    assert sentence in problem


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    settings = Settings(catalogue=tmp_path / "none.toml")

    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        load_registry(settings)


def test_the_example_of_the_operations_guide_is_valid(tmp_path: Path) -> None:
    guide = Path("docs/operations.md").read_text()
    (example,) = re.findall(r"```toml\n(.*?)```", guide, re.DOTALL)

    model = load_registry(settings_with(tmp_path, example)).get("img-nano-banana-pro")

    assert model is not None
    assert model.label == "Banana Pro"

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.captions import CaptionModelRegistry
from domain.models import (
    ASPECT_RATIOS,
    ModelRegistry,
    Quality,
    Resolution,
    Scene,
)
from domain.registry import ModelUnavailableReason
from providers.catalogue import (
    CatalogueError,
    UnknownDefaultModel,
    load_caption_models,
    load_catalogue,
)
from tests.withdrawals import withdrawn

ROW = """
[[models]]
id = "one"
label = "One"
description = "The only one."
company = "Somebody"
provider = "somewhere"
scenes = ["TEXT_TO_IMAGE", "IMAGE_TO_IMAGE"]
max_references = 1
"""
FAL = ROW.replace('"somewhere"', '"fal"')
OTHER = ROW.replace('"one"', '"two"').replace('"One"', '"Two"')
LOCAL = OTHER.replace('"two"', '"local-one"').replace('"somewhere"', '"local"')


def catalogue(folder: Path, text: str) -> Path:
    path = folder / "catalogue.toml"
    path.write_text(text, encoding="utf-8")
    return path


def defaults_of(registry: ModelRegistry) -> list[str | None]:
    """From text, and with references."""
    defaults = [registry.default(scene) for scene in Scene]
    assert [
        [model.id for model in registry.all() if registry.is_default(model, scene)]
        for scene in Scene
    ] == [[model.id] if model else [] for model in defaults]
    return [model.id if model else None for model in defaults]


@pytest.mark.parametrize(
    ("keys", "text", "edits"),
    [
        ((), "local-silver", "local-silver"),
        (("gemini",), "img-nano-banana-2-1", "img-nano-banana-2-1"),
        (("fal",), "img-nano-banana", "img-nano-banana-edit"),
        (("openai",), "img-gpt-image-2-5-sunburst", "img-gpt-image-2-5-sunburst"),
        (("azure",), "img-gpt-image-2", "img-gpt-image-2"),
        (("openrouter", "fal"), "img-nano-banana-2-1", "img-nano-banana-2-1"),
        (("replicate",), "img-nano-banana", "img-nano-banana-edit"),
        (("wavespeed",), "local-silver", "local-silver"),  # its only model is retired
    ],
)
def test_the_default_is_the_first_remote_model_with_a_key(
    keys: tuple[str, ...], text: str, edits: str
) -> None:
    registry = load_catalogue(rehearsals=True, with_credentials=keys)

    assert defaults_of(registry) == [text, edits]


@pytest.mark.parametrize(
    ("names", "text", "edits"),
    [
        (["img-kling-o1"], "img-nano-banana", "img-kling-o1"),
        (["img-reve", "img-kling-o1"], "img-reve", "img-reve-edit"),
        (["img-gpt-image-2", "img-flux-2-max"], "img-flux-2-max", "img-flux-2-max-edit"),
        (["img-hunyuan-v3"], "img-hunyuan-v3", "img-nano-banana-edit"),
        (["nano-banana"], "img-nano-banana", "img-nano-banana-edit"),
        (["local-ink"], "local-ink", "local-ink"),
    ],
)
def test_configured_defaults_come_first_if_they_are_available(
    names: list[str], text: str, edits: str
) -> None:
    registry = load_catalogue(rehearsals=False, with_credentials={"fal"}, default_models=names)

    assert defaults_of(registry) == [text, edits]


def test_a_withdrawn_default_is_replaced_by_the_next_one() -> None:
    registry = load_catalogue(rehearsals=False, with_credentials={"fal"})

    registry.withdraw(withdrawn("img-nano-banana", "img-nano-banana-edit", providers=("fal",)))

    assert defaults_of(registry) == ["img-nano-banana-pro", "img-nano-banana-pro-edit"]


def test_an_unknown_default_is_an_error() -> None:
    with pytest.raises(UnknownDefaultModel, match="There is no model img-nothing"):
        load_catalogue(rehearsals=False, default_models=["local-ink", "img-nothing"])


def test_local_models_can_be_switched_off() -> None:
    registry = load_catalogue(rehearsals=False, local_models=False)

    silver = registry.get("local-silver")
    assert silver is not None
    assert (silver.listed, silver.label) == (False, "Silver")
    assert silver.unavailable_reason is ModelUnavailableReason.SWITCHED_OFF
    assert registry.find(provider="local") == ()
    assert defaults_of(registry) == [None, None]


@pytest.mark.parametrize("name", ["local-silver", "local-ink"])
def test_local_models_support_every_option(name: str) -> None:
    model = load_catalogue(rehearsals=False).get(name)

    assert model is not None
    assert model.scenes == set(Scene)
    assert model.aspect_ratios == ASPECT_RATIOS
    assert model.resolutions == tuple(Resolution)
    assert (model.max_references, model.max_images) == (10, 4)
    assert model.supports_seed
    assert model.supports_previews
    assert model.custom_size is not None
    assert model.custom_size.allows(1024)
    assert model.deadline == timedelta(seconds=180)


def test_rehearsal_models_are_omitted_by_default() -> None:
    without = {model.id for model in load_catalogue(rehearsals=False).all()}
    added = {model.id for model in load_catalogue(rehearsals=True).all()} - without

    assert added == {
        "rehearsal-slow",
        "rehearsal-fails",
        "rehearsal-fails-once",
        "rehearsal-refuses",
        "rehearsal-hangs",
        "rehearsal-lands-last",
    }


def test_the_rehearsal_model_that_hangs_has_a_short_deadline() -> None:
    model = load_catalogue(rehearsals=True).get("rehearsal-hangs")

    assert model is not None
    assert model.deadline == timedelta(seconds=20)


def test_a_model_inherits_shared_fields_and_can_override_them(tmp_path: Path) -> None:
    text = '[shared.house]\ncompany = "Shared"\nmax_images = 3\n' + ROW.replace(
        'company = "Somebody"', 'like = "house"\nmax_images = 2'
    )

    path = catalogue(tmp_path, text)
    model = load_catalogue(rehearsals=False, with_credentials={"somewhere"}, path=path).get("one")

    assert model is not None
    assert (model.company, model.max_images) == ("Shared", 2)


@pytest.mark.parametrize(
    ("text", "row", "field"),
    [
        (ROW + "colour = 1", "one", "colour"),
        (ROW.replace('label = "One"', ""), "one", "label"),
        (ROW + 'aspect_ratios = ["wide"]', "one", "aspect_ratios.0"),
        (ROW + "aspect_ratios = []", "one", "aspect_ratios"),
        (ROW + "aspect_ratios = 1", "one", "aspect_ratios"),
        (ROW + 'qualities = ["BEST"]', "one", "qualities.0"),
        (ROW + "supports_seed = 1", "one", "supports_seed"),
        (ROW + "max_images = true", "one", "max_images"),
        (ROW + "deadline_seconds = 0", "one", "deadline_seconds"),
        (ROW + 'deadline_seconds = "1"', "one", "deadline_seconds"),
        (ROW + "custom_size = { minimum = 256, maximum = 512 }", "one", "custom_size.step"),
        (ROW + "wire = {}", "one", "wire"),
        (FAL, "one", "wire.size"),
        (FAL + 'wire = { size = "WIDE" }', "one", "wire.size"),
        (FAL + 'wire = { size = "RATIO", colour = 1 }', "one", "wire.colour"),
        (FAL + 'wire = { size = "RATIO", for_several = {} }', "one", "wire.for_several.size"),
        (ROW + "max_images = 0", "one", "max_images"),
        (ROW + "min_references = 2", "one", "min_references"),
        (ROW.replace("max_references = 1", ""), "one", "max_references"),
        (ROW + "custom_size = { minimum = 256, maximum = 300, step = 16 }", "one", "custom_size"),
        (ROW + "retires_at = 2030-01-01T00:00:00", "one", "retires_at"),
        (ROW + "prices = [{ credits = -1 }]", "one", "prices.0.credits"),
        (ROW + 'prices = [{ quality = "LOW" }]', "one", "prices.0.credits"),
        (ROW + 'prices = [{ credits = 1, quality = "LOW" }]', "one", "prices.0.quality"),
        (ROW + 'prices = [{ credits = 1, resolution = "TWO_K" }]', "one", "prices.0.resolution"),
        (ROW + 'prices = [{ credits = 1, scene = "IMAGE" }]', "one", "prices.0.scene"),
        (
            ROW + 'prices = [{ credits = 1 }, { credits = 2, resolution = "ONE_K" }]',
            "one",
            "prices.1",
        ),
        (ROW + 'formats = ["PNG", "PNG"]', "one", "formats"),
        (ROW + 'mention_spelling = "Image"', "one", "mention_spelling"),
        (ROW + 'mention_spelling = "{image}"', "one", "mention_spelling"),
        (ROW + "[[models.routes]]\nprovider = 1", "one", "provider"),
        (ROW + 'like = "nobody"', "one", "like"),
        (ROW + ROW, "one", "id"),
        (ROW + OTHER + 'aliases = ["one"]', "one", "id"),
        (ROW + 'aliases = ["x", "x"]', "one", "aliases"),
        (ROW + 'replacement_id = "three"', "one", "replacement_id"),
        (ROW + 'edit_model_id = "one"', "one", "edit_model_id"),
    ],
)
def test_an_invalid_model_is_reported_with_its_field(
    tmp_path: Path, text: str, row: str, field: str
) -> None:
    path = catalogue(tmp_path, text)

    with pytest.raises(CatalogueError) as refused:
        load_catalogue(rehearsals=False, with_credentials={"somewhere"}, path=path)

    assert str(refused.value).startswith(f"Row {row}: {field}: ")
    assert str(refused.value).count("\n") == 0


@pytest.mark.parametrize(
    ("keys", "provider", "max_images", "available"),
    [
        ({"second", "somewhere"}, "somewhere", 4, True),
        ({"second"}, "second", 2, True),
        (set(), "somewhere", 4, False),
    ],
)
def test_a_model_is_run_by_the_first_of_its_routes_that_has_a_key(
    tmp_path: Path, keys: set[str], provider: str, max_images: int, available: bool
) -> None:
    routes = """
max_images = 4
[[models.routes]]
provider = "somewhere"
[[models.routes]]
provider = "second"
max_images = 2
"""
    path = catalogue(tmp_path, ROW + routes + LOCAL)

    model = load_catalogue(rehearsals=False, with_credentials=keys, path=path).get("one")

    assert model is not None
    assert (model.provider, model.max_images, model.available) == (provider, max_images, available)


@pytest.mark.parametrize(
    ("one", "two"),
    [("One", "One"), ("GPT-Image 1.5", "GPT Image 1.5"), ("FLUX 2", "Flux 2"), ("Reve²", "reve 2")],
)
def test_labels_of_models_are_unique(tmp_path: Path, one: str, two: str) -> None:
    rows = ROW.replace('label = "One"', f'label = "{one}"')
    rows += OTHER.replace('label = "Two"', f'label = "{two}"')

    with pytest.raises(CatalogueError, match=f"Row two: label: one is called {re.escape(two)} too"):
        load_catalogue(rehearsals=False, path=catalogue(tmp_path, rows))


@pytest.mark.parametrize(
    ("keys", "in_use"),
    [
        ({"fal", "gemini"}, {"fal", "gemini", "local"}),
        ({"wavespeed"}, {"local"}),  # its only model is retired
        ({"openrouter", "gemini"}, {"openrouter", "gemini", "local"}),
        (set(), {"local"}),
    ],
)
def test_a_key_may_enable_no_model(keys: set[str], in_use: set[str]) -> None:
    registry = load_catalogue(rehearsals=False, with_credentials=keys)

    assert registry.providers_in_use() == in_use


def test_an_editing_sibling_must_edit(tmp_path: Path) -> None:
    only_words = OTHER.replace(', "IMAGE_TO_IMAGE"', "")
    path = catalogue(tmp_path, ROW + 'edit_model_id = "two"' + only_words)

    with pytest.raises(CatalogueError, match="Row one: edit_model_id: two does not edit"):
        load_catalogue(rehearsals=False, with_credentials={"somewhere"}, path=path)


@pytest.mark.parametrize(("has_key", "reason"), [(False, "NO_CREDENTIALS"), (True, None)])
def test_models_of_a_provider_are_listed_with_and_without_its_key(
    has_key: bool, reason: str | None
) -> None:
    models = load_catalogue(rehearsals=False, with_credentials={"fal"} if has_key else ())

    rows = models.find(provider="fal")

    assert {"img-nano-banana", "img-kling-o1"} <= {row.id for row in rows}
    assert {row.unavailable_reason for row in rows if not row.retired} == {reason}


FIVE = "1:1 4:3 3:4 16:9 9:16"
EIGHT = "16:9 9:16 1:1 4:3 3:4 3:2 2:3 21:9"
TEN = "21:9 1:1 16:9 9:16 3:4 4:3 3:2 2:3 5:4 4:5"
THREE = "1:1 4:3 3:4"
MATRIX = {
    "img-imagen4-preview": ("Imagen 4", "Google", (0, 0), FIVE),
    "img-imagen3": ("Imagen 3", "Google", (0, 0), FIVE),  # ten are said, five are taken
    "img-nano-banana": ("Nano Banana", "Google", (0, 0), TEN),
    "img-nano-banana-edit": ("Nano Banana Edit", "Google", (1, 3), TEN),
    "img-nano-banana-pro": ("Nano Banana Pro", "Google", (0, 0), TEN),
    "img-nano-banana-pro-edit": ("Nano Banana Pro Edit", "Google", (1, 14), TEN),
    "img-seedream-v4": ("Seedream v4", "ByteDance", (0, 0), FIVE),
    "img-seedream-v4-edit": ("Seedream v4 Edit", "ByteDance", (1, 10), FIVE),
    "img-seedream-v45": ("Seedream v4.5", "ByteDance", (0, 0), FIVE),
    "img-seedream-v45-edit": ("Seedream v4.5 Edit", "ByteDance", (1, 10), FIVE),
    "img-flux-kontext-pro": ("FLUX Kontext Pro", "FLUX", (1, 1), FIVE),
    "img-gpt-image-1": ("GPT-Image 1", "OpenAI", (0, 0), THREE),
    "img-gpt-image-1-edit": ("GPT-Image 1 Edit", "OpenAI", (1, 1), THREE),
    "img-gpt-image-1-5": ("GPT-Image 1.5", "OpenAI", (0, 0), THREE),
    "img-gpt-image-1-5-edit": ("GPT-Image 1.5 Edit", "OpenAI", (1, 16), THREE),
    "img-hunyuan-v21": ("Hunyuan Image 2.1", "Tencent", (0, 0), FIVE),
    "img-hunyuan-v3": ("Hunyuan Image 3.0", "Tencent", (0, 0), FIVE),
    "img-wan-v22-a14b": ("Wan v2.2 A14B", "Alibaba", (0, 0), FIVE),
    "img-reve": ("Reve", "Reve", (0, 0), FIVE),
    "img-reve-edit": ("Reve Edit", "Reve", (1, 6), FIVE),  # ten are said, six are taken
    "img-kling-o1": ("Kling O1 Image Edit", "Kling", (1, 10), EIGHT),
    "img-flux-2-max": ("Flux 2 Max", "FLUX", (0, 0), FIVE),
    "img-flux-2-max-edit": ("Flux 2 Max Edit", "FLUX", (1, 8), FIVE),  # its maker takes eight
}
"""The product's models: label, company, references at least and at most, aspect ratios."""
HIDDEN = {"img-hunyuan-v21", "img-wan-v22-a14b"}
NEW = {
    *("img-nano-banana-pro", "img-nano-banana-pro-edit", "img-seedream-v45", "img-kling-o1"),
    *("img-seedream-v45-edit", "img-gpt-image-1-5", "img-gpt-image-1-5-edit"),
    *("img-flux-2-max", "img-flux-2-max-edit"),
}


@pytest.mark.parametrize("name", MATRIX)
def test_the_models_of_the_product_equal_those_of_its_matrix(name: str) -> None:
    label, company, references, ratios = MATRIX[name]

    model = load_catalogue(rehearsals=False, with_credentials={"fal"}).get(name)

    assert model is not None
    assert (model.label, model.company) == (label, company)
    assert (model.min_references, model.max_references) == references
    assert {str(ratio) for ratio in model.aspect_ratios} == set(ratios.split())
    assert (model.listed, model.is_new) == (name not in HIDDEN, name in NEW)
    assert model.max_images == 4


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("img-imagen4-preview", "img-nano-banana"),
        ("img-imagen3", "img-nano-banana"),
        ("img-gpt-image-1", "img-gpt-image-2-5-sunburst"),
        ("img-gpt-image-1-edit", "img-gpt-image-2-5-sunburst"),
    ],
)
def test_a_discontinued_model_is_retired_and_has_a_replacement(name: str, replacement: str) -> None:
    models = load_catalogue(rehearsals=False, with_credentials={"fal", "openai", "gemini"})

    model, successor = models.get(name), models.successor(name)

    assert model is not None
    assert model.retired
    assert successor is not None
    assert successor.id == replacement


@pytest.mark.parametrize("name", ["img-imagen4-preview", "img-nano-banana", "img-nano-banana-edit"])
def test_replacements_of_older_models_are_those_that_google_names(name: str) -> None:
    models = load_catalogue(rehearsals=False, with_credentials={"fal", "gemini"})
    models.withdraw(
        withdrawn("img-nano-banana", "img-nano-banana-edit", providers=("fal", "gemini"))
    )

    successor = models.successor(name)

    assert successor is not None
    assert successor.id == "img-nano-banana-2-1"


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("gemini-2.5-flash-image", "img-nano-banana"),
        ("gemini-3-pro-image-preview", "img-nano-banana-pro"),
        ("bytedance-seed/seedream-4.5", "img-seedream-v45"),
        ("black-forest-labs/flux.2-flex", "img-flux-2-flex"),
        ("openai/gpt-5-image", "img-gpt-5-image"),
        ("google/gemini-2.5-flash-image", "img-nano-banana"),
        ("google/gemini-3-pro-image-preview", "img-nano-banana-pro"),
        ("black-forest-labs/flux-schnell", "img-flux-schnell"),
        ("flux-schnell", "img-flux-schnell"),
        ("google/nano-banana", "img-nano-banana"),
        ("bytedance/seedream-4", "img-seedream-v4"),
        ("wavespeed/imagen3", "img-imagen3"),
    ],
)
def test_names_of_the_merged_products_are_known(alias: str, name: str) -> None:
    model = load_catalogue(rehearsals=False).get(alias)

    assert model is not None
    assert model.id == name


def test_a_retired_model_is_retired_even_without_a_key(tmp_path: Path) -> None:
    retired = OTHER.replace("somewhere", "elsewhere") + 'unavailable_reason = "RETIRED"'
    path = catalogue(tmp_path, ROW + retired)

    model = load_catalogue(rehearsals=False, with_credentials={"somewhere"}, path=path).get("two")

    assert model is not None
    assert model.unavailable_reason is ModelUnavailableReason.RETIRED


@pytest.mark.parametrize(
    ("alias", "made", "edited"),
    [
        ("gemini-2.5-flash-image", "img-nano-banana", "img-nano-banana-edit"),
        ("google/gemini-3-pro-image-preview", "img-nano-banana-pro", "img-nano-banana-pro-edit"),
        ("bytedance-seed/seedream-4.5", "img-seedream-v45", "img-seedream-v45-edit"),
    ],
)
def test_older_names_resolve_to_a_model_and_its_editing_sibling(
    alias: str, made: str, edited: str
) -> None:
    models = load_catalogue(rehearsals=False)

    model = models.get(alias)

    assert model is not None
    assert model.id == made
    sibling = models.for_references(model)
    assert sibling is not None
    assert sibling.id == edited


CAPTION = """
[[caption_models]]
id = "writer"
label = "Writer"
description = "Writes."
company = "Somebody"
provider = "openrouter"
"""


@pytest.mark.parametrize(
    ("name", "prices"),
    [
        ("img-nano-banana-pro", [None, 2, None, 2, 4]),
        ("img-nano-banana-pro-edit", [None, 4, None, 4, 8]),
        ("img-gpt-image-2", [1, 2, 8, 4, None]),
        ("img-gpt-image-2-5-flare", [1, 2, 8, 4, None]),
        ("img-gpt-image-1-5", [None, 2, 8, None, None]),
        ("img-gpt-image-1-5-edit", [None, 4, 10, None, None]),
        ("img-flux-2-max", [None, 2, None, None, None]),
    ],
)
def test_prices_equal_those_of_the_providers(name: str, prices: list[int | None]) -> None:
    """Of low, usual and high quality, and of the usual one in 2K and 4K; None: not offered."""
    model = load_catalogue(rehearsals=False, with_credentials={"fal", "openai"}).get(name)
    assert model is not None
    scene = Scene.TEXT_TO_IMAGE if Scene.TEXT_TO_IMAGE in model.scenes else Scene.IMAGE_TO_IMAGE

    of_quality = [
        model.credits_per_image(scene, quality=one) if one in (None, *model.qualities) else None
        for one in (Quality.LOW, None, Quality.HIGH)
    ]
    of_size = [
        model.credits_per_image(scene, resolution=one) if one in model.resolutions else None
        for one in (Resolution.TWO_K, Resolution.FOUR_K)
    ]

    assert [*of_quality, *of_size] == prices


def test_names_are_unique_across_all_kinds_of_models() -> None:
    """A model that its provider has dropped is withdrawn by the two ids, whatever it makes."""
    images = load_catalogue(rehearsals=True).all()
    writers = load_caption_models(rehearsals=True).all()

    assert not {model.id for model in images} & {model.id for model in writers}


@pytest.mark.parametrize(
    ("keys", "default"),
    [
        ((), "local-writer"),
        (("openai",), "caption-gpt-6-luna"),
        (("openrouter",), "caption-gpt-6-luna"),
        (("gemini",), "caption-gemini-3-6-flash"),
        (("fal",), "local-writer"),
    ],
)
def test_the_default_caption_model_is_the_first_remote_one_with_a_key(
    keys: tuple[str, ...], default: str
) -> None:
    writer = load_caption_models(rehearsals=True, with_credentials=keys).default()

    assert writer is not None
    assert writer.id == default


def test_a_default_caption_model_can_be_configured() -> None:
    writers = load_caption_models(
        rehearsals=False, with_credentials={"openrouter"}, default_models=["openai/gpt-4.1"]
    )

    assert (default := writers.default()) is not None
    assert default.id == "caption-gpt-4-1"
    with pytest.raises(UnknownDefaultModel, match="There is no model img-reve"):
        load_caption_models(rehearsals=False, default_models=["img-reve"])


def test_without_local_models_and_keys_there_is_no_caption_model() -> None:
    writers = load_caption_models(rehearsals=True, local_models=False)

    assert writers.default() is None
    assert (local := writers.get("local-writer")) is not None
    assert local.unavailable_reason is ModelUnavailableReason.SWITCHED_OFF


def test_a_caption_model_past_its_retirement_date_has_a_replacement() -> None:
    writers = load_caption_models(rehearsals=False, with_credentials={"openai"})
    later = CaptionModelRegistry(writers.all(), now=lambda: datetime(2027, 2, 1, tzinfo=UTC))

    old = later.get("gpt-4.1")

    assert old is not None
    assert old.unavailable_reason is ModelUnavailableReason.RETIRED
    assert (successor := later.successor("gpt-4.1")) is not None
    assert successor.id == "caption-gpt-6-luna"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (CAPTION.replace('"Writes."', '""'), "description: it is empty"),
        (CAPTION + "credits = -1\n", "credits: it must be at least 0"),
        (CAPTION + "max_references = -1\n", "max_references: it must be at least 0"),
        (CAPTION + "wire = { effort = 1 }\n", "wire.effort: it must be a text"),
        (CAPTION + 'scenes = ["TEXT_TO_IMAGE"]\n', "scenes: there is no such field"),
        (CAPTION + CAPTION, "id: writer is there twice"),
        (CAPTION + 'replacement_id = "other"\n', "there is no other row other"),
        (CAPTION + "deadline_seconds = 0\n", "deadline_seconds: it must be at least 1"),
    ],
)
def test_an_invalid_caption_model_is_reported(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=re.escape(message)):
        load_caption_models(rehearsals=False, path=catalogue(tmp_path, rows))

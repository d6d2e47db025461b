"""The rows that rows-jobs.toml offers to the catalogue, against what these tests ask for."""

import tomllib
from pathlib import Path

from domain.models import Scene
from providers.catalogue import CATALOGUE, load_catalogue
from tests.providers.prediction_runs import FLUX, IMAGEN, NANO_BANANA, SEEDREAM

ROWS = Path(__file__).parents[2] / "rows-jobs.toml"


def test_the_rows_can_be_loaded_and_are_what_is_tested(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text(CATALOGUE.read_text("utf-8") + ROWS.read_text("utf-8"), "utf-8")
    models = load_catalogue(
        rehearsals=False, with_credentials={"wavespeed", "replicate", "fal"}, path=path
    )

    for name, tested in (("google/imagen3", IMAGEN), ("flux-schnell", FLUX)):
        row = models.get(name)
        assert row is not None
        assert row.available
        assert (row.provider, row.endpoint) == (tested.provider, tested.endpoint)
        assert set(row.aspect_ratios) == set(tested.aspect_ratios)
        assert set(row.formats) == set(tested.formats)
        assert (row.max_images, row.supports_seed) == (tested.max_images, tested.supports_seed)
        assert row.scenes == {Scene.TEXT_TO_IMAGE}


def test_the_routes_are_what_is_tested() -> None:
    routes = tomllib.loads(ROWS.read_text("utf-8"))["routes"]
    tested = {model.endpoint: model for model in (NANO_BANANA, SEEDREAM)}

    assert len(routes) == 4
    for route in routes:
        model = tested[route["endpoint"]]
        assert set(route["aspect_ratios"]) == {str(ratio) for ratio in model.aspect_ratios}
        assert set(route["resolutions"]) == set(model.resolutions)
        assert set(route["formats"]) == set(model.formats)
        assert route["max_images"] == model.max_images
        assert route.get("max_references", 0) in (0, model.max_references)

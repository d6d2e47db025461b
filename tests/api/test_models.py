"""The model catalogue through the API."""

from tests.clients import GraphQLClient
from tests.conftest import Darkroom

MODELS = """
query($scene: Scene, $provider: String, $search: String, $includeUnlisted: Boolean) {
  models(scene: $scene, provider: $provider, search: $search, includeUnlisted: $includeUnlisted) {
    id label description company provider scenes listed isDefault isNew available
    unavailableReason aliases minReferences maxReferences aspectRatios resolutions qualities formats
    maxImages customSize { minimum maximum step } supportsPreviews supportsSeed
    supportsNegativePrompt supportsMentions logoUrl retiresAt replacement { id } editModel { id }
  }
}
"""


async def test_the_model_catalogue_needs_no_token(darkroom: Darkroom) -> None:
    models = (await darkroom.anonymous()(MODELS))["models"]

    assert len([model for model in models if model["provider"] == "local"]) >= 2
    assert all(model["description"] for model in models)
    usable = {model["provider"] for model in models if model["available"]}
    assert usable == {"local", "rehearsal"}
    paid = {"azure", "fal", "gemini", "openai", "openrouter", "replicate", "wavespeed"}
    assert {model["provider"] for model in models if not model["available"]} == paid


async def test_each_kind_of_request_has_one_default_model(client: GraphQLClient) -> None:
    for scene in ("TEXT_TO_IMAGE", "IMAGE_TO_IMAGE"):
        models = (await client(MODELS, scene=scene))["models"]
        assert len([model for model in models if model["isDefault"]]) == 1


async def test_models_are_found_by_each_provider_that_can_run_them(client: GraphQLClient) -> None:
    query = "query($provider: String) { models(provider: $provider) { id provider providers } }"
    by_azure = {one["id"]: one for one in (await client(query, provider="azure"))["models"]}

    assert by_azure["img-gpt-image-2"]["providers"] == ["openai", "azure"]
    assert by_azure["img-gpt-image-1-5"]["providers"] == ["openai", "azure", "fal"]
    assert by_azure["img-gpt-image-2"]["provider"] == "openai"
    assert all("azure" in one["providers"] for one in by_azure.values())
    assert (await client(query, provider="nobody"))["models"] == []
    local = (await client(query, provider="local"))["models"]
    assert [one["providers"] for one in local] == [["local"], ["local"]]


async def test_there_is_a_rehearsal_model_for_every_state(client: GraphQLClient) -> None:
    models = (await client(MODELS, provider="rehearsal"))["models"]

    assert {model["id"] for model in models} == {
        "rehearsal-slow",
        "rehearsal-fails",
        "rehearsal-fails-once",
        "rehearsal-refuses",
        "rehearsal-hangs",
        "rehearsal-lands-last",
    }
    assert {model["maxReferences"] for model in models} == {10}
    assert {tuple(model["scenes"]) for model in models} == {("TEXT_TO_IMAGE", "IMAGE_TO_IMAGE")}


async def test_models_are_found_by_words(client: GraphQLClient) -> None:
    found = (await client(MODELS, search="INK local"))["models"]

    assert [model["id"] for model in found] == ["local-ink"]


async def test_a_model_is_found_by_id_and_an_unknown_one_is_null(client: GraphQLClient) -> None:
    data = await client('{ a: model(id: "local-ink") { id } b: model(id: "nothing") { id } }')

    assert data == {"a": {"id": "local-ink"}, "b": None}

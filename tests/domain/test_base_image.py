"""The base reaches every model of the catalogue, however few references it takes."""

from collections.abc import Sequence

import pytest

from domain.ids import ImageId, ModelId
from domain.model_choice import Inherited
from domain.models import SQUARE, ImageModel, Resolution, Scene
from domain.planning import plan_turn
from domain.references import Reference, ReferenceOrigin
from domain.refusals import Refusals
from domain.turns import PlannedOutput, TurnRequest
from providers.catalogue import WIRES, load_catalogue
from tests.domain.test_planning import an_image

REGISTRY = load_catalogue(rehearsals=True, with_credentials=WIRES)
EDITORS = [
    model
    for model in REGISTRY.all()
    if model.available and REGISTRY.for_references(model) is not None
]
COUNTS = (1, 2, 3, 10)
PREVIOUS, MANUAL, SOURCE = (
    ReferenceOrigin.PREVIOUS_TURN,
    ReferenceOrigin.MANUAL,
    ReferenceOrigin.SOURCE,
)


def an_output(
    name: str, model: ModelId | None = None, origin: ReferenceOrigin = PREVIOUS
) -> Reference:
    return Reference(an_image(name, model), origin)


def manual(count: int) -> list[Reference]:
    return [an_output(f"manual {number}", origin=MANUAL) for number in range(count)]


def planned(
    model: ImageModel,
    references: Sequence[Reference],
    *,
    named: bool = False,
    message: str = "Make it darker",
) -> PlannedOutput:
    refusals = Refusals()
    plan = plan_turn(
        TurnRequest(user_message=message, selected_models=(model.id,)),
        registry=REGISTRY,
        inherited=Inherited(aspect_ratio=SQUARE, resolution=Resolution.ONE_K),
        references=references,
        previous_were_named=named,
        refusals=refusals,
    )
    refusals.raise_if_any()
    (output,) = plan.outputs
    assert len(output.references) == min(output.model.max_references, len(references))
    given_and_dropped = {*output.references, *output.dropped_references}
    assert given_and_dropped == {*plan.references}
    return output


def ids(references: Sequence[Reference]) -> list[ImageId]:
    return [one.image.id for one in references]


of_each = pytest.mark.parametrize("model", EDITORS, ids=lambda model: model.id)
of_counts = pytest.mark.parametrize("count", COUNTS)


def test_all_editing_models_are_tested() -> None:
    assert len(EDITORS) > 25
    assert {REGISTRY.for_references(model).max_references for model in EDITORS} > {1, 3, 10}  # type: ignore[union-attr]


@of_each
@of_counts
def test_the_source_is_kept_beside_manual_references(model: ImageModel, count: int) -> None:
    source = an_output("source", origin=SOURCE)

    output = planned(model, [source, *manual(count - 1)])

    assert output.references[0] == source


@of_each
@of_counts
def test_the_models_own_output_of_the_previous_turn_is_kept(model: ImageModel, count: int) -> None:
    others = [an_output(f"other {number}", ModelId("other")) for number in range(count - 1)]
    own = an_output("own", model.id)

    output = planned(model, [*others, own, *manual(2)])

    assert output.references[0] == own


@of_each
@of_counts
def test_the_first_output_of_another_model_is_kept_if_the_model_has_none(
    model: ImageModel, count: int
) -> None:
    others = [an_output(f"other {number}", ModelId("other")) for number in range(count)]

    output = planned(model, [*others, *manual(10)])

    assert output.references[0] == others[0]


@of_each
@of_counts
def test_the_chosen_output_is_kept(model: ImageModel, count: int) -> None:
    chosen = an_output("chosen", ModelId("other"))

    output = planned(model, [chosen, *manual(count - 1)], named=True)

    assert output.references[0] == chosen


@of_each
@of_counts
def test_mentioned_references_precede_all_but_the_base(model: ImageModel, count: int) -> None:
    base, last = an_output("base", ModelId("other")), count + 1
    limit = planned(model, manual(1)).model.max_references

    output = planned(model, [base, *manual(count)], message=f"Take the sky of @Image{last}")

    mentioned = f"manual {count - 1}"
    assert mentioned in ids(output.references)
    assert (output.references[0] == base) == (limit > 1)
    assert (base in output.dropped_references) == (limit == 1)


@of_each
def test_if_mentions_fill_the_limit_they_are_given_in_order(model: ImageModel) -> None:
    limit = planned(model, manual(1)).model.max_references
    message = " ".join(f"@Image{number + 2}" for number in range(limit))
    base = an_output("base", ModelId("other"))

    output = planned(model, [base, *manual(limit)], message=message)

    assert output.dropped_references == (base,)
    assert ids(output.references) == [f"manual {number}" for number in range(limit)]


def test_an_output_of_the_sibling_without_editing_counts_as_the_models_own() -> None:
    words = [model for model in EDITORS if Scene.IMAGE_TO_IMAGE not in model.scenes]
    assert words
    for model in words:
        others = [an_output("other", ModelId("other")), an_output("own", model.id)]

        by_name, by_editor = planned(model, others), planned(_editor(model), others)

        assert by_name.references[0].image.id == by_editor.references[0].image.id == "own"


def _editor(model: ImageModel) -> ImageModel:
    editor = REGISTRY.for_references(model)
    assert editor is not None
    return editor

"""Planning a turn: pure rules, without an event loop."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from domain.credits import Account
from domain.errors import Refused, UserErrorCode
from domain.ids import ImageId, ModelId, ViewerId
from domain.images import Image, ImageOrigin
from domain.mentions import IN_WORDS, spell_mentions
from domain.model_choice import Inherited
from domain.models import (
    SQUARE,
    AspectRatio,
    ImageModel,
    ModelRegistry,
    Resolution,
    Scene,
)
from domain.parents import TurnOptions
from domain.planning import check_spending, plan_turn
from domain.references import Reference, ReferenceOrigin, choose_references, positions_of
from domain.refusals import Refusals
from domain.registry import ModelUnavailableReason
from domain.turns import TurnPlan, TurnRequest
from tests.withdrawals import withdrawn

WORDS, EDITS = frozenset({Scene.TEXT_TO_IMAGE}), frozenset({Scene.IMAGE_TO_IMAGE})
WIDE = AspectRatio(16, 9)


def a_model(name: str, **given: object) -> ImageModel:
    facts: dict[str, object] = {
        "label": name.title(),
        "description": "",
        "company": "",
        "provider": "local",
        "scenes": WORDS | EDITS,
        "max_references": 10,
    }
    return ImageModel(id=ModelId(name), **(facts | given))  # type: ignore[arg-type]


def an_image(name: str, model: str | None = None) -> Image:
    return Image(
        id=ImageId(name),
        key="",
        width=1,
        height=1,
        content_type="image/png",
        byte_size=1,
        thumbhash=None,
        rendition_widths=(),
        origin=ImageOrigin.OUTPUT,
        model_id=ModelId(model) if model else None,
        seed=None,
        output_id=None,
        created_at=datetime.now(UTC),
    )


def references(*names: str) -> tuple[Reference, ...]:
    """`m:` before a name makes it a manual one, `s:` the source; `@model` after it names its
    model.
    """
    origins = {"m": ReferenceOrigin.MANUAL, "s": ReferenceOrigin.SOURCE}
    made = []
    for name in names:
        kind, _, rest = name.rpartition(":")
        image, _, model = rest.partition("@")
        made.append(
            Reference(an_image(image, model), origins.get(kind, ReferenceOrigin.PREVIOUS_TURN))
        )
    return tuple(made)


BOTH = a_model("both", aliases=("company/both",), max_references=1)
REGISTRY = ModelRegistry(
    [
        a_model("words", scenes=WORDS, max_references=0, edit_model_id="words-edit"),
        a_model("words-edit", scenes=EDITS, min_references=1, max_references=2),
        a_model("words-only", scenes=WORDS, max_references=0),
        BOTH,
        a_model("wide", aspect_ratios=(WIDE,)),
        a_model("keyless", unavailable_reason=ModelUnavailableReason.NO_CREDENTIALS),
        a_model("old", unavailable_reason=ModelUnavailableReason.RETIRED, replacement_id="older"),
        a_model("older", unavailable_reason=ModelUnavailableReason.RETIRED, replacement_id="wide"),
    ],
    defaults=["company/both"],
)


NO_KEY = ModelUnavailableReason.NO_CREDENTIALS
WAY_OUT = "Select another model, such as Default (default) for 5 credits an image."


def a_registry_of_heirs(*, price: int) -> ModelRegistry:
    """The models of `REGISTRY` at 4 credits, behind a default at this price."""
    cheap: dict[str, object] = {"credits_from_words": 4, "credits_with_references": 4}
    gone = cheap | {"unavailable_reason": NO_KEY}
    return ModelRegistry(
        [
            a_model("default", credits_from_words=price, credits_with_references=price),
            *(
                replace(model, credits_from_words=4, credits_with_references=4)
                for model in REGISTRY.all()
            ),
            a_model("dear", credits_from_words=9, credits_with_references=9),
            a_model("dearly-replaced", replacement_id="dear", **gone),
            a_model("old-words", scenes=WORDS, replacement_id="words", **gone),
            a_model("gone-editor", scenes=WORDS, edit_model_id="old-editor", **cheap),
            a_model("old-editor", scenes=EDITS, replacement_id="wide", **gone),
        ]
    )


def plan(
    *models: str,
    registry: ModelRegistry = REGISTRY,
    given: tuple[Reference, ...] | None = (),
    inherited: tuple[str, ...] = (),
    named: bool = False,
    message: str = "A boat",
    **request: object,
) -> TurnPlan:
    """A plan that nothing is wrong with, or Refused."""
    refusals = Refusals()
    planned = plan_turn(
        TurnRequest(
            user_message=message,
            selected_models=models or None,
            **request,  # type: ignore[arg-type]
        ),
        registry=registry,
        inherited=Inherited(model_ids=inherited, aspect_ratio=SQUARE, resolution=Resolution.ONE_K),
        references=given,
        previous_were_named=named,
        refusals=refusals,
    )
    refusals.raise_if_any()
    return planned


def refused(*models: str, **given: object) -> list[tuple[UserErrorCode, tuple[str, ...]]]:
    with pytest.raises(Refused) as caught:
        plan(*models, **given)  # type: ignore[arg-type]
    return [(error.code, error.path[1:]) for error in caught.value.user_errors]


def test_with_references_the_editing_sibling_is_used() -> None:
    output = plan("words", given=references("a")).outputs[0]

    assert (output.model.id, output.requested_model_id) == ("words-edit", "words")


def test_a_model_without_editing_cannot_edit() -> None:
    assert refused("words-only", given=references("a")) == [
        (UserErrorCode.MODEL_CANNOT_EDIT, ("selectedModels", "0"))
    ]


def test_a_model_that_only_edits_needs_a_reference() -> None:
    assert refused("both", "words-edit") == [
        (UserErrorCode.MODEL_NEEDS_REFERENCE, ("selectedModels", "1"))
    ]


def test_duplicate_models_are_found_after_aliases_and_siblings_are_resolved() -> None:
    assert refused("both", "company/both") == [
        (UserErrorCode.DUPLICATE_MODEL, ("selectedModels", "1"))
    ]
    assert refused("words", "words-edit", given=references("a")) == [
        (UserErrorCode.DUPLICATE_MODEL, ("selectedModels", "1"))
    ]


def test_unavailable_models_are_refused_and_the_replacement_is_named() -> None:
    with pytest.raises(Refused) as caught:
        plan("keyless", "old")

    keyless, old = caught.value.user_errors
    assert keyless.code is UserErrorCode.MODEL_UNAVAILABLE
    assert old.code is UserErrorCode.MODEL_RETIRED
    assert "wide" in old.message


def test_an_inherited_model_that_is_withdrawn_is_replaced() -> None:
    chosen = plan(inherited=("old", "wide"))

    assert [output.model.id for output in chosen.outputs] == ["wide"]


@pytest.mark.parametrize(
    ("inherited", "given", "chosen"),
    [
        # Its replacement, and the editor of that, if it costs no more.
        (["old"], (), ["wide"]),
        (["older", "both"], (), ["wide", "both"]),
        (["old-words"], ("a",), ["words-edit"]),
        (["gone-editor"], ("a",), ["wide"]),
        # The default where there is no replacement, or only one that costs more.
        (["keyless"], (), ["default"]),
        (["keyless", "default"], ("a",), ["default"]),
        (["keyless", "both"], (), ["default", "both"]),
        (["dearly-replaced"], (), ["default"]),
        # What cannot make this turn is left out where another one can.
        (["words-only", "both"], ("a",), ["both"]),
        (["words-only"], ("a",), ["default"]),
        (["words-edit"], (), ["default"]),
        (["dear"], (), ["dear"]),
        ([], (), ["default"]),
    ],
)
def test_an_inherited_model_is_replaced_by_one_that_costs_no_more(
    inherited: list[str], given: tuple[str, ...], chosen: list[str]
) -> None:
    planned = plan(
        inherited=tuple(inherited), given=references(*given), registry=a_registry_of_heirs(price=4)
    )

    assert [output.model.id for output in planned.outputs] == chosen


@pytest.mark.parametrize(
    ("inherited", "given", "code", "message"),
    [
        (["keyless"], (), "MODEL_UNAVAILABLE", "Keyless is not available any more. " + WAY_OUT),
        (["keyless", "both"], (), "MODEL_UNAVAILABLE", None),
        (["never-heard-of"], (), "MODEL_UNAVAILABLE", None),
        (
            ["dearly-replaced"],
            (),
            "MODEL_UNAVAILABLE",
            "Dearly-Replaced is not available any more. "
            "Select another model, such as Dear (dear) for 9 credits an image.",
        ),
        (
            ["words-only"],
            ("a",),
            "MODEL_CANNOT_EDIT",
            "Words-Only cannot be used for this message. " + WAY_OUT,
        ),
        (["words-edit"], (), "MODEL_NEEDS_REFERENCE", None),
    ],
)
def test_an_inherited_model_is_never_replaced_by_one_that_costs_more(
    inherited: list[str], given: tuple[str, ...], code: str, message: str | None
) -> None:
    with pytest.raises(Refused) as caught:
        plan(
            inherited=tuple(inherited),
            given=references(*given),
            registry=a_registry_of_heirs(price=5),
        )

    (error,) = caught.value.user_errors
    assert (error.code, error.path) == (code, ("input", "selectedModels"))
    assert message in (None, error.message)


def test_without_any_model_the_request_is_refused() -> None:
    registry = ModelRegistry([a_model("keyless", unavailable_reason=NO_KEY)])

    for inherited, code in ((), "NO_MODELS"), (("keyless",), "MODEL_UNAVAILABLE"):
        with pytest.raises(Refused) as caught:
            plan(inherited=inherited, registry=registry)
        assert [error.code for error in caught.value.user_errors] == [code]


def test_if_no_inherited_model_is_suitable_the_default_is_used() -> None:
    chosen = plan(inherited=("words-only",), given=references("a"))

    assert [output.model.id for output in chosen.outputs] == ["both"]


def test_requested_options_are_refused_and_inherited_ones_are_adapted() -> None:
    assert refused("wide", aspect_ratio=SQUARE) == [
        (UserErrorCode.UNSUPPORTED_ASPECT_RATIO, ("aspectRatio",))
    ]
    assert plan("wide").aspect_ratio == SQUARE
    assert REGISTRY.remembered("wide").fit_aspect_ratio(SQUARE) == WIDE


def test_unresolved_references_cause_no_further_errors() -> None:
    refusals = Refusals()
    refusals.add(UserErrorCode.NOT_FOUND, "", "conversationId")

    plan_turn(
        TurnRequest(user_message="x", selected_models=("words-edit", "words-only")),
        registry=REGISTRY,
        inherited=Inherited(aspect_ratio=SQUARE, resolution=Resolution.ONE_K),
        references=None,
        previous_were_named=False,
        refusals=refusals,
    )

    assert [error.code for error in refusals.found] == [UserErrorCode.NOT_FOUND]


def test_the_cost_of_an_output_depends_on_its_references_and_images() -> None:
    three = TurnOptions(images_per_model=3)

    from_words = plan("wide", options=TurnOptions())
    edits = plan("words", "both", given=references("a", "b"))

    assert [one.credits for one in from_words.outputs] == [2]
    assert [one.credits for one in edits.outputs] == [4, 4]
    assert edits.credits == 8
    assert [len(one.dropped_references) for one in edits.outputs] == [0, 1]
    assert refused("wide", options=three) == [
        (UserErrorCode.TOO_MANY_IMAGES, ("options", "imagesPerModel"))
    ]


def test_a_request_beyond_the_account_is_refused_with_all_reasons() -> None:
    refusals = Refusals()

    check_spending(
        plan("wide", "both").outputs,
        account=Account(ViewerId("user_x"), balance=10, reserved=7, active_outputs=49),
        max_active_outputs=50,
        max_credits=3,
        refusals=refusals,
    )

    assert [(error.code, error.path[1:]) for error in refusals.found] == [
        (UserErrorCode.INSUFFICIENT_CREDITS, ()),
        (UserErrorCode.MAX_CREDITS_EXCEEDED, ("maxCredits",)),
        (UserErrorCode.TOO_MANY_ACTIVE_OUTPUTS, ()),
    ]


def messages(*models: str, **given: object) -> list[str]:
    with pytest.raises(Refused) as caught:
        plan(*models, **given)  # type: ignore[arg-type]
    return [error.message for error in caught.value.user_errors]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "There is no @Image7: the message has 0 references."),
        (("a",), "There is no @Image7: the message has 1 reference."),
        (("a", "b"), "There is no @Image7: the message has 2 references."),
    ],
)
def test_the_error_of_an_unknown_mention_says_how_many_references_there_are(
    given: tuple[str, ...], message: str
) -> None:
    assert messages("both", given=references(*given), message="Like @Image7") == [message]


@pytest.mark.parametrize(("price", "credits"), [(1, "1 credit"), (2_000, "2,000 credits")])
def test_a_price_in_a_message_has_the_correct_plural(price: int, credits: str) -> None:
    refusals = Refusals()

    check_spending(
        [replace(plan("both").outputs[0], credits=price)],
        account=Account(ViewerId("user_x"), balance=0, reserved=0, active_outputs=1),
        max_active_outputs=1,
        max_credits=0,
        refusals=refusals,
    )

    assert [error.message for error in refusals.found] == [
        f"This costs {credits}; available: 0.",
        f"This costs {credits}; `maxCredits` is 0.",
        "1 output queued or running; at most 1 at the same time.",
    ]


@pytest.mark.parametrize(
    ("given", "limit", "named", "kept"),
    [
        (["a", "b", "m:c"], 10, False, "abc"),
        (["a", "b", "m:c"], 2, False, "ac"),
        (["a", "b", "m:c"], 2, True, "ab"),
        (["s:a", "m:b", "m:c"], 2, False, "ab"),
        (["s:a", "m:b", "m:c"], 1, False, "a"),
        (["a@one", "b@mine"], 1, False, "b"),
        (["a@one", "b@mine", "m:c"], 1, False, "b"),
        (["a@one", "b@mine", "m:c"], 1, True, "b"),
        (["a@one", "b@mine", "m:c"], 2, True, "ba"),
        (["a@one", "b@mine", "m:c"], 2, False, "bc"),
        (["a@one", "b@mine", "m:c"], 3, False, "bac"),
        (["a@one", "b@before", "c@mine"], 2, True, "ca"),
        (["a@one", "b@before"], 1, False, "b"),
        (["m:a", "m:b@mine"], 1, False, "a"),
        (["a"], 0, False, ""),
        ([], 3, False, ""),
    ],
)
def test_a_model_receives_the_base_first_and_then_the_most_relevant_references(
    given: list[str], limit: int, named: bool, kept: str
) -> None:
    chosen = choose_references(
        references(*given),
        limit=limit,
        own_model_ids=[ModelId("mine"), ModelId("before")],
        previous_were_named=named,
    )

    assert "".join(reference.image.id for reference in chosen) == kept


@pytest.mark.parametrize(
    ("message", "model", "kept"),
    [
        ("Put @Image1 into @image3", "words-edit", "ac"),
        ("Put @Image1 into @Image1", "both", "a"),
        ("@Image2, please", "both", "b"),
        ("Mail me@image3 or @Image3d", "both", "a"),
        ("Nobody", "both", "a"),
        ("Put @image3 into it", "words-edit", "ac"),
    ],
)
def test_a_mentioned_reference_is_never_dropped(message: str, model: str, kept: str) -> None:
    planned = plan(model, given=references("a", "b", "m:c"), message=message)

    (output,) = planned.outputs
    assert "".join(one.image.id for one in output.references)[: len(kept)] == kept
    assert {*output.references, *output.dropped_references} == {*planned.references}


@pytest.mark.parametrize(
    ("message", "models"),
    [
        ("@Image4", ["both"]),
        ("@Image0", ["both"]),
        ("@Image99999999999999999999", ["both"]),
        ("@Image1 and @Image2", ["both"]),
        ("@Image1 @Image2 @Image3", ["wide", "words"]),
    ],
)
def test_a_mention_must_refer_to_a_reference_that_the_model_can_receive(
    message: str, models: list[str]
) -> None:
    with pytest.raises(Refused) as refused:
        plan(*models, given=references("a", "b", "c"), message=message)

    assert [(error.code, error.path) for error in refused.value.user_errors] == [
        (UserErrorCode.UNKNOWN_MENTION, ("input", "userMessage"))
    ]


def test_without_references_a_mention_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        plan("both", message="Like @Image1")

    assert [error.code for error in refused.value.user_errors] == [UserErrorCode.UNKNOWN_MENTION]


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        (IN_WORDS, "Put image 1 into image 2, not me@image2 or @Image2"),
        ("<img>{index}</img>", "Put <img>0</img> into <img>1</img>, not me@image2 or @Image2"),
    ],
)
def test_mentions_are_translated_into_each_models_own_form(spelling: str, expected: str) -> None:
    all_of_them = references("a", "b", "c")
    positions = positions_of((all_of_them[2], all_of_them[0]), all_of_them)

    message = "Put @Image3 into @Image1, not me@image2 or @Image2"

    assert positions == {3: 1, 1: 2}
    assert spell_mentions(message, positions, spelling) == expected


def test_a_model_is_retired_on_its_retirement_date() -> None:
    today = datetime(2026, 12, 1, tzinfo=UTC)
    day = [today - timedelta(seconds=1)]
    registry = ModelRegistry(
        [a_model("leaving", retires_at=today, replacement_id="both", aliases=("x",)), BOTH],
        now=lambda: day[0],
    )
    before = registry.get("x")

    day[0] = today

    after = registry.get("x")
    assert before is not None
    assert before.available
    assert after is not None
    assert after.retired
    assert registry.successor("leaving") == BOTH


def test_on_the_end_date_of_a_route_the_next_route_is_used() -> None:
    day = [datetime(2026, 11, 30, tzinfo=UTC)]
    last = datetime(2026, 12, 1, tzinfo=UTC)
    routes = (a_model("one", provider="second"), a_model("one", provider="third"))
    registry = ModelRegistry(
        [a_model("one", provider="first", retires_at=last, other_routes=routes)],
        now=lambda: day[0],
    )
    before = registry.get("one")

    day[0] = last
    after = registry.get("one")

    assert before is not None
    assert after is not None
    assert (before.provider, before.available) == ("first", True)
    assert (after.provider, after.available) == ("second", True)


def test_a_model_is_withdrawn_once_all_of_its_providers_have_dropped_it() -> None:
    routes = (a_model("one", provider="second", credits_from_words=7),)
    registry = ModelRegistry([a_model("one", provider="first", other_routes=routes)])

    registry.withdraw(withdrawn("one", providers=("first",)))
    by_the_second = registry.remembered("one")
    registry.withdraw(withdrawn("one", providers=("first", "second")))
    dropped = registry.remembered("one")
    registry.switch_off({"second": datetime.now(UTC)})
    off = registry.remembered("one")

    assert (by_the_second.provider, by_the_second.available) == ("second", True)
    assert by_the_second.credits_from_words == 7
    assert dropped.unavailable_reason is ModelUnavailableReason.REFUSED_BY_PROVIDER
    assert off.unavailable_reason is ModelUnavailableReason.SWITCHED_OFF


@pytest.mark.parametrize(
    ("days_left", "other_routes", "notice"),
    [
        (31, (), " Ends on 1 January 2027."),
        (1, (), " Ends on 1 January 2027."),
        (32, (), ""),
        (1, ({"retires_at": None},), ""),
        (1, ({"retires_at": datetime(2027, 1, 9, tzinfo=UTC)},), " Ends on 9 January 2027."),
        (1, ({"retires_at": datetime(2027, 6, 9, tzinfo=UTC)},), ""),
    ],
)
def test_a_model_that_retires_within_a_month_says_so(
    days_left: int, other_routes: tuple[dict[str, object], ...], notice: str
) -> None:
    end = datetime(2027, 1, 1, tzinfo=UTC)
    routes = tuple(a_model("leaving", **given) for given in other_routes)
    registry = ModelRegistry(
        [a_model("leaving", description="Quick.", retires_at=end, other_routes=routes)],
        now=lambda: end - timedelta(days=days_left),
    )

    assert registry.remembered("leaving").description == f"Quick.{notice}"


def test_a_withdrawn_model_is_listed_as_unavailable() -> None:
    registry = ModelRegistry([a_model("gone"), BOTH])

    registry.withdraw(withdrawn("gone", "never known"))
    gone = registry.get("gone")
    registry.withdraw([])

    assert gone is not None
    assert gone.unavailable_reason is ModelUnavailableReason.REFUSED_BY_PROVIDER
    assert registry.get("gone") == a_model("gone")


def test_a_stored_model_missing_from_the_catalogue_is_shown_and_never_used() -> None:
    model = REGISTRY.remembered("company/forgotten-model")

    assert (model.label, model.listed, model.available) == ("forgotten-model", False, False)
    assert REGISTRY.get("company/forgotten-model") is None

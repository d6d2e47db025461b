"""Routes of a model: which other provider can make exactly what was planned for the first one."""

from domain.abilities import check_abilities
from domain.models import ImageModel, Scene
from domain.outputs import Output
from domain.parents import Parent
from domain.prices import price_of_image
from domain.refusals import Refusals
from domain.turns import TurnRequest


def may_take_over(
    route: ImageModel, planned: ImageModel, *, parent: Parent, output: Output, image_count: int
) -> bool:
    """Whether a route can make one run of an output that was planned for another route: nothing
    that was requested is lost, and it costs no more than was reserved. `image_count` is how many
    images the run has to make.
    """
    unsupported = Refusals()
    request = TurnRequest(user_message=parent.user_message, options=parent.options)
    check_abilities(route, request, unsupported)
    scene = Scene.IMAGE_TO_IMAGE if output.references else Scene.TEXT_TO_IMAGE
    price = price_of_image(route, scene, resolution=parent.resolution, options=parent.options)
    ratio, resolution = parent.aspect_ratio, parent.resolution
    loses_context = planned.supports_context and not route.supports_context
    loses_mask = planned.supports_masks and not route.supports_masks
    return (
        not unsupported.found
        and not (parent.options.earlier_messages and loses_context)
        and not (parent.options.mask and loses_mask)
        and scene in route.scenes
        and route.min_references <= len(output.references) <= route.max_references
        and route.fit_aspect_ratio(ratio) == planned.fit_aspect_ratio(ratio)
        and route.fit_resolution(resolution) == planned.fit_resolution(resolution)
        and route.runs_for(image_count) == 1
        and price * parent.options.images_per_model <= output.credits_reserved
    )

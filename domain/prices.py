"""What one image of a turn costs."""

from domain.models import ImageModel, Resolution, Scene, nearest_resolution
from domain.parents import TurnOptions


def price_of_image(
    model: ImageModel, scene: Scene, *, resolution: Resolution, options: TurnOptions
) -> int:
    """The credits for one image by this model, at the turn's resolution as far as the model
    supports it.

    If a width and a height are requested, their area decides.
    """
    if options.width is not None and options.height is not None:
        resolution = nearest_resolution(options.width, options.height)
    return model.credits_per_image(
        scene, resolution=model.fit_resolution(resolution), quality=options.quality
    )

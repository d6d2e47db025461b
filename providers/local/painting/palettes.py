"""The colours of a scene: the time of day sets them, and colour words shift them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from providers.local.colours import COLOURS, Colour, brightness, darker, lighter, mix


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    sky: tuple[Colour, Colour, Colour]
    """Overhead, half way down, at the horizon."""
    light: Colour
    """The sun or the moon, and whatever it falls on."""
    far: Colour
    near: Colour
    accent: Colour
    """Small things that draw the eye: a sail, a roof, a flower."""
    dark: bool = False
    """Whether windows are lit."""

    def land(self, depth: float) -> Colour:
        """The colour of land from far away (0) to close by (1): haze gives way to substance."""
        hazy = mix(self.far, self.sky[2], 0.45)
        return (
            mix(hazy, self.far, depth * 2)
            if depth < 0.5
            else mix(self.far, self.near, depth * 2 - 1)
        )

    @property
    def haze(self) -> Colour:
        return mix(self.sky[2], self.sky[1], 0.25)


_DAY: Final = (
    Palette(
        sky=((70, 124, 178), (150, 190, 214), (240, 232, 210)),
        light=(255, 246, 222),
        far=(120, 148, 168),
        near=(54, 86, 66),
        accent=(206, 82, 58),
    ),
    Palette(
        sky=((104, 152, 172), (184, 206, 202), (250, 230, 204)),
        light=(255, 240, 214),
        far=(132, 158, 158),
        near=(50, 78, 74),
        accent=(222, 112, 74),
    ),
    Palette(
        sky=((120, 132, 184), (196, 184, 206), (252, 222, 202)),
        light=(255, 238, 216),
        far=(142, 136, 172),
        near=(58, 62, 86),
        accent=(228, 120, 104),
    ),
)
_SUNSET: Final = (
    Palette(
        sky=((46, 46, 96), (190, 86, 104), (255, 184, 104)),
        light=(255, 226, 164),
        far=(138, 80, 108),
        near=(38, 28, 50),
        accent=(255, 150, 84),
    ),
    Palette(
        sky=((40, 72, 112), (214, 128, 104), (255, 210, 136)),
        light=(255, 236, 186),
        far=(126, 92, 104),
        near=(32, 36, 52),
        accent=(240, 118, 72),
    ),
    Palette(
        sky=((74, 48, 104), (226, 104, 96), (255, 168, 112)),
        light=(255, 220, 170),
        far=(150, 74, 98),
        near=(48, 26, 48),
        accent=(255, 176, 96),
    ),
)
_NIGHT: Final = (
    Palette(
        sky=((8, 12, 34), (22, 38, 78), (72, 96, 136)),
        light=(240, 240, 226),
        far=(44, 62, 98),
        near=(8, 13, 26),
        accent=(255, 206, 120),
        dark=True,
    ),
    Palette(
        sky=((12, 10, 36), (42, 36, 86), (104, 88, 132)),
        light=(246, 236, 222),
        far=(58, 52, 98),
        near=(14, 11, 28),
        accent=(255, 196, 124),
        dark=True,
    ),
    Palette(
        sky=((4, 20, 34), (12, 52, 74), (66, 116, 128)),
        light=(236, 244, 232),
        far=(30, 72, 90),
        near=(6, 18, 26),
        accent=(255, 214, 132),
        dark=True,
    ),
)
_GREY: Final = (
    Palette(
        sky=((138, 150, 160), (178, 186, 190), (214, 216, 212)),
        light=(240, 240, 232),
        far=(146, 156, 162),
        near=(52, 64, 66),
        accent=(190, 92, 72),
    ),
    Palette(
        sky=((118, 134, 150), (166, 176, 184), (206, 206, 204)),
        light=(236, 236, 230),
        far=(130, 142, 152),
        near=(46, 56, 66),
        accent=(202, 108, 74),
    ),
)
_DESERT: Final = ((214, 160, 112), (150, 88, 58))
_SNOW: Final = ((206, 218, 232), (226, 234, 244))


def choose_palette(subjects: Collection[str], colours: Sequence[str], random: Random) -> Palette:
    if {"night", "stars", "moon", "aurora"} & set(subjects) and "sunset" not in subjects:
        choices: Sequence[Palette] = _NIGHT
    elif "sunset" in subjects:
        choices = _SUNSET
    elif {"rain", "fog"} & set(subjects):
        choices = _GREY
    elif {"sun", "city", "flowers", "house", "boat"} & set(subjects):
        choices = _DAY
    else:
        choices = (*_DAY, *_SUNSET)
    palette = random.choice(choices)
    if "desert" in subjects:
        far, near = (darker(one, 0.5) if palette.dark else one for one in _DESERT)
        palette = replace(palette, far=mix(far, palette.sky[1], 0.15), near=near)
    if "snow" in subjects:
        far, near = (mix(one, palette.sky[1], 0.55 if palette.dark else 0.18) for one in _SNOW)
        palette = replace(palette, far=mix(palette.far, far, 0.45), near=near)
    for index, name in enumerate(colours[:3]):
        palette = _bent(palette, COLOURS[name], main=index == 0)
    return palette


def _bent(palette: Palette, colour: Colour, *, main: bool) -> Palette:
    """The palette under the influence of one colour: the first takes the land and the sky above,
    others the light.
    """

    def towards(old: Colour, share: float) -> Colour:
        # The old brightness is kept, or a scene would lose its depth.
        want, have = brightness(old), brightness(colour)
        shade = (
            darker(colour, 1 - want / have)
            if want < have
            else lighter(colour, (want - have) / max(0.01, 1 - have))
        )
        return mix(old, shade, share)

    top, middle, low = palette.sky
    if main:
        return replace(
            palette,
            sky=(towards(top, 0.6), towards(middle, 0.55), towards(low, 0.25)),
            far=towards(palette.far, 0.65),
            near=towards(palette.near, 0.55),
            accent=mix(palette.accent, colour, 0.6),
        )
    return replace(
        palette,
        sky=(top, towards(middle, 0.3), towards(low, 0.65)),
        light=towards(palette.light, 0.45),
        accent=colour,
    )

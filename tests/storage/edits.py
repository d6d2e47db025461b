"""Pictures as a model could have edited them: shifted, scaled, encoded."""

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SIZES = [(300, 200), (640, 480), (480, 640), (1100, 800)]


@dataclass(frozen=True)
class Edit:
    base: Image.Image
    edited: Image.Image
    mask: Image.Image
    changed: float
    """Of the base's pixels."""
    outside_mask: float


def generate_edit(seed: int, *, max_shift: float = 8, max_scale: float = 0.02) -> Edit:
    """Some shapes changed inside of the mask, and some anywhere; then all shifted and scaled."""
    rng = random.Random(seed)
    size = rng.choice(SIZES)
    base = rng.choice([_landscape, _texture, _colours])(rng, size)
    inside, anywhere = _shapes(rng, size, 1), _shapes(rng, size, rng.randrange(3))
    mask = inside.filter(ImageFilter.MaxFilter(7))
    areas = ImageChops.lighter(inside, anywhere)
    # Each pixel half of the colours away, so that all that changes can be seen.
    other = base.point(lambda value: (value + 110) % 256)
    edited = base.copy()
    edited.paste(other, (0, 0), areas)
    changed = np.asarray(areas) > 0
    return Edit(
        base=base,
        edited=moved(
            edited,
            scale=1 + rng.uniform(-max_scale, max_scale),
            shift=(rng.uniform(-max_shift, max_shift), rng.uniform(-max_shift, max_shift)),
        ),
        mask=mask,
        changed=float(changed.mean()),
        outside_mask=float((changed & (np.asarray(mask) == 0)).mean()),
    )


def moved(picture: Image.Image, *, scale: float, shift: tuple[float, float]) -> Image.Image:
    """The picture around its middle, in a frame of the same size."""
    x, y = picture.width / 2, picture.height / 2
    to_source = (1 / scale, 0, x - (x + shift[0]) / scale, 0, 1 / scale, y - (y + shift[1]) / scale)
    return picture.transform(
        picture.size, Image.Transform.AFFINE, to_source, Image.Resampling.BICUBIC
    )


def _shapes(rng: random.Random, size: tuple[int, int], count: int) -> Image.Image:
    """White on black, a fifth of the sides each, away from the edges, which may get lost."""
    areas = Image.new("L", size)
    draw = ImageDraw.Draw(areas)
    for _ in range(count):
        width, height = (rng.randint(side // 10, side // 4) for side in size)
        left, top = rng.randint(20, size[0] - width - 20), rng.randint(20, size[1] - height - 20)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((left, top, left + width, top + height), fill=255)
    return areas


def _landscape(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    """Plain shapes with hard edges."""
    picture = Image.new("RGB", size, _colour(rng))
    draw = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        radius = rng.randint(6, size[0] // 6)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_colour(rng))
    return picture


def _texture(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    """Detail of all sizes, as photographs have it."""
    numbers = np.random.default_rng(rng.randrange(2**32))
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(width)[None, :], np.fft.fftfreq(height)[:, None])
    strength = 1 / np.maximum(frequency, 1 / max(size)) ** 1.2
    bands = []
    for _ in range(3):
        waves = strength * np.exp(2j * np.pi * numbers.random((height, width)))
        values = np.fft.ifft2(waves).real
        values = 128 + 45 * (values - values.mean()) / values.std()
        bands.append(np.clip(values, 0, 255).astype(np.uint8))
    return Image.fromarray(np.dstack(bands))


def _colours(rng: random.Random, size: tuple[int, int]) -> Image.Image:
    """Colours that flow into one another, without any edge."""
    small = Image.frombytes("RGB", (8, 6), rng.randbytes(8 * 6 * 3))
    return small.resize(size, Image.Resampling.BICUBIC)


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)

"""The stored picture has the colours that the file means, in sRGB, and its transparency."""

import struct
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from math import exp

import pytest
from PIL import Image, ImageCms

from storage.imaging.containers import read_container
from tests.storage.pictures import encoded, opened, png_chunk, swapped_profile
from tests.storage.processing import Process, processing

WIDTH, HEIGHT = 32, 16
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
CLEAR, OPAQUE = 0, 255
APART = 2
"""Of 255, in a channel: rounding by littleCMS and by us."""

P3_TO_SRGB = (
    (1.2249401, -0.2249404, 0.0),
    (-0.0420569, 1.0420571, 0.0),
    (-0.0196376, -0.0786361, 1.0982735),
)
BT2020_TO_SRGB = (
    (1.660491, -0.587641, -0.072850),
    (-0.124550, 1.132900, -0.008349),
    (-0.018151, -0.100579, 1.118730),
)
ADOBE_TO_SRGB = (
    (1.398283, -0.398283, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, -0.042938, 1.042938),
)
ADOBE_CHRM = (31_270, 32_900, 64_000, 33_000, 21_000, 71_000, 15_000, 6_000)

Pixel = tuple[int, ...]


@pytest.fixture(params=["uploaded here", "delivered"])
async def process(request: pytest.FixtureRequest) -> AsyncIterator[Process]:
    async with processing(request.param) as process:
        yield process


def png_of(pixels: Sequence[Pixel], colour: int, bits: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A picture in which each of these pixels fills a part; with these chunks behind the header."""
    every = [pixels[index * len(pixels) // (WIDTH * HEIGHT)] for index in range(WIDTH * HEIGHT)]
    rows = b""
    for row in range(HEIGHT):
        samples = [sample for pixel in every[row * WIDTH :][:WIDTH] for sample in pixel]
        number = 0
        for sample in samples:
            number = number << bits | sample
        rows += b"\0" + number.to_bytes((len(samples) * bits + 7) // 8, "big")
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, 0)),
            *(png_chunk(kind, body) for kind, body in chunks),
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        )
    )


def seen(picture: Image.Image, count: int) -> list[Pixel]:
    """The middle of each part, as RGBA."""
    shown = picture.convert("RGBA")
    found = []
    for part in range(count):
        first = -(-part * WIDTH * HEIGHT // count)
        after = -(-(part + 1) * WIDTH * HEIGHT // count)
        place = (first + after) // 2
        pixel = shown.getpixel((place % WIDTH, place // WIDTH))
        assert isinstance(pixel, tuple)
        found.append(tuple(int(sample) for sample in pixel))
    return found


def assert_alike(found: Pixel, expected: Sequence[float], apart: float = APART) -> None:
    assert found[3] == (expected[3] if len(expected) == 4 else OPAQUE)
    if found[3]:
        assert found[:3] == pytest.approx(tuple(expected)[:3], abs=apart)


def to_srgb(light: float) -> float:
    light = min(max(light, 0), 1)
    return 255 * (light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055)


def from_srgb(value: float) -> float:
    return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)


def mixed(
    matrix: Sequence[Sequence[float]], transfer: Callable[[float], float], pixel: Pixel, top: int
) -> Pixel:
    light = [transfer(sample / top) for sample in pixel[:3]]
    return tuple(
        round(to_srgb(sum(m * v for m, v in zip(row, light, strict=True)))) for row in matrix
    )


def a_profile(space: bytes, exponent: float) -> bytes:
    """Of grey, or of sRGB's lights, with a power as the curve."""
    curve = struct.pack(">4s4xIH2x", b"curv", 1, round(exponent * 256))
    tags = {b"wtpt": struct.pack(">4s4x3i", b"XYZ ", 63_190, 65_536, 54_061), b"kTRC": curve}
    if space == b"RGB ":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        (count,) = struct.unpack_from(">I", source, 128)
        for index in range(count):
            name, start, length = struct.unpack_from(">4sII", source, 132 + 12 * index)
            if name in (b"rXYZ", b"gXYZ", b"bXYZ"):
                tags[name] = source[start : start + length]
        tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    position = 132 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, position + len(bodies), len(body))
        bodies += body
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x3i48x",
        *(position + len(bodies), 0x02400000, b"mntr", space, b"XYZ ", b"acsp"),
        *(63_190, 65_536, 54_061),
    )
    return header + table + bodies


def icc(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"ICC\0\0" + zlib.compress(profile)


# What can be seen through

DESCRIPTIONS: dict[str, tuple[float, Callable[[int], tuple[bytes, bytes] | None]]] = {
    "nothing": (0, lambda _: None),
    "a profile": (1.8, lambda colour: icc(a_profile(b"RGB " if colour else b"GRAY", 1.8))),
    "gAMA": (1.0, lambda _: (b"gAMA", struct.pack(">I", 100_000))),
}
KEYS = [
    *((GREY, bits, (sample,)) for bits in (1, 2, 4, 8) for sample in {0, (1 << bits) - 1, 1}),
    *((GREY, 16, (sample,)) for sample in (0, 1, 255, 256, 0x8000, 0x1234, 65_535)),
    *((RGB, 8, key) for key in ((0, 0, 0), (255, 255, 255), (10, 20, 30))),
    *((RGB, 16, key) for key in ((0,) * 3, (0x8000,) * 3, (0x1234, 0x5678, 0x9ABC))),
]


@pytest.mark.parametrize("description", DESCRIPTIONS)
@pytest.mark.parametrize(("colour", "bits", "key"), KEYS)
async def test_a_transparent_colour_of_a_png_is_applied(
    process: Process, description: str, colour: int, bits: int, key: Pixel
) -> None:
    """Exactly that one: not its neighbours, and none that has only its high bytes."""
    exponent, describe = DESCRIPTIONS[description]
    top = (1 << bits) - 1
    near = [tuple(min(max(s + step, 0), top) for s in key) for step in (-1, 1, -255, 255)]
    other = [(*key[:-1], min(max(key[-1] + step, 0), top)) for step in (-1, 1)]
    pixels = [key, *near, key, *other, tuple(top - sample for sample in key)]
    unused_bits = 0 if bits == 16 else 0xFF00 << 8 >> 8 & ~top
    chunks = [(b"tRNS", struct.pack(f">{len(key)}H", *(sample | unused_bits for sample in key)))]
    if chunk := describe(colour):
        chunks.insert(0, chunk)

    processed = await process(png_of(pixels, colour, bits, *chunks))

    found = seen(opened(processed.original), len(pixels))
    for pixel, shown in zip(pixels, found, strict=True):
        wide = pixel * 3 if colour == GREY else pixel
        expected = [
            to_srgb((sample / top) ** exponent) if exponent else 255 * sample / top
            for sample in wide
        ]
        assert_alike(shown, (*expected, CLEAR if pixel == key else OPAQUE))


@pytest.mark.parametrize("description", DESCRIPTIONS)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
async def test_a_palette_with_transparency_is_applied(
    process: Process, description: str, bits: int
) -> None:
    exponent, describe = DESCRIPTIONS[description]
    colours = [(200, 100, 50), (20, 200, 120), (255, 255, 255), (0, 0, 0)][: 1 << bits]
    alphas = [CLEAR, 128, OPAQUE, 1][: 1 << bits]
    chunks = [
        (b"PLTE", bytes(sample for colour in colours for sample in colour)),
        (b"tRNS", bytes(alphas)),
    ]
    if chunk := describe(RGB):
        chunks.insert(0, chunk)
    pixels = [(index,) for index in range(len(colours))]

    processed = await process(png_of(pixels, PALETTE, bits, *chunks))

    found = seen(opened(processed.original), len(pixels))
    for colour, alpha, shown in zip(colours, alphas, found, strict=True):
        light = [to_srgb((s / 255) ** exponent) if exponent else s for s in colour]
        assert shown[3] == alpha
        if alpha > 1:
            assert shown[:3] == pytest.approx(light, abs=APART)


@pytest.mark.parametrize("wrong", [b"", b"\0", bytes(3), bytes(6)])
async def test_a_transparency_chunk_that_names_no_colour_is_ignored(
    process: Process, wrong: bytes
) -> None:
    processed = await process(png_of([(0,), (255,)], GREY, 8, (b"tRNS", wrong)))

    assert seen(opened(processed.original), 2) == [(0, 0, 0, 255), (255,) * 4]


@pytest.mark.parametrize("chunks", [(None, bytes(3)), (bytes(2), None)])
async def test_transparency_that_does_not_fit_the_palette_is_ignored(
    process: Process, chunks: Sequence[bytes | None]
) -> None:
    colours = (b"PLTE", bytes((200, 100, 50, 20, 200, 120)))
    described = [colours if chunk is None else (b"tRNS", chunk) for chunk in chunks]

    processed = await process(png_of([(0,), (1,)], PALETTE, 8, *described))

    found = seen(opened(processed.original), 2)
    assert found == [(200, 100, 50, OPAQUE), (20, 200, 120, OPAQUE)]


async def test_of_two_transparency_chunks_the_first_counts(process: Process) -> None:
    keys = [(b"tRNS", struct.pack(">H", key)) for key in (0, 255)]

    processed = await process(png_of([(0,), (255,)], GREY, 8, *keys))

    assert seen(opened(processed.original), 2) == [(0, 0, 0, CLEAR), (255,) * 4]


# Grey by a profile


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.6])
@pytest.mark.parametrize(
    ("colour", "bits"),
    [(GREY, 1), (GREY, 4), (GREY, 8), (GREY, 16), (GREY_ALPHA, 8), (GREY_ALPHA, 16)],
)
async def test_a_grey_profile_is_applied(
    process: Process, colour: int, bits: int, exponent: float
) -> None:
    top = (1 << bits) - 1
    greys = sorted({0, 1, *(top * part // 12 for part in range(13))})
    alphas = [top - grey for grey in greys] if colour == GREY_ALPHA else []
    pixels = list(zip(greys, alphas, strict=True)) if alphas else [(grey,) for grey in greys]

    processed = await process(png_of(pixels, colour, bits, icc(a_profile(b"GRAY", exponent))))

    found = seen(opened(processed.original), len(pixels))
    for index, (grey, shown) in enumerate(zip(greys, found, strict=True)):
        value = to_srgb((grey / top) ** exponent)
        alpha = round(255 * alphas[index] / top) if alphas else OPAQUE
        assert shown[3] == pytest.approx(alpha, abs=1 if bits == 16 else 0)
        if shown[3]:
            assert shown[:3] == pytest.approx((value,) * 3, abs=APART)


@pytest.mark.parametrize(
    ("image_format", "mode"), [("JPEG", "L"), ("JPEG", "RGB"), ("WEBP", "RGB")]
)
async def test_a_grey_profile_is_applied_to_grey_jpegs_only(
    process: Process, image_format: str, mode: str
) -> None:
    plain = Image.new(mode, (64, 48), 55 if mode == "L" else (55, 55, 55))
    data = encoded(plain, image_format, quality=100, icc_profile=a_profile(b"GRAY", 1.0))

    processed = await process(data)

    shown = opened(processed.original).convert("RGB").getpixel((20, 20))
    assert shown == pytest.approx((128,) * 3 if mode == "L" else (55,) * 3, abs=APART)


@pytest.mark.parametrize("colour", [GREY, GREY_ALPHA, RGB, RGBA])
async def test_a_profile_of_another_colour_space_is_ignored(process: Process, colour: int) -> None:
    space = b"RGB " if colour in (GREY, GREY_ALPHA) else b"GRAY"
    pixel = (100, 150, 200)[: 1 if space == b"RGB " else 3] + ((255,) if colour & 4 else ())
    profile = swapped_profile() if space == b"RGB " else a_profile(space, 1.0)

    processed = await process(png_of([pixel], colour, 8, icc(profile)))

    [shown] = seen(opened(processed.original), 1)
    assert_alike(shown, pixel[:3] if space == b"GRAY" else (100, 100, 100))


# Colours by numbers


def gama(value: int) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", value)


def chrm(values: Sequence[int]) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *values)


def cicp(
    primaries: int, transfer: int, matrix: int = 0, full_range: int = 1
) -> tuple[bytes, bytes]:
    return b"cICP", bytes((primaries, transfer, matrix, full_range))


SOME = [(200, 100, 50), (20, 30, 40), (255, 255, 255), (0, 0, 0), (128, 128, 128), (9, 5, 7)]
SOME_IN_16_BITS = [
    (51_400, 25_700, 12_850),
    (131, 100, 655),
    (65_535,) * 3,
    (0, 0, 0),
    (32_768,) * 3,
    (300, 20, 5_000),
]
IDENTITY = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
MEANT = {
    "gAMA of light itself": ([gama(100_000)], IDENTITY, lambda v: v),
    "gAMA of 1.8": ([gama(55_556)], IDENTITY, lambda v: v**1.8),
    "gAMA of Adobe RGB": ([gama(45_455), chrm(ADOBE_CHRM)], ADOBE_TO_SRGB, from_srgb),
    "cHRM alone": ([chrm(ADOBE_CHRM)], ADOBE_TO_SRGB, from_srgb),
    "cICP of Display P3": ([cicp(12, 13)], P3_TO_SRGB, from_srgb),
    "cICP of BT.2020": ([cicp(9, 13)], BT2020_TO_SRGB, from_srgb),
    "cICP of BT.2020 and light": ([cicp(9, 8)], BT2020_TO_SRGB, lambda v: v),
    "cICP with a gamma of 2.2": ([cicp(1, 4)], IDENTITY, lambda v: v**2.2),
    "cICP with a gamma of 2.8": ([cicp(12, 5)], P3_TO_SRGB, lambda v: v**2.8),
    "cICP before all others": (
        [cicp(12, 13), icc(swapped_profile()), (b"sRGB", b"\0"), gama(100_000)],
        P3_TO_SRGB,
        from_srgb,
    ),
    "sRGB before gAMA": ([(b"sRGB", b"\0"), gama(100_000), chrm(ADOBE_CHRM)], IDENTITY, from_srgb),
    "gAMA of sRGB": ([gama(45_455)], IDENTITY, from_srgb),
    "cICP of sRGB": ([cicp(1, 13), gama(100_000)], IDENTITY, from_srgb),
    "cICP of video": ([cicp(1, 1)], IDENTITY, from_srgb),
    "cICP that says nothing": ([cicp(2, 2), gama(100_000)], IDENTITY, lambda v: v),
    "cICP that cannot be": ([cicp(12, 13, 1), gama(100_000)], IDENTITY, lambda v: v),
    "gAMA without an end": ([gama(2**32 - 1)], IDENTITY, from_srgb),
    "iCCP of sRGB before gAMA": (
        [
            gama(100_000),
            chrm(ADOBE_CHRM),
            icc(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        ],
        IDENTITY,
        from_srgb,
    ),
    "cHRM that cannot be": ([gama(100_000), chrm((0,) * 8)], IDENTITY, lambda v: v),
    "gAMA that cannot be": ([gama(0)], IDENTITY, from_srgb),
    **{
        f"iCCP that {name}": ([(b"iCCP", body), gama(100_000)], IDENTITY, lambda v: v)
        for name, body in {
            "is empty": b"",
            "is broken": b"ICC\0\0broken",
            "has no name": b"\0\0" + zlib.compress(swapped_profile()),
            "has too long a name": b"N" * 80 + b"\0\0" + zlib.compress(swapped_profile()),
            "is packed by nobody knows what": b"ICC\0\1" + zlib.compress(swapped_profile()),
        }.items()
    },
}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("row", MEANT)
async def test_colours_described_by_chunks_are_converted(
    process: Process, row: str, bits: int
) -> None:
    chunks, matrix, transfer = MEANT[row]
    pixels, top = (SOME, 255) if bits == 8 else (SOME_IN_16_BITS, 65_535)

    processed = await process(png_of(pixels, RGB, bits, *chunks))

    found = seen(opened(processed.original), len(pixels))
    for pixel, shown in zip(pixels, found, strict=True):
        assert_alike(shown, mixed(matrix, transfer, pixel, top))
    kept = read_container(processed.original.data, max_pixels=WIDTH * HEIGHT)
    assert (kept.colour_profile, kept.colours) == (None, None)


@pytest.mark.parametrize("colour", [GREY, GREY_ALPHA, RGBA])
@pytest.mark.parametrize("bits", [8, 16])
async def test_grey_and_alpha_described_by_chunks_are_converted(
    process: Process, colour: int, bits: int
) -> None:
    top = (1 << bits) - 1
    parts = [(top // 5, top // 5, top // 5, top // 3), (top // 2,) * 3 + (top,)]
    pixels = [part if colour == RGBA else part[2:] if colour & 4 else part[:1] for part in parts]

    processed = await process(png_of(pixels, colour, bits, gama(100_000)))

    for part, shown in zip(parts, seen(opened(processed.original), 2), strict=True):
        expected = [to_srgb(sample / top) for sample in part[:3]]
        assert_alike(shown, (*expected, 255 * part[3] // top if colour & 4 else OPAQUE))


async def test_a_narrow_range_is_expanded(process: Process) -> None:
    pixels = [(16,) * 3, (126,) * 3, (235,) * 3, (0,) * 3, (255,) * 3]

    processed = await process(png_of(pixels, RGB, 8, cicp(1, 13, 0, 0)))

    found = [pixel[0] for pixel in seen(opened(processed.original), len(pixels))]
    assert found == pytest.approx([0, 128, 255, 0, 255], abs=APART)


# Brighter than white


def pq_of(nits: float) -> float:
    light = (nits / 10_000) ** (1305 / 8192)
    return float(((107 / 128 + 2413 / 128 * light) / (1 + 2392 / 128 * light)) ** (2523 / 32))


def hlg_of(nits: float) -> float:
    scene = (nits / 1_000) ** (1 / 1.2)
    if scene <= 1 / 12:
        return float((3 * scene) ** 0.5)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    low, high = 0.5, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (exp((middle - c) / a) + b) / 12 < scene else (low, middle)
    return low


@pytest.mark.parametrize(("transfer", "encode"), [(16, pq_of), (18, hlg_of)])
@pytest.mark.parametrize(("colour", "bits"), [(RGB, 16), (RGB, 8), (GREY, 16)])
async def test_203_nits_are_white(
    process: Process, transfer: int, encode: Callable[[float], float], colour: int, bits: int
) -> None:
    nits = [0, 2, 20, 50, 100, 150, 185, 203, 400, 1_000]
    top = (1 << bits) - 1
    pixels = [(round(encode(value) * top),) * CHANNELS[colour] for value in nits]

    processed = await process(png_of(pixels, colour, bits, cicp(9, transfer)))

    found = [pixel[0] for pixel in seen(opened(processed.original), len(nits))]
    assert found == sorted(found)
    exact = [to_srgb(value / 203) for value in nits[:-3]]
    assert found[:-3] == pytest.approx(exact, abs=2 if bits == 16 else 4)
    assert found[-3:] == pytest.approx([255] * 3, abs=3)


async def test_a_bright_colour_of_pq_keeps_its_hue(process: Process) -> None:
    pixel = tuple(round(pq_of(nits) * 65_535) for nits in (100, 20, 20))

    processed = await process(png_of([pixel], RGB, 16, cicp(9, 16)))

    [shown] = seen(opened(processed.original), 1)
    light = [nits / 203 for nits in (100, 20, 20)]
    expected = [
        to_srgb(sum(m * v for m, v in zip(row, light, strict=True))) for row in BT2020_TO_SRGB
    ]
    assert_alike(shown, expected)

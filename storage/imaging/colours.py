"""Colours that a file describes by numbers: the primaries, and the transfer from values to light.

PNG has them in `cICP`, or in `gAMA` and `cHRM`. They are converted to a profile, so that littleCMS
does the conversion.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp
from typing import Final, TypeAlias

Vector: TypeAlias = tuple[float, float, float]
Matrix: TypeAlias = tuple[Vector, Vector, Vector]

REFERENCE_WHITE_NITS: Final = 203.0
"""The luminance of the reference white in HDR, by ITU-R BT.2408."""
_PQ_NITS: Final = 10_000.0
_HLG_NITS: Final = 1_000.0
_HLG_GAMMA: Final = 1.2
_KNEE: Final = 0.95
"""Relative to the reference white: darker light is shown unchanged, brighter light is
compressed.
"""
_SRGB_GAMMA: Final = 1 / 2.2
_GAMMA_TOLERANCE: Final = 0.05
"""As in libpng: an exponent this close to that of sRGB is taken as sRGB."""
_CHROMATICITY_TOLERANCE: Final = 0.003
_D50: Final = (0.9642, 1.0, 0.8249)
_BRADFORD: Final = (
    (0.8951, 0.2664, -0.1614),
    (-0.7502, 1.7135, 0.0367),
    (0.0389, -0.0685, 1.0296),
)

Primaries: TypeAlias = tuple[float, ...]
"""x and y of white, red, green and blue, as `cHRM` has them."""
_D65: Final = (0.3127, 0.3290)
_C: Final = (0.310, 0.316)
BT709: Final[Primaries] = (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)
_SMPTE170: Final[Primaries] = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
_PRIMARIES: Final[dict[int, Primaries]] = {
    1: BT709,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: _SMPTE170,
    7: _SMPTE170,
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""Primaries by their numbers in ITU-T H.273."""


def _from_srgb(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _to_srgb(light: float) -> float:
    return light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


def _from_pq(value: float) -> float:
    root = value ** (32 / 2523)
    nits = _PQ_NITS * (max(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)) ** (8192 / 1305)
    return _tone_mapped(nits / REFERENCE_WHITE_NITS)


def _from_hlg(value: float) -> float:
    """Tone mapping of each channel alone: exact for greys, and the usual approximation
    for colours.
    """
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = value**2 / 3 if value <= 0.5 else (exp((value - c) / a) + b) / 12
    return _tone_mapped(_HLG_NITS * scene**_HLG_GAMMA / REFERENCE_WHITE_NITS)


def _tone_mapped(light: float) -> float:
    headroom = 1 - _KNEE
    return light if light <= _KNEE else _KNEE + headroom * (1 - exp((_KNEE - light) / headroom))


Transfer: TypeAlias = Callable[[float], float]
"""Converts a value to light, both from 0 to 1."""
SRGB: Final[Transfer] = _from_srgb
_TRANSFERS: Final[dict[int, Transfer]] = {
    # The transfers of video are meant for its displays, on which they look like sRGB.
    **dict.fromkeys((1, 6, 11, 13, 14, 15), SRGB),
    4: lambda value: value**2.2,
    5: lambda value: value**2.8,
    8: lambda value: value,
    16: _from_pq,
    17: lambda value: min(1.0, 52.37 / 48 * value**2.6),
    18: _from_hlg,
}
"""Transfers by their numbers in ITU-T H.273."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Colours:
    primaries: Primaries
    transfer: Transfer
    full_range: bool = True
    """Whether values use the full range. Otherwise black is 16 of 255, and white 235."""

    @property
    def is_srgb(self) -> bool:
        return self.transfer is SRGB and self.full_range and self.has_srgb_primaries

    @property
    def has_srgb_primaries(self) -> bool:
        differences = (abs(a - b) for a, b in zip(self.primaries, BT709, strict=True))
        return max(differences) <= _CHROMATICITY_TOLERANCE

    def light(self, count: int) -> list[float]:
        """The light of each of this many values, from 0 to 1."""
        values = (index / (count - 1) for index in range(count))
        if not self.full_range:
            values = (min(max((value * 255 - 16) / 219, 0.0), 1.0) for value in values)
        return [self.transfer(value) for value in values]

    def srgb(self, count: int) -> list[int]:
        """For each of this many values, the nearest value in 8 bits with the transfer of sRGB."""
        return [round(255 * _to_srgb(light)) for light in self.light(count)]

    def profile(self) -> bytes:
        """An ICC profile of version 2. Raise ValueError where the numbers describe no colours."""
        curve = _curve([round(65_535 * light) for light in self.light(256)])
        columns = map(_xyz, _transposed(_to_d50(self.primaries)))
        tags = {
            b"wtpt": _xyz(_D50),
            **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
            **dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)),
        }
        return _profile(b"RGB ", tags)


def colours_of_code_points(primaries: int, transfer: int, *, full_range: bool) -> Colours | None:
    """The colours by the numbers of ITU-T H.273; None where one of them is unknown or
    unspecified.
    """
    if primaries not in _PRIMARIES or transfer not in _TRANSFERS:
        return None
    return Colours(
        primaries=_PRIMARIES[primaries], transfer=_TRANSFERS[transfer], full_range=full_range
    )


def colours_of_gamma(gamma: float | None, primaries: Sequence[float] | None) -> Colours | None:
    """The colours of a PNG's `gAMA` and `cHRM`; None where they are missing or unusable."""
    transfer = SRGB
    if gamma is not None and abs(gamma / _SRGB_GAMMA - 1) > _GAMMA_TOLERANCE:
        transfer = _power(1 / gamma)
    colours = Colours(primaries=tuple(primaries or BT709), transfer=transfer)
    try:
        colours.profile()
    except (ValueError, ZeroDivisionError, struct.error):
        return Colours(primaries=BT709, transfer=transfer)
    return colours


def _power(exponent: float) -> Transfer:
    return lambda value: value**exponent


def _to_d50(primaries: Primaries) -> Matrix:
    """The matrix from linear light to XYZ below the white of all profiles."""
    white, *lights = (
        (x / y if y else x / 1e-9, 1.0, (1 - x - y) / y if y else (1 - x - y) / 1e-9)
        for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    columns = _transposed((lights[0], lights[1], lights[2]))
    amounts = _applied(_inverse(columns), white)
    unadapted: Matrix = _scaled(columns, amounts)
    source_cones, target_cones = _applied(_BRADFORD, white), _applied(_BRADFORD, _D50)
    ratio = (
        target_cones[0] / source_cones[0],
        target_cones[1] / source_cones[1],
        target_cones[2] / source_cones[2],
    )
    adapted = _multiplied(_inverse(_BRADFORD), _multiplied(_diagonal(ratio), _BRADFORD))
    return _multiplied(adapted, unadapted)


def _applied(matrix: Matrix, vector: Vector) -> Vector:
    a, b, c = (sum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix)
    return a, b, c


def _transposed(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    return (a, d, g), (b, e, h), (c, f, i)


def _diagonal(vector: Vector) -> Matrix:
    a, b, c = vector
    return (a, 0.0, 0.0), (0.0, b, 0.0), (0.0, 0.0, c)


def _multiplied(left: Matrix, right: Matrix) -> Matrix:
    a, b, c = (_applied(left, column) for column in _transposed(right))
    return _transposed((a, b, c))


def _scaled(matrix: Matrix, amounts: Vector) -> Matrix:
    return _multiplied(matrix, _diagonal(amounts))


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if abs(determinant) < 1e-12:
        raise ValueError("primaries in one line")
    return (
        (
            (e * i - f * h) / determinant,
            (c * h - b * i) / determinant,
            (b * f - c * e) / determinant,
        ),
        (
            (f * g - d * i) / determinant,
            (a * i - c * g) / determinant,
            (c * d - a * f) / determinant,
        ),
        (
            (d * h - e * g) / determinant,
            (b * g - a * h) / determinant,
            (a * e - b * d) / determinant,
        ),
    )


def _profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    position = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, position + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x",
        *(position + len(bodies), 0x02400000, b"mntr", space, b"XYZ ", b"acsp"),
        _xyz(_D50)[8:],
    )
    return header + table + bodies


def _curve(values: Sequence[int]) -> bytes:
    return struct.pack(f">4s4xI{len(values)}H", b"curv", len(values), *values)


def _xyz(values: Sequence[float]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65_536) for value in values))

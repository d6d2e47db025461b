"""Draws curves as SVG: both axes logarithmic, one line for each server."""

from collections.abc import Mapping
from html import escape
from math import ceil, floor, log10
from typing import Final

_WIDTH: Final = 640
_HEIGHT: Final = 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 110, 40, 48
_COLOURS: Final = ("#6b7280", "#2563eb", "#d97706", "#059669")
_STYLE: Final = (
    "text{font:12px sans-serif;fill:#374151}.title{font-weight:bold}.grid{stroke:#e5e7eb}"
    "path{fill:none;stroke-width:2}"
)


def draw(
    title: str, *, horizontal: str, vertical: str, lines: Mapping[str, Mapping[int, float]]
) -> str:
    """An SVG of 640 × 360 pixels. Sizes and values are above 0."""
    sizes = sorted({size for points in lines.values() for size in points})
    values = [value for points in lines.values() for value in points.values()]
    left, right = log10(sizes[0]), max(log10(sizes[-1]), log10(sizes[0]) + 0.1)
    low, high = floor(log10(min(values))), ceil(log10(max(values)))

    def x(size: float) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        return round(_LEFT + width * (log10(size) - left) / (right - left), 1)

    def y(value: float) -> float:
        height = _HEIGHT - _TOP - _BOTTOM
        return round(_HEIGHT - _BOTTOM - height * (log10(value) - low) / max(high - low, 1), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text class="title" x="{_LEFT}" y="22">{escape(title)}: {escape(vertical)}</text>',
    ]
    for exponent in range(low, high + 1):
        at = y(10.0**exponent)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {at}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 8}" y="{at + 4}" text-anchor="end">{10.0**exponent:,g}</text>'
        )
    for size in sizes:
        parts.append(
            f'<text x="{x(size)}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{size:,}</text>'
        )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(horizontal)}</text>'
    )
    for (name, points), colour in zip(lines.items(), _COLOURS, strict=False):
        path = "L".join(f"{x(size)} {y(value)}" for size, value in sorted(points.items()))
        last = max(points)
        parts.append(
            f'<path stroke="{colour}" d="M{path}"/>'
            f'<text x="{x(last) + 8}" y="{y(points[last]) + 4}" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
    return "".join([*parts, "</svg>\n"])

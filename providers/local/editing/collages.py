"""Combines several pictures into one."""

from PIL import Image

from providers.local.editing.textures import Size

_PAPER = (248, 246, 240)


def cover(picture: Image.Image, size: Size) -> Image.Image:
    """The middle of the picture in exactly this size: cropped to the shape, never distorted."""
    if picture.size == size:
        return picture
    scale = max(size[0] / picture.width, size[1] / picture.height)
    across, down = min(picture.width, size[0] / scale), min(picture.height, size[1] / scale)
    left, top = (picture.width - across) / 2, (picture.height - down) / 2
    return picture.resize(
        size, Image.Resampling.LANCZOS, box=(left, top, left + across, top + down), reducing_gap=3.0
    )


def places(count: int, size: Size) -> list[tuple[int, int, int, int]]:
    """The boxes (left, top, right, bottom) of `count` pictures on a sheet, in rows of nearly equal
    length: the grid whose cells are closest to a square.
    """

    def narrowness(rows: int) -> float:
        across = -(-count // rows)
        shape = (size[0] / across) / (size[1] / rows)
        return max(shape, 1 / shape)

    rows = min(range(1, count + 1), key=narrowness)
    gap = max(2, round(0.012 * min(size)))
    boxes = []
    for row in range(rows):
        first, last = count * row // rows, count * (row + 1) // rows
        top = gap + (size[1] - gap) * row // rows
        bottom = (size[1] - gap) * (row + 1) // rows
        for column in range(last - first):
            left = gap + (size[0] - gap) * column // (last - first)
            right = (size[0] - gap) * (column + 1) // (last - first)
            boxes.append((left, top, max(left + 1, right), max(top + 1, bottom)))
    return boxes


def sheet(size: Size) -> Image.Image:
    return Image.new("RGB", size, _PAPER)


def lay(onto: Image.Image, picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    onto.paste(cover(picture, (box[2] - box[0], box[3] - box[1])), box[:2])


def expose(onto: Image.Image, picture: Image.Image, *, before: int) -> Image.Image:
    """Blend one more picture into one that is the blend of `before` pictures."""
    return Image.blend(onto, cover(picture, onto.size), 1 / (before + 1))

"""For developers: make the sample images that new viewers find in development.

`python -m commands.make_samples` paints them with the local models and writes the files of
`storage/imaging/sample_images/`, which are committed. Run it when the local models change.
"""

import asyncio
import json
import sys
import tempfile
from argparse import ArgumentParser
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image

from commands.console import run_main
from domain.generation import GenerationRequest, SilentObserver
from domain.models import AspectRatio, ImageFormat, ImageModel, Resolution
from domain.signing import Signer
from providers.catalogue import load_catalogue
from providers.local.provider import LocalProvider
from storage.imaging.renditions import THUMBNAIL_WIDTHS
from storage.imaging.samples import FOLDER, INDEX
from storage.imaging.thumbhash import thumbhash_of
from storage.objects.folder import FolderObjectStore

SAMPLES: Final = (
    # A gallery shows the newest first, which is the last of these.
    ("city", "local-ink", "A city at night in the rain", AspectRatio(4, 5)),
    ("poppies", "local-silver", "A field of poppies on a clear morning", AspectRatio(1, 1)),
    ("mountains", "local-ink", "Snowy mountains and a forest under the moon", AspectRatio(3, 2)),
    ("lighthouse", "local-silver", "A lighthouse above the sea at sunset", AspectRatio(16, 9)),
)
MAX_BYTES: Final = 400_000
"""The size of all files together: each viewer has a copy, and so has each clone."""
_QUALITY: Final = 60
_PLACEHOLDER_SIDE: Final = 32


def main(arguments: list[str]) -> int:
    """Make the samples. Return 1 if they are too large."""
    ArgumentParser(prog="python -m commands.make_samples", description=__doc__).parse_args(
        arguments
    )
    return asyncio.run(_run())


async def _run() -> int:
    registry = load_catalogue(rehearsals=False, with_credentials={"local"})
    models: dict[str, ImageModel] = {model.id: model for model in registry.all()}
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        store = FolderObjectStore(Path(folder), public_url="", signer=Signer(b"unused"))
        provider = LocalProvider(store)
        try:
            index = [
                _write(
                    name,
                    await _paint(provider, prompt, ratio=ratio, model=models[model]),
                    prompt=prompt,
                    model=models[model],
                )
                for name, model, prompt, ratio in SAMPLES
            ]
        finally:
            await provider.aclose()
            await store.aclose()
    (FOLDER / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    size = sum(file.stat().st_size for file in FOLDER.iterdir())
    print(f"{len(index)} samples, {size:,} bytes in {FOLDER}")
    return 0 if size <= MAX_BYTES else 1


async def _paint(
    provider: LocalProvider, prompt: str, *, ratio: AspectRatio, model: ImageModel
) -> Image.Image:
    request = GenerationRequest(
        attempt=1,
        model=model,
        prompt=prompt,
        references=(),
        aspect_ratio=ratio,
        resolution=Resolution.ONE_K,
        format=ImageFormat.PNG,
        seconds_left=model.deadline.total_seconds(),
    )
    delivery = await provider.generate(request, SilentObserver())
    return Image.open(BytesIO(delivery.images[0].data)).convert("RGB")


def _write(name: str, picture: Image.Image, *, prompt: str, model: ImageModel) -> dict[str, Any]:
    thumbnails = [
        _write_file(f"{name}-{width}w.webp", _resize(picture, width))
        for width in THUMBNAIL_WIDTHS
        if width < picture.width
    ]
    return {
        "prompt": prompt,
        "model": model.id,
        "thumbhash": _make_thumbhash(picture),
        "original": _write_file(f"{name}.webp", picture),
        "thumbnails": thumbnails,
    }


def _write_file(name: str, picture: Image.Image) -> dict[str, Any]:
    picture.save(FOLDER / name, "WEBP", quality=_QUALITY, method=6)
    return {"name": name, "width": picture.width, "height": picture.height}


def _resize(picture: Image.Image, width: int) -> Image.Image:
    height = round(picture.height * width / picture.width)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def _make_thumbhash(picture: Image.Image) -> str:
    small = picture.convert("RGBA")
    small.thumbnail((_PLACEHOLDER_SIDE, _PLACEHOLDER_SIDE))
    return b64encode(thumbhash_of(small.width, small.height, small.tobytes())).decode()


if __name__ == "__main__":
    sys.exit(run_main(main))

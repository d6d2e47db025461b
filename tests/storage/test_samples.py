"""The shipped sample images: small, complete, and by models that exist."""

from io import BytesIO

from PIL import Image

from commands.make_samples import MAX_BYTES
from commands.make_samples import SAMPLES as MADE
from domain.images import DigitalSourceType, Provenance, Rendition
from providers.catalogue import load_catalogue
from storage.imaging.containers import read_container
from storage.imaging.provenance import mark
from storage.imaging.renditions import THUMBNAIL_WIDTHS, process
from storage.imaging.samples import FOLDER, load_samples


def test_the_files_are_those_of_the_script_and_are_small() -> None:
    samples = load_samples()

    assert [(sample.model_id, sample.prompt) for sample in samples] == [
        (model, prompt) for _, model, prompt, _ in MADE
    ]
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= MAX_BYTES
    assert len(list(FOLDER.iterdir())) == 1 + sum(
        1 + len(sample.image.thumbnails) for sample in samples
    )


def test_the_models_of_the_samples_are_in_the_catalogue() -> None:
    registry = load_catalogue(rehearsals=False, with_credentials={"local"})

    models = {model.id for model in registry.all() if model.available}

    assert {sample.model_id for sample in load_samples()} <= models


def test_each_sample_equals_the_output_of_the_image_pipeline() -> None:
    for sample in load_samples():
        image = sample.image
        for rendition in (image.original, *image.thumbnails):
            assert _size(rendition) == (rendition.width, rendition.height)
        widths = [thumbnail.width for thumbnail in image.thumbnails]
        assert widths == [width for width in THUMBNAIL_WIDTHS if width < image.original.width]

        container = read_container(image.original.data, max_pixels=10_000_000)
        processed = process(container)

        # No metadata to remove but the mark of how it was made, and the same sizes.
        source = DigitalSourceType.TRAINED_ALGORITHMIC_MEDIA
        assert (
            mark(processed, source, delivered=image.original.data, bare=container.data).original
            == image.original
        )
        assert image.provenance == Provenance(source, content_credentials=False)
        assert [_size(one) for one in processed.thumbnails] == [
            _size(one) for one in image.thumbnails
        ]
        assert len(image.thumbhash) in range(20, 40)


def _size(rendition: Rendition) -> tuple[int, int]:
    picture = Image.open(BytesIO(rendition.data))
    picture.load()
    assert picture.format == "WEBP"
    return picture.size

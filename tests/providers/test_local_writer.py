"""The local caption model, and the rehearsal caption models."""

import asyncio

import pytest

from domain.errors import GenerationErrorCode, GenerationFailed
from providers.local.language.captions import guess_language
from providers.local.writer import LocalWriter, compose_caption
from providers.rehearsal import RehearsalWriter
from tests.providers.writers import MESSAGE, WritingWitness, a_caption, model_of, rows_of

Code = GenerationErrorCode


@pytest.mark.parametrize(
    ("message", "caption"),
    [
        ("Our new lavender soap", "Our new lavender soap."),
        (
            "Write an Instagram post about our new lavender soap, launching on Friday",
            "Our new lavender soap, launching on Friday.",
        ),
        ("Could you please write a caption for my cat in the sun?", "My cat in the sun?"),
        ("I want you to create a post announcing our sale, please", "Our sale."),
        ("We open at 9. Bring a friend!", "We open at 9. Bring a friend!"),
        ("Posters and posts only", "Posters and posts only."),
        ("Crie um post sobre o nosso café gelado", "O nosso café gelado."),
        (
            "Por favor, faça uma postagem para o Dia das Mães",
            "O Dia das Mães.",
        ),
        ("Quero que você escreva uma legenda sobre a feira, por favor", "A feira."),
        ("Generate a post", "Generate a post."),
        ("Write a short, funny post about Mondays", "Mondays."),
        ("Crie uma bela e curta postagem sobre segundas", "Segundas."),
        (
            "Create a post about our soap. Use a friendly tone. Add three hashtags!",
            "Our soap.",
        ),
        (
            "Crie um post sobre o café. Escreva em português, num tom leve. R$ 12 até sábado.",
            "O café. R$ 12 até sábado.",
        ),
        ("Use our code SOAP10 for 10% off", "Use our code SOAP10 for 10% off."),
        ("Keep it short", "Keep it short."),
        ("A post about @Image1 and the sea", "The sea."),
        ("Unser neues Brot ist da", "Unser neues Brot ist da."),
        ("https://example.com/Soap is our new page", "https://example.com/Soap is our new page."),
        ("iPhones at half price", "iPhones at half price."),
        ("新しい石鹸です", "新しい石鹸です."),
        ("☕🎉", "☕🎉"),
        ("#soap from #Lisbon", "Soap from Lisbon."),
        ("#soap", "Soap."),
    ],
)
def test_a_caption_uses_words_of_the_message(message: str, caption: str) -> None:
    assert compose_caption(a_caption(message)) == caption


@pytest.mark.parametrize(
    ("message", "prompts", "caption"),
    [
        (
            "Our new soap is here",
            ("a bar of soap on a wooden table. Photorealistic, 8k",),
            "Our new soap is here. In the picture: a bar of soap on a wooden table.",
        ),
        (
            "Our new soap is here",
            ("A bar of soap", "the sea at dawn", "a third one"),
            "Our new soap is here. In the pictures: a bar of soap; the sea at dawn.",
        ),
        ("Our new soap is here", ("make it warmer", "☀"), "Our new soap is here."),
        (
            "Nosso sabonete já está à venda",
            ("a bar of the soap",),
            "Nosso sabonete já está à venda.",
        ),
        (
            "Nosso sabonete já está à venda",
            ("um sabonete na mesa",),
            "Nosso sabonete já está à venda. Na imagem: um sabonete na mesa.",
        ),
        ("Unser Brot ist da", ("a loaf",), "Unser Brot ist da."),
        (
            "Make a caption for this picture",
            ("a dog on the beach at sunset, 85mm, natural light",),
            "A dog on the beach at sunset.",
        ),
        ("@Image1", ("a dog on the beach",), "A dog on the beach."),
        ("@Image1 @Image2", ("make it warmer",), "@Image1 @Image2."),
        (
            "The new menu",
            ("a plate of figs, photorealistic, with honey, 8k",),
            "The new menu. In the picture: a plate of figs, with honey.",
        ),
    ],
)
def test_a_caption_describes_the_references(
    message: str, prompts: tuple[str, ...], caption: str
) -> None:
    assert compose_caption(a_caption(message, prompts=prompts)) == caption


@pytest.mark.parametrize(
    ("message", "language"),
    [
        ("Our new soap and the sea", "en"),
        ("Nosso novo sabonete e o mar", "pt"),
        ("Promoção de verão", "pt"),
        ("Nuestro jabón y el mar", None),
        ("Unser neues Brot ist da", None),
        ("Notre savon et la mer", None),
        ("Wir eröffnen in Köln", None),
        ("Sapone nuovo in offerta", None),
        ("Onze winkel in Amsterdam is open", None),
        ("The shop in Berlin is open", "en"),
        ("", None),
    ],
)
def test_english_and_portuguese_are_detected(message: str, language: str | None) -> None:
    assert guess_language(message) == language


def test_tone_hashtags_and_length_are_respected() -> None:
    assert compose_caption(a_caption(tone="playful")) == "Our new lavender soap!"
    assert compose_caption(a_caption(tone="a warm one")) == (
        "Our new lavender soap. We are glad to share it with you."
    )
    assert compose_caption(a_caption(hashtags=2)) == "Our new lavender soap.\n#lavender #soap"
    linked = a_caption("Our soap: www.example.com/a", hashtags=3)
    assert compose_caption(linked) == "Our soap: www.example.com/a.\n#soap"
    foreign = a_caption("Wir eröffnen in Köln", tone="warm")
    assert compose_caption(foreign) == "Wir eröffnen in Köln."
    long = a_caption("Our new soap is here. " * 20, max_length=50)
    assert compose_caption(long) == "Our new soap is here. Our new soap is here."


def test_a_caption_is_in_the_requested_language() -> None:
    request = a_caption("Lavanda", prompts=("um sabonete na mesa",), language="pt-BR")

    assert compose_caption(request) == "Lavanda. Na imagem: um sabonete na mesa."


def test_another_attempt_differs_and_the_same_attempt_is_identical() -> None:
    requests = [a_caption("Our new soap is here", attempt=attempt) for attempt in (1, 2, 3, 4)]

    captions = [compose_caption(request) for request in requests]

    assert len(set(captions)) == 3
    assert captions[0] == captions[3]
    assert captions == [compose_caption(request) for request in requests]


async def test_a_caption_grows_word_by_word_without_network() -> None:
    witness = WritingWitness()

    delivery = await LocalWriter(pace=0).write(a_caption(), witness)

    assert delivery.text == "Our new lavender soap."
    assert witness.texts == ["Our", "Our new", "Our new lavender"]
    assert "submitting" not in witness.events


def _rehearse(model: str, witness: WritingWitness, *, attempt: int = 1) -> asyncio.Task[str]:
    async def write() -> str:
        writer = RehearsalWriter(compose_caption, pace=0)
        request = a_caption(model=model_of(model, "rehearsal"), attempt=attempt)
        return (await writer.write(request, witness)).text

    return asyncio.create_task(write())


def test_every_rehearsal_caption_model_is_implemented() -> None:
    assert len(rows_of("rehearsal")) == 5


async def test_the_slow_model_writes_in_many_pieces() -> None:
    witness = WritingWitness()

    assert await _rehearse("rehearsal-caption-slow", witness) == "Our new lavender soap."
    assert len(witness.texts) > 10
    assert all("Our new lavender soap.".startswith(text) for text in witness.texts)


@pytest.mark.parametrize("model", ["rehearsal-caption-fails", "rehearsal-caption-fails-once"])
async def test_the_failing_model_has_written_half(model: str) -> None:
    witness = WritingWitness()

    with pytest.raises(GenerationFailed) as failed:
        await _rehearse(model, witness)

    assert (failed.value.code, failed.value.retryable) == (Code.PROVIDER_UNAVAILABLE, True)
    assert witness.texts[-1] == "Our new lav"


async def test_the_model_that_fails_once_delivers_at_a_retry() -> None:
    caption = await _rehearse("rehearsal-caption-fails-once", WritingWitness(), attempt=2)

    assert caption.startswith(MESSAGE)


async def test_the_refusing_model_refuses() -> None:
    with pytest.raises(GenerationFailed) as failed:
        await _rehearse("rehearsal-caption-refuses", WritingWitness())

    assert (failed.value.code, failed.value.retryable) == (Code.CONTENT_REFUSED, False)


async def test_the_hanging_model_ends_with_its_task() -> None:
    witness = WritingWitness()
    run = _rehearse("rehearsal-caption-hangs", witness)
    await asyncio.wait_for(witness.has_text.wait(), 5)

    run.cancel()
    await asyncio.wait({run}, timeout=5)

    assert run.cancelled()

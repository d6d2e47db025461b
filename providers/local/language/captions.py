"""Composes captions from the viewer's message and the prompts of the references.

Nothing is invented, so a caption has few sentences. Function words show whether a message is
English or Portuguese; in any other language, the caption has only the message's own words.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from domain.text import one_line, shorten

LANGUAGES: Final = ("en", "pt")

_MAX_PROMPTS: Final = 2
_MAX_PROMPT_LENGTH: Final = 100
_MIN_HASHTAG_LENGTH: Final = 4

_MENTION: Final = re.compile(
    r"\s*(?:\b(?:with|using|from|like|of|com|usando|de|como)\s+)?(?<!\w)@image[0-9]+(?!\w)",
    re.IGNORECASE,
)
_LINK: Final = re.compile(r"\S*(?:://|www\.)\S+", re.IGNORECASE)
_HASH: Final = re.compile(r"#(?=\w)")
"""Hashtags are for the end of a caption, and only if they are asked for."""
_JOINING: Final = re.compile(r"^(?:and|or|e|ou)\s+", re.IGNORECASE)
"""What remains at the beginning of a list after its mentions have been removed."""
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_ENDS: Final = (".", "!", "?", "…", ":", ";")
_SENTENCE: Final = re.compile(r"(?<=[.!?…])\s+")

_POST_NOUN = (
    r"(?:(?:instagram|facebook|linkedin|tiktok|social media|short|brief|nice|new|little|simple|fun"
    r"|curt[oa]|breve|simples|nov[oa]|bonit[oa])\s+)*"
    r"(?:posts?|captions?|publications?|texts?|pictures?|images?|photos?"
    r"|postage(?:m|ns)|publicaç(?:ão|ões)|legendas?|textos?|image(?:m|ns)|fotos?)"
    r"(?:\s+(?:for|on|para(?: o)?|no|do)\s+(?:instagram|facebook|linkedin|tiktok))?"
)
_REQUESTS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"^(?:please,?\s+)?"
        r"(?:(?:can|could) you\s+(?:please\s+)?|i(?:['’]d| would) like (?:you )?to\s+"
        r"|i (?:want|need)\s+(?:you to\s+|to\s+)?)?"
        r"(?:(?:write|create|make|generate|prepare|draft|post|publish)(?:\s+(?:me|us))?\s+"
        r"(?:an?|the|some|one)?\s*(?:[\w-]+,?\s+){0,3}?|(?:an?|the|some|one)?\s*)"
        rf"{_POST_NOUN}"
        r"(?:\s+(?:about|for|on|of|announcing|to announce|promoting|to promote|showing)\b:?|:)\s*",
        r"^(?:por favor,?\s+)?"
        r"(?:(?:você )?(?:pode|poderia)\s+|(?:eu )?(?:quero|gostaria de|preciso de)\s+"
        r"(?:que você\s+)?)?"
        r"(?:(?:cri(?:e|ar|a)|escrev(?:a|er|e)|faça|fazer|faz|ger(?:e|ar)|monte|prepare|publique"
        r"|poste)(?:-me)?\s+(?:uma?|[oa]s?|alguma?s?)?\s*(?:[\w-]+,?\s+){0,3}?"
        r"|(?:uma?|[oa]s?|alguma?s?)?\s*)"
        rf"{_POST_NOUN}"
        r"(?:\s+(?:sobre|para|anunciando|para anunciar|divulgando|mostrando|d[eoa]s?)\b:?|:)\s*",
    )
)
"""A request for a post at the beginning of a message, before its topic."""
_WRITING_INSTRUCTION: Final = re.compile(
    r"(?:please,?\s+|por favor,?\s+)?"
    r"(?:use|keep|make it|write|add|include|avoid|do not|don['’]t|no|mantenha|escreva|adicione"
    r"|inclua|evite|não|faça|sem)\b.*"
    r"\b(?:tone|hashtags?|emojis?|caption|characters|words|short|brief|english|portuguese|style"
    r"|tom|legenda|caracteres|palavras|curt[oa]|breve|inglês|português|estilo)\b.*",
    re.IGNORECASE,
)
"""A sentence that only says how to write the post."""
_COURTESY: Final = re.compile(
    r"[,;]?\s*(?:please|thanks|thank you|por favor|obrigad[oa])[.!]*$", re.IGNORECASE
)
_REFERENCE_TO_IMAGE: Final = re.compile(
    r"(?:this|the|these|esta|essa|a|estas|essas|as)\s+"
    r"(?:pictures?|images?|photos?|imagem|imagens|fotos?)[.!]?",
    re.IGNORECASE,
)
"""A topic that only refers to the references, such as "this photo"."""
_PHOTOGRAPHY_TERMS: Final = re.compile(
    r"\b(?:photo(?:graph[a-z]*|realis[a-z]*)?|[248]k|hd|uhd|\d+ ?mm|f/\d|bokeh|render(?:ed|ing)?"
    r"|(?:studio|soft|natural|cinematic) light(?:ing)?|(?:highly |ultra[- ]?)detailed|realistic"
    r"|fotografia[a-zà-ú ]*|realista|luz de estúdio)\b",
    re.IGNORECASE,
)
"""Terms in a prompt about photography, instead of the subject."""
_EDIT_VERBS: Final = frozenset(
    {
        *("make", "add", "put", "change", "turn", "remove", "delete", "replace", "crop", "set"),
        *("give", "use", "keep", "let", "blur", "sharpen", "undo"),
        *("deixe", "adicione", "coloque", "mude", "troque", "remova", "tire", "substitua", "use"),
    }
)
"""A prompt that begins with one of these describes an edit, not a picture."""

_SMALL_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "en": frozenset(
        {
            *("the", "of", "and", "for", "with", "our", "your", "on", "in", "is", "are"),
            *("this", "that", "to", "from", "about", "we", "you", "it", "new", "at", "by"),
            *("an", "be", "who", "how", "when", "what", "write", "create", "please"),
            *("his", "her", "they", "not", "has", "was", "will", "can", "all", "out", "up", "its"),
        }
    ),
    "pt": frozenset(
        {
            *("os", "um", "uma", "dos", "das", "para", "com", "nosso", "nossa", "nossos"),
            *("nossas", "seu", "sua", "em", "na", "nas", "nos", "é", "são", "novo", "nova"),
            *("este", "esta", "isso", "sobre", "que", "não", "ao", "pela", "pelo", "mais"),
            *("você", "ou", "crie", "escreva", "faça", "já", "às", "à"),
        }
    ),
    "es": frozenset(
        {
            *("el", "los", "las", "una", "con", "nuestro", "nuestra", "su", "y", "es", "son"),
            *("del", "al", "por", "más", "qué", "está"),
        }
    ),
    "fr": frozenset(
        {
            *("le", "les", "une", "des", "du", "et", "pour", "avec", "notre", "nos", "votre"),
            *("sur", "est", "dans", "qui", "au", "aux"),
        }
    ),
    "it": frozenset(
        {
            *("il", "gli", "una", "di", "e", "per", "con", "nostro", "nostra", "sul", "è"),
            *("sono", "della", "dello", "che", "nel", "in"),
        }
    ),
    "de": frozenset(
        {
            *("der", "die", "das", "und", "für", "mit", "unser", "unsere", "ein", "eine"),
            *("ist", "im", "am", "zum", "von", "auf", "in", "wir", "sie", "uns"),
        }
    ),
    "nl": frozenset(
        {
            *("het", "een", "van", "en", "op", "met", "voor", "onze", "ons", "jouw", "wij"),
            *("in", "is", "we", "zijn", "naar"),
        }
    ),
}
_PORTUGUESE_LETTERS: Final = re.compile(r"[ãõ]|ção|ções", re.IGNORECASE)

_STOP_WORDS: Final = frozenset(
    {
        *(word for words in _SMALL_WORDS.values() for word in words),
        *("have", "just", "more", "there", "their", "than", "then", "into", "also", "quando"),
        *("onde", "como", "muito", "pelos", "pelas", "essa", "esse", "next", "last", "toda"),
        *("todo", "cada"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sentences:
    """The phrases that are added to the viewer's own words, in one language."""

    language: str
    picture: str
    pictures: str
    today: str
    look: str
    warm: str
    curious: str


_SENTENCES: Final = {
    "en": _Sentences(
        language="en",
        picture="In the picture: {}.",
        pictures="In the pictures: {}.",
        today="Today: {}",
        look="Have a look.",
        warm="We are glad to share it with you.",
        curious="What do you think?",
    ),
    "pt": _Sentences(
        language="pt",
        picture="Na imagem: {}.",
        pictures="Nas imagens: {}.",
        today="Hoje: {}",
        look="Veja só.",
        warm="Ficamos felizes em mostrar para você.",
        curious="O que você acha?",
    ),
}
_WARM: Final = re.compile(r"warm|friendl|kind|welcom|calor|amig|acolh|carinh", re.IGNORECASE)
_CURIOUS: Final = re.compile(r"curious|question|engag|conversa|curios|pergunt", re.IGNORECASE)
_LIVELY: Final = re.compile(
    r"play|fun|excit|energ|joy|lively|divert|anima|alegr|empolg", re.IGNORECASE
)


def compose(
    message: str,
    prompts: Sequence[str],
    *,
    language: str | None,
    tone: str | None,
    hashtags: int,
    attempt: int,
) -> str:
    """A caption for this message: the same for the same input. The first three attempts differ.

    `language` is one of `LANGUAGES`, or None for the language of the message.
    """
    topic = _topic_of(message)
    language = language or guess_language(message)
    if not topic or _REFERENCE_TO_IMAGE.fullmatch(topic):
        described = filter(None, map(_description_of, prompts))
        topic, prompts = next(described, topic or one_line(message)), ()
    sentences = [_make_sentence(topic, is_lively=bool(_LIVELY.search(tone or "")))]
    words = _SENTENCES.get(language or "")
    if words is not None:
        sentences = _add_prompts(sentences, prompts, words, attempt=attempt)
        if _WARM.search(tone or ""):
            sentences.append(words.warm)
        elif _CURIOUS.search(tone or ""):
            sentences.append(words.curious)
    text = " ".join(sentences)
    tags = _hashtags_of([topic, *prompts], hashtags)
    return f"{text}\n{' '.join(tags)}" if tags else text


def guess_language(message: str) -> str | None:
    """One of `LANGUAGES`, or None for another one."""
    words = [word.casefold() for word in _WORD.findall(message)]
    scores = {
        language: sum(word in small for word in words) for language, small in _SMALL_WORDS.items()
    }
    scores["pt"] += 2 * len(_PORTUGUESE_LETTERS.findall(message))
    best = max(LANGUAGES, key=lambda language: scores[language])
    # Many words exist in several languages: nothing is added where the language is uncertain.
    others = max(scores[language] for language in scores if language not in LANGUAGES)
    return best if scores[best] > others else None


def _add_prompts(
    sentences: Sequence[str], prompts: Iterable[str], words: _Sentences, *, attempt: int
) -> list[str]:
    topic, *_ = sentences
    known = [prompt for prompt in prompts if guess_language(prompt) in (words.language, None)]
    described = list(dict.fromkeys(filter(None, map(_description_of, known))))[:_MAX_PROMPTS]
    form = (attempt - 1) % 3
    if described:
        pattern = words.picture if len(described) == 1 else words.pictures
        picture = pattern.format("; ".join(described))
        return [picture, topic] if form == 1 else [topic, picture]
    if form == 1:
        return [topic, words.look]
    return [words.today.format(_lower_first_letter(topic))] if form == 2 else [topic]


def _topic_of(message: str) -> str:
    """What the post is about, in the viewer's words; empty if it only mentions references."""
    topic = one_line(_HASH.sub("", _MENTION.sub("", message)))
    kept = [one for one in _SENTENCE.split(topic) if not _WRITING_INSTRUCTION.fullmatch(one)]
    topic = _COURTESY.sub("", " ".join(kept) or topic)
    for request in _REQUESTS:
        rest = request.sub("", topic, count=1)
        if rest != topic and _WORD.search(rest):
            topic = rest
            break
    return _JOINING.sub("", topic.strip(" ,;:-–—"))


def _make_sentence(topic: str, *, is_lively: bool) -> str:
    first = topic.split(" ", 1)[0]
    is_plain = first == first.lower() and not _LINK.match(first)
    sentence = topic[:1].upper() + topic[1:] if is_plain else topic
    end = "!" if is_lively else "."
    if not _WORD.search(sentence):
        return sentence
    if not sentence.endswith(_ENDS):
        return sentence + end
    return sentence.removesuffix(".") + "!" if is_lively and sentence.endswith(".") else sentence


def _lower_first_letter(topic: str) -> str:
    """The text with a lower-case first letter, unless the first word is in capitals."""
    first = topic.split(" ", 1)[0]
    return topic[:1].lower() + topic[1:] if first[1:].islower() or len(first) == 1 else topic


def _description_of(prompt: str) -> str:
    """The subject that a prompt describes; empty if the prompt is an edit."""
    first = _SENTENCE.split(one_line(_MENTION.sub("", prompt)), maxsplit=1)[0]
    words = _WORD.findall(first)
    if not words or words[0].casefold() in _EDIT_VERBS:
        return ""
    first, *others = _topic_of(first).rstrip(".!?… ").split(", ")
    described = ", ".join([first, *(one for one in others if not _PHOTOGRAPHY_TERMS.search(one))])
    if len(described) > _MAX_PROMPT_LENGTH:
        described = shorten(described, _MAX_PROMPT_LENGTH).rsplit(" ", 1)[0].rstrip(" ,;:-")
    return _lower_first_letter(described)


def _hashtags_of(texts: Iterable[str], most: int) -> list[str]:
    """The first words that are not stop words, each once."""
    words = (word for text in texts for word in _WORD.findall(_LINK.sub(" ", text)))
    telling = (
        word.replace("-", "").lower()
        for word in words
        if len(word) >= _MIN_HASHTAG_LENGTH and word.casefold() not in _STOP_WORDS
        # What has an apostrophe is mostly two words.
        if not re.search("['’]", word)
    )
    return [f"#{word}" for word in dict.fromkeys(telling)][:most]

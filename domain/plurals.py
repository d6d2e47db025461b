"""Numbers with their nouns, for messages: `1 credit`, `2 credits`."""


def count(number: int, noun: str) -> str:
    """`noun` forms its plural with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

"""What providers say about the tokens that a run has used."""

from collections.abc import Sequence

from domain.outputs import Usage

_MAX_COUNT = 2**31


def usage_of(
    reported: object, *, input_name: str, output_names: Sequence[str], total_name: str
) -> Usage | None:
    """The counts under these names; None where nothing is said. Outputs of several kinds add up."""
    if not isinstance(reported, dict):
        return None
    outputs = [count for name in output_names if (count := _count(reported.get(name))) is not None]
    usage = Usage(
        input_tokens=_count(reported.get(input_name)),
        output_tokens=sum(outputs) if outputs else None,
        total_tokens=_count(reported.get(total_name)),
    )
    return None if usage == Usage(None, None, None) else usage


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < _MAX_COUNT else None

"""The tokens that a run has used, as providers report them."""

from collections.abc import Sequence

from domain.outputs import Usage, add_counts
from providers.lenient import count_of, object_of


def usage_of(
    reported: object, *, input_name: str, output_names: Sequence[str], total_name: str
) -> Usage | None:
    """The counts under these names; None where there are none. Outputs of several kinds are added
    up.
    """
    counts = object_of(reported)
    usage = Usage(
        input_tokens=count_of(counts.get(input_name)),
        output_tokens=add_counts(count_of(counts.get(name)) for name in output_names),
        total_tokens=count_of(counts.get(total_name)),
    )
    return None if usage == Usage(None, None, None) else usage

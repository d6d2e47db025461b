"""What tests of the checker share."""

import copy

import pytest

from tests.resilience.evidence import History
from tests.resilience.sound import make_sound_history


@pytest.fixture(scope="session")
async def sound(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> History:
    """What really happens when everything is done once and nothing is hurt. Not to be changed."""
    return await make_sound_history(mongodb_uri, tmp_path_factory.mktemp("sound"))


@pytest.fixture
def tampered(sound: History) -> History:
    """The same, to be changed."""
    return copy.deepcopy(sound)

"""The garbage collector, as a process of Darkroom sets it."""

import gc

import pytest

from runtime.garbage_collection import import_module


def test_garbage_is_collected_again_after_an_import_that_fails() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("nothing_is_called_so")

    assert gc.isenabled()

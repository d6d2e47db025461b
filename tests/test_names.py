"""Our top-level names are unique: no installed distribution has one of them."""

import sys
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent


def our_names() -> set[str]:
    modules = {path.stem for path in ROOT.glob("*.py")}
    folders = {path.parent.name for path in ROOT.glob("[a-z]*/*.py")}
    return modules | folders


def test_no_distribution_installs_one_of_our_top_level_names() -> None:
    installed = packages_distributions()

    taken = {name: installed[name] for name in our_names() if name in installed}

    assert taken == {}


def test_no_top_level_name_hides_a_module_of_the_standard_library() -> None:
    assert our_names() & sys.stdlib_module_names == set()


def test_the_top_level_names_are_found() -> None:
    assert {"domain", "schema", "storage", "settings", "serve"} <= our_names()

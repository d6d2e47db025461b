"""The tables of docs/scaling.md are those that the measured costs give."""

from bench.model import Coefficients
from bench.scaling import PATH, Accuracy, tables_of_costs, with_tables


def test_the_tables_follow_from_the_measured_costs() -> None:
    written = PATH.read_text()

    # Without the simulated days, which take seconds.
    tables = tables_of_costs(Coefficients.read(), Accuracy.read())
    assert with_tables(written, tables) == written

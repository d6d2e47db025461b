"""Limits for tests of something else: all tests share one address, and some share one viewer."""

from settings import Limits, Settings, variable_of

UNLIMITED = Limits(
    viewer_requests=1_000_000,
    address_requests=1_000_000,
    cost=1_000_000_000,
    address_cost=1_000_000_000,
    requests_in_flight=1_000,
    process_requests_in_flight=10_000,
    viewer_sockets=1_000,
    address_sockets=1_000,
    viewer_subscriptions=1_000,
    address_subscriptions=10_000,
)
UNLIMITED_ENVIRONMENT = {
    variable_of(Settings, "limit", name): str(value)
    for name, value in UNLIMITED.model_dump(exclude_unset=True).items()
}
"""The same for processes that tests start."""

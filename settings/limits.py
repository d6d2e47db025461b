"""What one client may ask for, and how long it may take."""

from pydantic import BaseModel, Field


class Limits(BaseModel, frozen=True):
    """What one client may ask for, and how long it may take: DARKROOM_LIMIT_AGE_SECONDS is
    `settings.limit.age_seconds`.

    A viewer's bucket holds what may be used at once, and is refilled by a rate per second. Clients
    without a token are identified by their address.
    """

    head_bytes: int = Field(
        default=32_768,
        ge=4_096,
        description="How long the names and values of a request's headers may be together",
    )
    head_fields: int = Field(default=100, ge=20, description="How many headers a request may have")
    url_bytes: int = Field(default=8_192, ge=1_024, description="How long a URL may be")
    head_seconds: float = Field(
        default=5, gt=0, description="How long the head of a request may take to arrive"
    )
    body_bytes: int = Field(
        default=262_144,
        ge=16_384,
        le=16_777_216,
        description="How long the body of a GraphQL request may be, and a message of a WebSocket",
    )
    body_seconds: float = Field(
        default=10, gt=0, description="How long the body of a GraphQL request may take to arrive"
    )
    idle_seconds: int = Field(
        default=5,
        ge=1,
        description="How long a connection may be without a request; more than a proxy in front "
        "keeps its own",
    )
    viewer_requests: int = Field(
        default=100, ge=1, description="How many operations a viewer may run at once"
    )
    viewer_requests_per_second: float = Field(
        default=20, gt=0, description="How many more operations a viewer may run each second"
    )
    address_requests: int = Field(
        default=300,
        ge=1,
        description="How many operations clients without a token may run at once, by address",
    )
    address_requests_per_second: float = Field(
        default=50,
        gt=0,
        description="How many more operations clients without a token may run each second",
    )
    cost: int = Field(
        default=20_000,
        ge=1,
        description="The cost that a viewer's operations may have at once",
    )
    cost_per_second: float = Field(
        default=500, gt=0, description="The cost that their further operations may have each second"
    )
    address_cost: int = Field(
        default=200_000,
        ge=1,
        description="The same for all that an address asks for without a token: a class that reads "
        "what is shared",
    )
    address_cost_per_second: float = Field(
        default=5_000,
        gt=0,
        description="The cost that their further operations may have each second",
    )
    requests_in_flight: int = Field(
        default=20,
        ge=1,
        description="How many operations one client may have running in a process; those of "
        "WebSockets wait for each other, those over HTTP are refused",
    )
    process_requests_in_flight: int = Field(
        default=200, ge=1, description="How many operations may be running in a process"
    )
    viewer_sockets: int = Field(
        default=10, ge=1, description="How many WebSockets a viewer may have to a process"
    )
    address_sockets: int = Field(
        default=20,
        ge=1,
        description="How many WebSockets of one address may wait for their token in a process",
    )
    process_sockets: int = Field(
        default=12_000, ge=1, description="How many WebSockets a process may have"
    )
    socket_age_seconds: float = Field(
        default=43_200, gt=0, description="After how many seconds a WebSocket is closed with 1012"
    )
    socket_operations: int = Field(
        default=50, ge=1, description="How many operations one WebSocket may run at the same time"
    )
    viewer_subscriptions: int = Field(
        default=100,
        ge=1,
        description="How many subscriptions a viewer may have in a process, over all transports",
    )
    address_subscriptions: int = Field(
        default=1_000,
        ge=1,
        description="How many subscriptions clients without a token may have in a process, by "
        "address, and how many WebSockets: readers of what is shared",
    )
    socket_messages: int = Field(
        default=100, ge=1, description="How many messages a WebSocket may send in 10 seconds"
    )
    init_seconds: float = Field(
        default=5, gt=0, description="How long a WebSocket may take to send its token"
    )
    ping_seconds: float = Field(
        default=20, gt=0, description="How often a WebSocket is sent a ping"
    )
    pong_seconds: float = Field(
        default=15, gt=0, description="How long it may take to answer; then it is closed with 1001"
    )
    send_seconds: float = Field(
        default=15,
        gt=0,
        description="How long a client may read nothing of what is sent to it, over any transport",
    )
    operation_seconds: float = Field(
        default=10,
        gt=0,
        description="How long a query or mutation may take, and a subscription until it is open",
    )

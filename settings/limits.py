"""What one client may ask for, and how long it may take."""

from pydantic import BaseModel, Field


class Limits(BaseModel, frozen=True):
    """What one client may ask for, and how long it may take: DARKROOM_LIMIT_URL_BYTES is
    `settings.limit.url_bytes`.

    Rate limits are token buckets: the size of the bucket is the burst, and a rate per second
    refills it. Clients without a token are identified by their address.
    """

    head_bytes: int = Field(
        default=32_768,
        ge=4_096,
        description="The maximum total size of a request's headers, names and values, in bytes",
    )
    head_fields: int = Field(default=100, ge=20, description="The maximum number of headers")
    url_bytes: int = Field(default=8_192, ge=1_024, description="The maximum length of a URL")
    head_seconds: float = Field(
        default=5, gt=0, description="How many seconds the headers of a request may take to arrive"
    )
    body_bytes: int = Field(
        default=262_144,
        ge=16_384,
        le=16_777_216,
        description="The maximum size of a GraphQL request's body, and of a WebSocket message, in "
        "bytes",
    )
    body_seconds: float = Field(
        default=7,
        gt=0,
        description="How many seconds the body of a GraphQL request may take to arrive; the "
        "connection ends 2 seconds later, once the client has had time to read the refusal",
    )
    idle_seconds: int = Field(
        default=5,
        ge=1,
        description="How many seconds an idle connection is kept open (keep-alive timeout); set it "
        "higher than the one that a proxy in front uses for its connections to Darkroom",
    )
    viewer_requests: int = Field(
        default=100, ge=1, description="Rate limit of a viewer: operations in a burst"
    )
    viewer_requests_per_second: float = Field(
        default=20, gt=0, description="Rate limit of a viewer: operations per second after a burst"
    )
    address_requests: int = Field(
        default=300,
        ge=1,
        description="Rate limit of an address, for clients without a token: operations in a burst",
    )
    address_requests_per_second: float = Field(
        default=50,
        gt=0,
        description="Rate limit of an address, for clients without a token: operations per second "
        "after a burst",
    )
    cost: int = Field(
        default=20_000,
        ge=1,
        description="Rate limit of a viewer: cost of the operations in a burst",
    )
    cost_per_second: float = Field(
        default=500, gt=0, description="Rate limit of a viewer: cost per second after a burst"
    )
    address_cost: int = Field(
        default=200_000,
        ge=1,
        description="Rate limit of an address, for clients without a token: cost of the operations "
        "in a burst; enough for a class that opens a share",
    )
    address_cost_per_second: float = Field(
        default=5_000,
        gt=0,
        description="Rate limit of an address, for clients without a token: cost per second after "
        "a burst",
    )
    requests_in_flight: int = Field(
        default=20,
        ge=1,
        description="How many operations one client may run at the same time in a process; further "
        "ones wait if they come over a WebSocket, and are refused over HTTP",
    )
    process_requests_in_flight: int = Field(
        default=200,
        ge=1,
        description="How many operations a process runs at the same time; as many more wait if "
        "they come over HTTP, and further ones are refused",
    )
    viewer_sockets: int = Field(
        default=10, ge=1, description="How many WebSockets a viewer may have open in a process"
    )
    address_sockets: int = Field(
        default=20,
        ge=1,
        description="How many WebSockets of one address may be open in a process before they have "
        "sent their token",
    )
    process_sockets: int = Field(
        default=12_000, ge=1, description="How many WebSockets may be open in a process"
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
        description="How many subscriptions a viewer may have open in a process, over all "
        "transports",
    )
    address_subscriptions: int = Field(
        default=1_000,
        ge=1,
        description="How many subscriptions, and how many WebSockets, clients without a token may "
        "have open in a process, by address: readers of shares",
    )
    socket_messages: int = Field(
        default=100, ge=1, description="How many messages a WebSocket may send in 10 seconds"
    )
    init_seconds: float = Field(
        default=5, gt=0, description="How many seconds a WebSocket may take to send its token"
    )
    ping_seconds: float = Field(
        default=14, gt=0, description="The interval of pings to a WebSocket in seconds"
    )
    pong_seconds: float = Field(
        default=15,
        gt=0,
        description="How many seconds a WebSocket may take to answer a ping; then it is closed "
        "with 1001",
    )
    send_seconds: float = Field(
        default=15,
        gt=0,
        description="How many seconds a client may read nothing of what is sent to it, over any "
        "transport; then its connection is closed",
    )
    operation_seconds: float = Field(
        default=10,
        gt=0,
        description="How many seconds a query or mutation may take, and the start of a "
        "subscription",
    )

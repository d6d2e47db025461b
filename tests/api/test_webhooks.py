"""Webhooks through the API: created, notified, logged, replayed and deleted by their owner."""

from collections.abc import AsyncIterator

import pytest

from tests.api.posts import generate
from tests.clients import Data, GraphQLClient
from tests.conftest import Darkroom
from tests.operations import DELETE_VIEWER, codes, conversation_with, send, start
from tests.receivers import Receiver, a_receiver, fail, redirect_to, refuse_for_ever
from tests.waits import eventually

CREATE = """
mutation Create($url: String!, $events: [WebhookEvent!]!) {
  createWebhook(input: {url: $url, events: $events}) {
    webhook { id url events enabled secret deliveries { nodes { id } } }
    userErrors { code message path }
  }
}
"""
DELETE = """
mutation Delete($id: ID!) {
  deleteWebhook(input: {webhookId: $id}) { deletedWebhookId userErrors { code path } }
}
"""
REPLAY = """
mutation Replay($id: ID!) {
  replayDelivery(input: {deliveryId: $id}) {
    delivery { id attempts deliveredAt } userErrors { code path }
  }
}
"""
LIST = """
query List($first: Int, $after: String) {
  viewer { webhooks {
    id url events enabled secret
    deliveries(first: $first, after: $after) {
      nodes { id event status error attempts createdAt deliveredAt }
      pageInfo { hasNextPage endCursor }
    }
  } }
}
"""
BOTH = ["TURN_ENDED", "OUTPUT_LANDED", "POST_ENDED"]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as receiver:
        yield receiver


async def create(client: GraphQLClient, url: str, events: list[str] | None = None) -> Data:
    payload: Data = (await client(CREATE, url=url, events=BOTH if events is None else events))[
        "createWebhook"
    ]
    return payload


async def a_webhook(client: GraphQLClient, url: str, *events: str) -> Data:
    payload = await create(client, url, list(events) or BOTH)
    assert payload["userErrors"] == []
    webhook: Data = payload["webhook"]
    return webhook


async def webhooks(client: GraphQLClient, **page: object) -> list[Data]:
    found: list[Data] = (await client(LIST, **page))["viewer"]["webhooks"]
    return found


async def log_of(client: GraphQLClient) -> list[Data]:
    (webhook,) = await webhooks(client)
    nodes: list[Data] = webhook["deliveries"]["nodes"]
    return nodes


async def until_log(client: GraphQLClient, **wanted: object) -> Data:
    """The only delivery, once the log says this of it."""
    found: list[Data] = []

    async def is_logged() -> bool:
        found[:] = await log_of(client)
        return len(found) == 1 and {name: found[0][name] for name in wanted} == wanted

    await eventually(is_logged, what=f"the log says {wanted}")
    return found[0]


async def test_events_of_finished_turns_are_sent_signed_and_in_order(
    client: GraphQLClient, receiver: Receiver
) -> None:
    webhook = await a_webhook(client, f"{receiver.url}/")
    assert webhook["enabled"]
    assert webhook["events"] == BOTH
    assert webhook["deliveries"]["nodes"] == []

    two = ["local-silver", "local-ink"]
    done = await conversation_with(client, userMessage="A boat at dawn", selectedModels=two)
    first, second, ended = await receiver.until_received(3)

    for one in (first, second, ended):
        one.verify(webhook["secret"])
        assert b"dawn" not in one.body
        assert len(one.body) < 1_000
    assert [one.kind for one in (first, second, ended)] == ["output.landed"] * 2 + ["turn.ended"]
    turn = done["turn"]
    landed = [one.payload["data"] for one in (first, second)]
    assert {one["outputId"] for one in landed} == {one["id"] for one in turn["outputs"]}
    assert {one["imageIds"][0] for one in landed} == {one["image"]["id"] for one in turn["outputs"]}
    data = ended.payload["data"]
    assert (data["turnId"], data["status"]) == (turn["id"], "COMPLETED")
    assert data["conversationId"] == done["conversation"]["id"]
    assert data["completedAt"] == turn["completedAt"] == ended.payload["timestamp"]
    assert {one["status"] for one in data["outputs"]} == {"COMPLETED"}


async def test_only_subscribed_events_are_sent(client: GraphQLClient, receiver: Receiver) -> None:
    await a_webhook(client, f"{receiver.url}/ended", "TURN_ENDED", "TURN_ENDED")
    await a_webhook(client, f"{receiver.url}/landed", "OUTPUT_LANDED", "POST_ENDED")

    await conversation_with(client, turns=2)
    await receiver.until_received(2, "/ended")
    await receiver.until_received(2, "/landed")

    assert {one.kind for one in receiver.of("/ended")} == {"turn.ended"}
    assert {one.kind for one in receiver.of("/landed")} == {"output.landed"}
    assert [one["events"] for one in await webhooks(client)] == [
        ["TURN_ENDED"],
        ["OUTPUT_LANDED", "POST_ENDED"],
    ]


async def test_posts_send_events_and_their_captions_are_not_counted_as_outputs(
    client: GraphQLClient, receiver: Receiver
) -> None:
    await a_webhook(client, f"{receiver.url}/", "POST_ENDED", "OUTPUT_LANDED")

    post = await generate(client, userMessage="Our new lavender soap")
    landed, ended = await receiver.until_received(2)

    assert [one.kind for one in (landed, ended)] == ["output.landed", "post.ended"]
    (output,) = post["outputs"]
    assert landed.payload["data"]["outputId"] == output["id"]
    data = ended.payload["data"]
    assert (data["postId"], data["status"]) == (post["id"], "GENERATED")
    assert data["outputs"] == [{"id": output["id"], "status": "COMPLETED"}]
    assert not {"turnId", "conversationId"} & data.keys()
    assert b"lavender" not in landed.body + ended.body


@pytest.mark.parametrize("writer", ["rehearsal-caption-refuses"])
async def test_a_post_whose_caption_fails_sends_one_event(
    client: GraphQLClient, receiver: Receiver, writer: str
) -> None:
    await a_webhook(client, f"{receiver.url}/")

    post = await generate(client, captionModel=writer, selectedModels=["local-silver", "local-ink"])
    (ended,) = await receiver.until_received(1)

    data = ended.payload["data"]
    assert (data["postId"], data["status"]) == (post["id"], "FAILED")
    assert [one["status"] for one in data["outputs"]] == ["CANCELLED", "CANCELLED"]
    assert len(await log_of(client)) == 1


@pytest.mark.parametrize("model", ["rehearsal-fails", "rehearsal-slow"])
async def test_failed_and_cancelled_turns_send_events(
    client: GraphQLClient, receiver: Receiver, model: str
) -> None:
    await a_webhook(client, f"{receiver.url}/")

    payload = await start(client, selectedModels=[model])
    if model == "rehearsal-slow":
        await client(
            "mutation($id: ID!) { cancelTurn(input: {turnId: $id}) { userErrors { code } } }",
            id=payload["turn"]["id"],
        )
    (ended,) = await receiver.until_received(1)

    status = "CANCELLED" if model == "rehearsal-slow" else "FAILED"
    assert (ended.kind, ended.payload["data"]["status"]) == ("turn.ended", status)
    assert ended.payload["data"]["outputs"][0]["status"] == status


async def test_the_delivery_log_has_each_result_and_is_paged(
    client: GraphQLClient, receiver: Receiver
) -> None:
    await a_webhook(client, f"{receiver.url}/")
    await conversation_with(client, turns=2)
    received = await receiver.until_received(4)

    async def all_are_delivered() -> bool:
        return all(one["deliveredAt"] for one in await log_of(client))

    await eventually(all_are_delivered, what="all are delivered")
    nodes = await log_of(client)
    assert {one["id"] for one in nodes} == {one.id for one in received}
    assert {(one["status"], one["error"], one["attempts"]) for one in nodes} == {(204, None, 1)}
    assert all(one["createdAt"] <= one["deliveredAt"] for one in nodes)
    seen, after, more = [], None, True
    while more:
        (webhook,) = await webhooks(client, first=3, after=after)
        page = webhook["deliveries"]
        seen += [one["id"] for one in page["nodes"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert seen == [one["id"] for one in nodes]


async def test_a_secret_is_returned_once(client: GraphQLClient, receiver: Receiver) -> None:
    webhook = await a_webhook(client, receiver.url)
    other = await a_webhook(client, receiver.url)

    assert webhook["secret"].startswith("whsec_")
    assert len(webhook["secret"]) == 6 + 44
    assert webhook["secret"] != other["secret"]
    assert [one["secret"] for one in await webhooks(client)] == [None, None]


async def test_a_failed_delivery_is_logged_and_can_be_replayed(
    client: GraphQLClient, receiver: Receiver
) -> None:
    receiver.scripts["/"] = fail
    webhook = await a_webhook(client, f"{receiver.url}/", "TURN_ENDED")
    await conversation_with(client)

    failed = await until_log(client, attempts=1)
    assert (failed["status"], failed["error"]) == (500, "The answer was HTTP 500.")
    assert failed["deliveredAt"] is None
    del receiver.scripts["/"]
    replayed = (await client(REPLAY, id=failed["id"]))["replayDelivery"]
    assert replayed["delivery"]["id"] == failed["id"]
    delivered = await until_log(client, status=204)

    assert (delivered["attempts"], delivered["error"]) == (2, None)
    assert delivered["deliveredAt"]
    again = (await client(REPLAY, id=failed["id"]))["replayDelivery"]["delivery"]
    assert again["deliveredAt"] is None
    await until_log(client, attempts=3, status=204)
    assert {(one.id, one.body) for one in receiver.received} == {
        (failed["id"], receiver.received[0].body)
    }
    for one in receiver.received:
        one.verify(webhook["secret"])


async def test_a_redirect_is_not_followed(client: GraphQLClient, receiver: Receiver) -> None:
    receiver.scripts["/"] = redirect_to(f"{receiver.url}/elsewhere")
    await a_webhook(client, f"{receiver.url}/", "TURN_ENDED")
    await conversation_with(client)

    await until_log(client, attempts=1, status=307, error="The answer was HTTP 307.")

    assert receiver.of("/elsewhere") == []


async def test_a_receiver_that_answers_410_disables_its_webhook(
    client: GraphQLClient, receiver: Receiver
) -> None:
    receiver.scripts["/"] = refuse_for_ever
    await a_webhook(client, f"{receiver.url}/", "TURN_ENDED")
    await conversation_with(client)
    gone = await until_log(client, attempts=1, status=410)

    async def is_disabled() -> bool:
        return not (await webhooks(client))[0]["enabled"]

    await eventually(is_disabled, what="it is disabled")

    await conversation_with(client)
    replayed = (await client(REPLAY, id=gone["id"]))["replayDelivery"]

    assert codes(replayed) == [("NOT_FOUND", "deliveryId")]
    assert [one["id"] for one in await log_of(client)] == [gone["id"]]
    assert len(receiver.received) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[fd00::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/",
        "https://0x0a000001/",
        "https://167772161/",
        "https://10.1/",
        "https://intranet/",
        "https://db.localhost/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com/#part",
        "ftp://hooks.example.com/",
        "hooks.example.com",
        "https://",
        "https://hooks.example.com/ x",
        "https://hooks.example.com/\n",
        "https://hooks.example.com:99999/",
        "javascript:alert(1)",
        "",
        "https://hooks.example.com/" + "x" * 2_048,
    ],
)
async def test_an_unusable_url_is_refused(client: GraphQLClient, url: str) -> None:
    payload = await create(client, url)

    assert codes(payload) == [("WEBHOOK_INVALID", "url")]
    assert payload["webhook"] is None
    assert await webhooks(client) == []


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/",
        "https://hooks.example.com:8443/a?b=c",
        "https://9.9.9.9/",
        "https://[2606:4700::1]/x",
        "https://münchen.example/ü",
        "http://localhost:9000/",
        "http://[::1]:9000/",
        "http://127.0.0.1:9000",
    ],
)
async def test_a_usable_url_is_stored_unchanged(client: GraphQLClient, url: str) -> None:
    assert (await a_webhook(client, url))["url"] == url


async def test_all_user_errors_of_a_webhook_are_returned_at_once(client: GraphQLClient) -> None:
    assert codes(await create(client, "http://10.0.0.1/", [])) == [
        ("WEBHOOK_INVALID", "url"),
        ("WEBHOOK_INVALID", "events"),
    ]


async def test_a_viewer_has_at_most_ten_webhooks(client: GraphQLClient) -> None:
    for number in range(10):
        await a_webhook(client, f"https://hooks.example.com/{number}")

    refused = await create(client, "https://hooks.example.com/10")
    assert [one["code"] for one in refused["userErrors"]] == ["WEBHOOK_INVALID"]

    mine = await webhooks(client)
    assert [one["url"][-1] for one in mine] == [str(number) for number in range(10)]
    await client(DELETE, id=mine[0]["id"])
    await a_webhook(client, "https://hooks.example.com/10")


async def test_a_deleted_webhook_receives_no_events(
    client: GraphQLClient, receiver: Receiver
) -> None:
    gone = await a_webhook(client, f"{receiver.url}/gone")
    await a_webhook(client, f"{receiver.url}/", "TURN_ENDED")

    deleted = (await client(DELETE, id=gone["id"]))["deleteWebhook"]
    await conversation_with(client)
    await receiver.until_received(1)

    assert deleted == {"deletedWebhookId": gone["id"], "userErrors": []}
    assert receiver.of("/gone") == []
    assert codes((await client(DELETE, id=gone["id"]))["deleteWebhook"]) == [
        ("NOT_FOUND", "webhookId")
    ]


async def test_foreign_webhooks_can_be_neither_read_nor_changed(
    darkroom: Darkroom, receiver: Receiver
) -> None:
    ana, bob = darkroom.client(), darkroom.client()
    webhook = await a_webhook(ana, f"{receiver.url}/", "TURN_ENDED")
    await conversation_with(ana)
    delivery = await until_log(ana, status=204)

    await conversation_with(bob)

    assert await webhooks(bob) == []
    for wrong in (webhook["id"], delivery["id"], "hook_1", "x"):
        assert codes((await bob(DELETE, id=wrong))["deleteWebhook"]) == [("NOT_FOUND", "webhookId")]
        assert codes((await bob(REPLAY, id=wrong))["replayDelivery"]) == [
            ("NOT_FOUND", "deliveryId")
        ]
    assert len(await log_of(ana)) == len(receiver.received) == 1
    answer = await darkroom.anonymous().execute(CREATE, url="https://a.example/", events=BOTH)
    assert answer["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_deleting_a_viewer_deletes_webhooks_and_deliveries(
    client: GraphQLClient, receiver: Receiver
) -> None:
    receiver.scripts["/"] = fail
    await a_webhook(client, f"{receiver.url}/", "TURN_ENDED")
    done = await conversation_with(client)
    await until_log(client, attempts=1)
    await send(client, done["conversation"]["id"], selectedModels=["rehearsal-slow"])

    viewer_id = (await client("{ viewer { id } }"))["viewer"]["id"]
    deleted = (await client(DELETE_VIEWER, id=viewer_id))["deleteViewer"]

    assert deleted["userErrors"] == []
    assert await webhooks(client) == []

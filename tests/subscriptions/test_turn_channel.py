"""Live updates: each made once and shared, and what each subscriber receives."""

import random
from dataclasses import replace

import pytest

from domain.changes import Bookmark, ClusterTime
from domain.cursors import TurnCursors
from domain.ids import turn_id_of
from domain.signing import Signer
from domain.turns import Turn, TurnUpdate
from storage.mongo.database import Database
from subscriptions.turn_channel import (
    MAX_PENDING_TURNS,
    REMEMBERED_TURNS,
    Subscriber,
    TurnChannel,
)
from tests.storage.builders import a_conversation

CURSORS = TurnCursors(Signer(b"of this test"))


@pytest.fixture
async def turn(database: Database) -> Turn:
    """With three outputs, each at version 1."""
    _, turn = await a_conversation(database)
    output = replace(turn.outputs[0], version=1)
    outputs = tuple(replace(output, slot=slot) for slot in range(3))
    return replace(turn, version=1, outputs=outputs)


@pytest.fixture
def channel(turn: Turn) -> TurnChannel:
    return TurnChannel(turn.conversation_id, CURSORS)


def a_subscriber(channel: TurnChannel, *, stands_at: Turn | None = None) -> Subscriber:
    """One that is live, and has read this state."""
    subscriber = Subscriber(channel)
    channel.subscribers.add(subscriber)
    subscriber.behind = False
    if stands_at is not None:
        channel.learn(stands_at)
    subscriber.catch_up({stands_at.turn_index: stands_at.version} if stands_at else {})
    return subscriber


def changed(turn: Turn, *slots: int) -> Turn:
    """The turn one version later, in which these outputs have changed."""
    version = turn.version + 1
    outputs = tuple(
        replace(output, version=version) if output.slot in slots else output
        for output in turn.outputs
    )
    return replace(turn, version=version, outputs=outputs)


def at_index(turn: Turn, index: int) -> Turn:
    return replace(turn, id=turn_id_of(turn.conversation_id, index), turn_index=index)


def give_out(channel: TurnChannel, seconds: int, *turns: Turn) -> None:
    cluster_time = ClusterTime(seconds, 0)
    channel.give_out({turn.id: (cluster_time, turn) for turn in turns}, complete_until=cluster_time)


def slots(update_outputs: object) -> list[int]:
    return [output.slot for output in update_outputs]  # type: ignore[attr-defined]


def cluster_times(subscriber: Subscriber) -> list[int]:
    return [update.bookmark.cluster_time.seconds for update in subscriber.take()]


def test_all_subscribers_receive_the_same_object(channel: TurnChannel, turn: Turn) -> None:
    subscribers = [a_subscriber(channel, stands_at=turn) for _ in range(3)]

    give_out(channel, 5, changed(turn, 1))

    first, *others = [list(subscriber.take()) for subscriber in subscribers]
    assert len(first) == 1
    assert slots(first[0].changed_outputs) == [1]
    assert all(other[0] is first[0] for other in others)
    assert CURSORS.read(turn.conversation_id, first[0].cursor) == first[0].bookmark


def test_a_published_state_is_not_published_again(channel: TurnChannel, turn: Turn) -> None:
    subscriber = a_subscriber(channel, stands_at=turn)
    give_out(channel, 5, changed(turn, 1))
    assert len(list(subscriber.take())) == 1

    give_out(channel, 6, changed(turn, 1))

    assert list(subscriber.take()) == []


def test_pending_states_of_a_turn_are_merged_with_all_changes(
    channel: TurnChannel, turn: Turn
) -> None:
    subscriber = a_subscriber(channel, stands_at=turn)
    second = changed(turn, 0)
    third = changed(second, 2)

    give_out(channel, 5, second)
    give_out(channel, 6, third)

    (update,) = subscriber.take()
    assert update.turn is third
    assert slots(update.changed_outputs) == [0, 2]


def test_a_cursor_does_not_cover_pending_updates(channel: TurnChannel, turn: Turn) -> None:
    subscriber = a_subscriber(channel)
    turns = [at_index(turn, index) for index in range(3)]
    for seconds, one in enumerate(turns):
        give_out(channel, seconds, one)
    assert cluster_times(subscriber) == [0, 1, 2]

    for seconds, one in enumerate(turns):
        give_out(channel, 10 + seconds, changed(one, 0))
    give_out(channel, 19, changed(changed(turns[0], 0), 0))

    taking = subscriber.take()
    first = next(taking)
    assert first.bookmark.cluster_time == ClusterTime(11, 0)
    assert {index for index, _ in first.bookmark.versions} == {0}
    assert [update.bookmark.cluster_time.seconds for update in taking] == [11, 12]


def test_a_cursor_never_covers_a_later_turn_of_the_same_read(
    channel: TurnChannel, turn: Turn
) -> None:
    subscriber = a_subscriber(channel)
    first, second = (at_index(turn, index) for index in range(2))

    channel.give_out(
        {first.id: (ClusterTime(9, 0), first), second.id: (ClusterTime(5, 0), second)},
        complete_until=ClusterTime(9, 0),
    )

    assert cluster_times(subscriber) == [5, 9]


def test_an_update_that_a_subscriber_has_read_is_not_sent_again(
    channel: TurnChannel, turn: Turn
) -> None:
    early = a_subscriber(channel, stands_at=turn)
    late = a_subscriber(
        channel, stands_at=changed(turn, 1)
    )  # has read it before the feed reported it

    give_out(channel, 5, changed(turn, 1))

    assert len(list(early.take())) == 1
    assert list(late.take()) == []


def test_a_subscriber_with_an_older_state_than_the_update_receives_all_outputs(
    channel: TurnChannel, turn: Turn
) -> None:
    second = changed(turn, 0)
    third = changed(second, 1)
    ahead = a_subscriber(channel, stands_at=second)
    behind = a_subscriber(channel)
    behind.catch_up({turn.turn_index: turn.version})

    give_out(channel, 6, third)

    assert [slots(update.changed_outputs) for update in ahead.take()] == [[1]]
    assert [slots(update.changed_outputs) for update in behind.take()] == [[0, 1, 2]]


def test_the_state_a_new_subscriber_has_read_does_not_affect_updates_of_others(
    channel: TurnChannel, turn: Turn
) -> None:
    early = a_subscriber(channel, stands_at=turn)
    second = changed(turn, 0)
    third = changed(second, 1)
    fourth = changed(third, 2)
    give_out(channel, 1, second)
    for index in range(1, REMEMBERED_TURNS + 1):  # the channel forgets the first turn
        give_out(channel, 1 + index, at_index(turn, index))
        assert list(early.take())

    a_subscriber(channel, stands_at=third)
    give_out(channel, 100, fourth)

    assert [slots(update.changed_outputs) for update in early.take()] == [[0, 1, 2]]


def test_a_subscriber_that_is_behind_receives_no_pending_updates(
    channel: TurnChannel, turn: Turn
) -> None:
    subscriber = a_subscriber(channel)
    for index in range(3):
        give_out(channel, index, at_index(turn, index))
    taking = subscriber.take()
    next(taking)

    subscriber.fall_behind()

    assert list(taking) == []


def test_a_subscriber_with_too_many_pending_updates_is_behind(
    channel: TurnChannel, turn: Turn
) -> None:
    subscriber = a_subscriber(channel)
    for index in range(MAX_PENDING_TURNS + 1):
        assert not subscriber.behind
        give_out(channel, index, at_index(turn, index))

    assert subscriber.behind
    assert subscriber.known_versions() == {}, "What was dropped has to be read."
    subscriber.catch_up({})  # the read had begun before
    assert subscriber.known_versions() == {}


@pytest.mark.parametrize("seeds", [range(n, n + 100) for n in range(0, 1_000, 100)], ids=str)
def test_any_order_of_reading_and_publishing_loses_nothing(turn: Turn, seeds: range) -> None:
    """Random commits, reads of the feed that lag and coalesce, subscribers that come at any time
    and take when they like.

    Each must end at the newest state of every turn, with `changed_outputs` that hold all that
    differs from the state it had before, and with no cursor that claims a state that it has not
    received.
    """
    for seed in seeds:
        history = _History(turn, random.Random(seed))
        try:
            history.play()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


class _History:
    def __init__(self, turn: Turn, chance: random.Random) -> None:
        self.chance = chance
        self.channel = TurnChannel(turn.conversation_id, CURSORS)
        self.states = {index: at_index(turn, index) for index in range(3)}
        self.written_at = dict.fromkeys(self.states, 0)
        self.unread: dict[int, int] = {}
        self.clock = 0
        self.clients: list[_Client] = []

    def play(self) -> None:
        steps = [self.commit, self.read_feed, self.come, self.read, self.take]
        for _ in range(60):
            self.chance.choices(steps, [5, 4, 1, 3, 3])[0]()
        while self.unread:
            self.read_feed()
        for client in self.clients:
            if client.subscriber.behind:
                client.read(self.states, self.clock)
            client.finish_reading()
            client.has_room = True
            client.take()
            assert client.has == self.states

    def commit(self) -> None:
        self.clock += 1
        index = self.chance.randrange(3)
        slots = self.chance.sample(range(3), self.chance.randint(1, 2))
        self.states[index] = changed(self.states[index], *slots)
        self.written_at[index] = self.unread[index] = self.clock

    def read_feed(self) -> None:
        batch = {index: at for index, at in self.unread.items() if self.chance.random() < 0.7}
        for index in batch:
            del self.unread[index]
        if batch:
            before = min([max(batch.values()), *self.unread.values()])
            self.channel.give_out(
                {
                    self.states[index].id: (ClusterTime(batch[index], 0), self.states[index])
                    for index in sorted(batch)
                },
                complete_until=ClusterTime(before, 0),
            )
            for subscriber in tuple(self.channel.subscribers):
                subscriber.push()

    def come(self) -> None:
        self.clients.append(_Client(self.channel, self.states, self.written_at, self.chance))

    def read(self) -> None:
        for client in self.clients:
            if client.subscriber.behind and self.chance.random() < 0.5:
                client.read(self.states, self.clock)
            elif self.chance.random() < 0.5:
                client.finish_reading()

    def take(self) -> None:
        for client in self.clients:
            if self.chance.random() < 0.5:
                client.take()


class _Client:
    """One that takes what is pending, or one that is given it while it has room."""

    def __init__(
        self,
        channel: TurnChannel,
        states: dict[int, Turn],
        written_at: dict[int, int],
        chance: random.Random,
    ) -> None:
        self.channel = channel
        self.states = states
        self.written_at = written_at
        self.chance = chance
        self.is_pushed = chance.random() < 0.5
        self.has_room = False
        self.subscriber = Subscriber(channel)
        channel.subscribers.add(self.subscriber)
        self.found: dict[int, Turn] = {}
        self.has: dict[int, Turn] = {}

    def read(self, states: dict[int, Turn], clock: int) -> None:
        self.subscriber.receive = None
        self.subscriber.behind = False
        self.found = dict(states)
        self.subscriber.bookmark = Bookmark(ClusterTime(clock, 0))

    def finish_reading(self) -> None:
        """The answer of the read comes some time after the read."""
        if not self.found or self.subscriber.behind:
            return
        for one in self.found.values():
            self.channel.learn(one)
        self.has, self.found = self.found, {}
        self.subscriber.catch_up({index: one.version for index, one in self.has.items()})

    def take(self) -> None:
        if not self.subscriber.live:
            return
        if self.is_pushed:
            self.subscriber.receive = self.receive
            self.subscriber.push()
            return
        for update in self.subscriber.take():
            self.check(update)

    def receive(self, update: TurnUpdate) -> bool:
        if not self.has_room and self.chance.random() < 0.3:
            return False
        self.check(update)
        return True

    def check(self, update: TurnUpdate) -> None:
        new = update.turn
        old = self.has[new.turn_index]
        assert new.version > old.version
        differs = {
            output.slot
            for output, before in zip(new.outputs, old.outputs, strict=True)
            if output.version != before.version
        }
        assert differs <= set(slots(update.changed_outputs))
        self.has[new.turn_index] = new
        for index, version in update.bookmark.versions:
            assert self.has[index].version >= version
        for index, state in self.states.items():
            if self.has[index].version < state.version:
                assert self.written_at[index] >= update.bookmark.cluster_time.seconds

"""Makes what subscriptions follow: the hub of the process, and the updates that it notifies of."""

from assembly.base import Base
from domain.cursors import TurnCursors
from domain.partitions import FollowedPartitions
from domain.services.accounts import AccountService
from domain.services.shares import ShareService
from metrics.updates import ObservedFeed, UpdateMetrics
from schema.updates import Updates
from settings import Settings
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.change_feed import MongoChangeFeed
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.turns import MongoTurnRepository
from subscriptions.conversations import ConversationUpdates
from subscriptions.hub import Hub
from subscriptions.posts import PostUpdates
from subscriptions.shares import SharedTurnUpdates
from subscriptions.turns import TurnUpdates
from subscriptions.viewer import ViewerUpdates


def make_hub(settings: Settings, base: Base) -> Hub:
    partitions = FollowedPartitions(settings.feed_partitions)
    return Hub(
        ObservedFeed(MongoChangeFeed(base.database, partitions), base.metrics),
        TurnCursors(base.image_tools.signer),
        MongoAccountRepository(base.database).list_existing,
        observer=UpdateMetrics(base.metrics),
        partitions=partitions,
    )


def make_updates(
    base: Base, hub: Hub, *, accounts: AccountService, shares: ShareService
) -> Updates:
    database = base.database
    cursors = TurnCursors(base.image_tools.signer)
    turns = TurnUpdates(hub, MongoTurnRepository(database), cursors)
    return Updates(
        turns=turns,
        shared_turns=SharedTurnUpdates(hub, turns, shares),
        conversations=ConversationUpdates(hub, MongoConversationRepository(database)),
        posts=PostUpdates(hub, MongoPostRepository(database)),
        viewers=ViewerUpdates(hub, accounts),
    )

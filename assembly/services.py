"""Makes the services that resolvers call. Nothing is opened here."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from assembly.base import Base
from assembly.updates import make_updates
from domain.cleanup.erasure import ViewerEraser
from domain.cursors import PageCursors, TurnCursors
from domain.execution.exporter import Exporter
from domain.execution.importer import Importer
from domain.ports.execution import HintQueue
from domain.ports.imaging import UploadProcessor
from domain.rate_limits import Allowance, Rate
from domain.services.accounts import AccountService
from domain.services.albums import AlbumService
from domain.services.blocked_viewers import BlockedViewers
from domain.services.branches import BranchService
from domain.services.canceller import OutputCanceller
from domain.services.choices import ChoiceService
from domain.services.commands import CommandService
from domain.services.conversations import ConversationService
from domain.services.edit_planning import EditPlanner
from domain.services.exports import ExportService
from domain.services.favourites import FavouriteService
from domain.services.images import ImageService
from domain.services.imports import ImportService
from domain.services.outputs import OutputService
from domain.services.plans import PlanService
from domain.services.posts import PostService
from domain.services.prompts import PromptService
from domain.services.rate_limits import RateLimits
from domain.services.shares import ShareService
from domain.services.turns import TurnService
from domain.services.uploads import UploadService
from domain.services.viewers import ViewerService
from domain.services.waiting_turns import WaitingTurns
from domain.services.webhooks import WebhookService
from domain.shares import ShareTokens
from edge.studio import SHARED_PATH
from metrics.outputs import ObservedOutputs
from metrics.storage import (
    ObservedUploads,
)
from schema.services import Services
from settings import Settings
from storage.imaging.samples import load_samples
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.albums import MongoAlbumRepository
from storage.mongo.branches import MongoBranchRepository
from storage.mongo.choices import MongoChoiceRepository
from storage.mongo.conversations import MongoConversationRepository
from storage.mongo.database import Database
from storage.mongo.idempotency import MongoIdempotencyRepository
from storage.mongo.imports import MongoImportRepository
from storage.mongo.jobs import MongoExportRepository
from storage.mongo.model_stats import MongoModelStatsRepository
from storage.mongo.posts import MongoPostRepository
from storage.mongo.prompts import MongoPromptRepository
from storage.mongo.rate_limits import MongoRateLimitRepository
from storage.mongo.shares import MongoShareRepository
from storage.mongo.turns import MongoTurnRepository
from storage.mongo.uploads import MongoUploadRepository
from storage.mongo.viewers import MongoViewerRepository
from storage.mongo.waiting_turns import MongoWaitingTurnRepository
from storage.mongo.webhooks import MongoWebhookRepository
from subscriptions.hub import Hub


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What several services use, made once."""

    base: Base
    hints: HintQueue
    conversations: MongoConversationRepository
    turns: MongoTurnRepository
    outputs: ObservedOutputs
    posts: MongoPostRepository
    prompts: MongoPromptRepository
    images: ImageService
    accounts: AccountService
    commands: CommandService
    canceller: OutputCanceller

    @classmethod
    def of(cls, settings: Settings, base: Base, hints: HintQueue) -> Self:
        database = base.database
        conversations, turns = MongoConversationRepository(database), MongoTurnRepository(database)
        outputs = ObservedOutputs(database, base.metrics, base.registry, base.caption_models)
        accounts = _make_account_service(settings, database)
        return cls(
            base=base,
            hints=hints,
            conversations=conversations,
            turns=turns,
            outputs=outputs,
            canceller=OutputCanceller(outputs=outputs, hints=hints),
            posts=MongoPostRepository(database),
            prompts=MongoPromptRepository(database),
            images=ImageService(base.images, base.image_writer),
            accounts=accounts,
            commands=CommandService(
                records=MongoIdempotencyRepository(database),
                conversations=conversations,
                turns=turns,
                accounts=accounts,
                hints=hints,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedWork:
    """What viewers ask for, and an API process does in the background."""

    eraser: ViewerEraser
    waiting: WaitingTurns
    exporter: Exporter
    importer: Importer


def make_services(
    settings: Settings,
    base: Base,
    *,
    hub: Hub,
    hints: HintQueue,
    upload_processor: UploadProcessor,
    work: RequestedWork,
    blocked: BlockedViewers,
) -> Services:
    """Make the services that resolvers call. Nothing is opened."""
    database, signer = base.database, base.image_tools.signer
    shared = _Shared.of(settings, base, hints)
    accounts = shared.accounts
    conversations = _make_conversation_service(settings, shared)
    turns = _make_turn_service(shared, work.waiting)
    shares = _make_share_service(settings, shared, blocked)
    return Services(
        registry=base.registry,
        caption_models=base.caption_models,
        conversations=conversations,
        turns=turns,
        branches=_make_branch_service(shared),
        choices=_make_choice_service(shared),
        outputs=_make_output_service(shared),
        posts=_make_post_service(shared),
        plans=PlanService(conversations, turns),
        images=shared.images,
        uploads=_make_upload_service(settings, base, upload_processor=upload_processor),
        prompts=PromptService(shared.prompts),
        webhooks=WebhookService(MongoWebhookRepository(database), accounts, base.webhook_sender),
        favourites=FavouriteService(base.images, shared.prompts),
        albums=AlbumService(MongoAlbumRepository(database), base.images),
        exports=_make_export_service(shared, work.exporter),
        imports=_make_import_service(shared, work.importer),
        shares=shares,
        viewers=_make_viewer_service(settings, base, eraser=work.eraser),
        accounts=accounts,
        rate_limits=_make_rate_limits(settings, database),
        updates=make_updates(base, hub, accounts=accounts, shares=shares),
        links=base.objects,
        turn_cursors=TurnCursors(signer),
        page_cursors=PageCursors(signer),
    )


def _make_rate_limits(settings: Settings, database: Database) -> RateLimits:
    limit = settings.limit
    viewer_cost = Rate(limit.cost, limit.cost_per_second)
    address_cost = Rate(limit.address_cost, limit.address_cost_per_second)
    viewer = Rate(limit.viewer_requests, limit.viewer_requests_per_second)
    address = Rate(limit.address_requests, limit.address_requests_per_second)
    return RateLimits(
        MongoRateLimitRepository(database),
        viewer=Allowance(requests=viewer, cost=viewer_cost),
        address=Allowance(requests=address, cost=address_cost),
    )


def make_waiting_turns(settings: Settings, base: Base, *, hints: HintQueue) -> WaitingTurns:
    turns = MongoTurnRepository(base.database)
    conversations = MongoConversationRepository(base.database)
    images = ImageService(base.images, base.image_writer)
    return WaitingTurns(
        waiting=MongoWaitingTurnRepository(base.database),
        turns=turns,
        conversations=conversations,
        edits=EditPlanner(turns, conversations, images, base.registry),
        accounts=_make_account_service(settings, base.database),
        hints=hints,
    )


def _make_upload_service(
    settings: Settings, base: Base, *, upload_processor: UploadProcessor
) -> UploadService:
    return UploadService(
        ObservedUploads(base.database, base.metrics),
        base.images,
        store=base.objects,
        image_processor=upload_processor,
        image_writer=base.image_writer,
        max_bytes=settings.max_upload_bytes,
        max_import_bytes=settings.max_import_bytes,
    )


def _make_viewer_service(settings: Settings, base: Base, *, eraser: ViewerEraser) -> ViewerService:
    return ViewerService(
        MongoViewerRepository(base.database),
        base.image_writer,
        load_samples=load_samples if settings.environment == "development" else None,
        eraser=eraser,
    )


def _make_account_service(settings: Settings, database: Database) -> AccountService:
    return AccountService(
        MongoAccountRepository(database),
        starting_credits=settings.starting_credits or 0,
        max_active_outputs=settings.max_active_outputs,
    )


def _make_conversation_service(settings: Settings, shared: _Shared) -> ConversationService:
    return ConversationService(
        shared.conversations,
        shared.commands,
        shared.accounts,
        shared.images,
        shared.base.registry,
        shared.base.image_writer,
        timedelta(days=settings.restore_days) if settings.restore_days else None,
    )


def _make_turn_service(shared: _Shared, waiting: WaitingTurns) -> TurnService:
    return TurnService(
        turns=shared.turns,
        conversations=shared.conversations,
        commands=shared.commands,
        accounts=shared.accounts,
        edits=waiting.edits,
        canceller=shared.canceller,
        waiting=waiting,
    )


def _make_branch_service(shared: _Shared) -> BranchService:
    branches = MongoBranchRepository(shared.base.database)
    return BranchService(
        shared.commands, branches, shared.turns, shared.hints, shared.base.image_writer
    )


def _make_choice_service(shared: _Shared) -> ChoiceService:
    database = shared.base.database
    return ChoiceService(
        shared.turns, MongoChoiceRepository(database), MongoModelStatsRepository(database)
    )


def _make_output_service(shared: _Shared) -> OutputService:
    return OutputService(
        outputs=shared.outputs,
        commands=shared.commands,
        accounts=shared.accounts,
        registry=shared.base.registry,
        canceller=shared.canceller,
        image_writer=shared.base.image_writer,
    )


def _make_post_service(shared: _Shared) -> PostService:
    return PostService(
        posts=shared.posts,
        canceller=shared.canceller,
        commands=shared.commands,
        accounts=shared.accounts,
        images=shared.images,
        registry=shared.base.registry,
        caption_models=shared.base.caption_models,
        image_writer=shared.base.image_writer,
    )


def _make_share_service(
    settings: Settings, shared: _Shared, blocked: BlockedViewers
) -> ShareService:
    return ShareService(
        MongoShareRepository(shared.base.database),
        shared.conversations,
        ShareTokens(shared.base.image_tools.signer),
        blocked,
        page_url=settings.public_url + SHARED_PATH,
    )


def _make_export_service(shared: _Shared, exporter: Exporter) -> ExportService:
    exports = MongoExportRepository(shared.base.database)
    return ExportService(exports, shared.conversations, shared.accounts, exporter.search_now)


def _make_import_service(shared: _Shared, importer: Importer) -> ImportService:
    database = shared.base.database
    return ImportService(
        MongoImportRepository(database),
        MongoUploadRepository(database),
        shared.accounts,
        shared.base.objects,
        importer.search_now,
    )

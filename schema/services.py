"""The services that resolvers may use. Each service is listed here, and nowhere else."""

from dataclasses import dataclass
from typing import Protocol

from domain.captions import CaptionModelRegistry
from domain.cursors import PageCursors, TurnCursors
from domain.models import ModelRegistry
from domain.ports.objects import Link
from domain.services.accounts import AccountService
from domain.services.albums import AlbumService
from domain.services.branches import BranchService
from domain.services.choices import ChoiceService
from domain.services.conversations import ConversationService
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
from domain.services.webhooks import WebhookService
from schema.updates import Updates


class Links(Protocol):
    def link(self, key: str) -> Link: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Opened once in a process, and shared by all requests."""

    registry: ModelRegistry
    caption_models: CaptionModelRegistry
    conversations: ConversationService
    turns: TurnService
    choices: ChoiceService
    branches: BranchService
    outputs: OutputService
    posts: PostService
    plans: PlanService
    images: ImageService
    uploads: UploadService
    prompts: PromptService
    favourites: FavouriteService
    albums: AlbumService
    webhooks: WebhookService
    exports: ExportService
    imports: ImportService
    shares: ShareService
    viewers: ViewerService
    accounts: AccountService
    rate_limits: RateLimits
    updates: Updates
    links: Links
    turn_cursors: TurnCursors
    page_cursors: PageCursors

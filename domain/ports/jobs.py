"""Jobs as job runners and use cases read and write them: exports and imports."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from domain.albums import Album
from domain.conversations import Conversation
from domain.ids import ImageId, ViewerId
from domain.images import ImageRecord
from domain.jobs import AnyJob, Export, Import, JobClaim, TakenBack
from domain.outputs import GenerationError
from domain.posts import Post
from domain.turns import Turn


class JobRepository(Protocol[AnyJob]):
    """Claims jobs as outputs are claimed: once another process has claimed a job, or it is deleted,
    every write of the earlier claim does nothing and returns False.
    """

    async def create(self, job: AnyJob, *, at_most: int) -> AnyJob | None:
        """Store a job, unless there is one of its id. Return the one that is stored; None where the
        viewer has too many unfinished ones. Raise ViewerBeingDeleted.
        """

    async def get_many(self, viewer_id: ViewerId, ids: Iterable[str]) -> Mapping[str, AnyJob]: ...

    async def claim(self, *, lease: timedelta) -> JobClaim[AnyJob] | None:
        """Claim the job that has waited longest and that no process holds."""

    async def renew(
        self, claim: JobClaim[AnyJob], *, progress: float | None, lease: timedelta
    ) -> bool: ...

    async def expect_bytes(self, claim: JobClaim[AnyJob], keys: Sequence[str]) -> bool:
        """Remember the keys of bytes that are about to be written, until records refer to them."""

    async def fail(
        self, claim: JobClaim[AnyJob], error: GenerationError, *, kept: timedelta
    ) -> bool: ...


class ExportRepository(JobRepository[Export], Protocol):
    async def complete(
        self, claim: JobClaim[Export], *, key: str, byte_size: int, kept: timedelta
    ) -> bool: ...


class ImportRepository(JobRepository[Import], Protocol):
    async def add_images(self, claim: JobClaim[Import], records: Sequence[ImageRecord]) -> bool: ...

    async def add_turns(self, claim: JobClaim[Import], turns: Sequence[Turn]) -> bool:
        """Add turns. They may exist from an earlier try, and so may posts and albums."""

    async def add_posts(self, claim: JobClaim[Import], posts: Sequence[Post]) -> bool: ...

    async def add_album(
        self, claim: JobClaim[Import], album: Album, image_ids: Sequence[ImageId]
    ) -> bool: ...

    async def give_up(self, claim: JobClaim[Import], error: GenerationError) -> bool:
        """Remember why the import has failed. It is claimed until everything that it has made is
        taken back.
        """

    async def take_back(self, claim: JobClaim[Import], *, limit: int) -> TakenBack | None:
        """Delete about this many of the records that it has made, except images that are used
        elsewhere.

        The caller deletes their bytes, whose keys are remembered until the next call.
        """

    async def complete(
        self,
        claim: JobClaim[Import],
        conversations: Sequence[tuple[Conversation, str]],
        *,
        kept: timedelta,
    ) -> bool:
        """Write the conversations, each with the text by which searches find it. This is the last
        step.
        """

"""Signed tokens of one deployment, also while its secret is being rotated."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.cursors import PageCursors
from domain.ids import new_conversation_id, new_share_id, viewer_id_of
from domain.images import new_key
from domain.shares import Share, ShareTokens
from domain.signing import Signer
from storage.objects.folder import FolderObjectStore

OLD, NEW = b"o" * 32, b"n" * 32
BEFORE = Signer(OLD)
PREPARED = Signer(OLD, accepted=[NEW])
SWITCHED = Signer(NEW, accepted=[OLD])
AFTER = Signer(NEW)


@pytest.mark.parametrize(
    ("maker", "reader", "accepted"),
    [
        (BEFORE, PREPARED, True),
        (PREPARED, BEFORE, True),
        (PREPARED, SWITCHED, True),
        (SWITCHED, PREPARED, True),
        (SWITCHED, AFTER, True),
        (AFTER, SWITCHED, True),
        (BEFORE, AFTER, False),
        (AFTER, BEFORE, False),
        (SWITCHED, BEFORE, False),
    ],
)
def test_during_a_rotation_signatures_with_either_secret_are_valid(
    maker: Signer, reader: Signer, accepted: bool, tmp_path: Path
) -> None:
    token = maker.sign("purpose", b"payload")
    share = Share(
        id=new_share_id(),
        owner_id=viewer_id_of("tests", "ana"),
        conversation_id=new_conversation_id(),
        includes_prompts=True,
        expires_at=None,
        views=0,
        created_at=datetime.now(UTC),
    )
    key = new_key("images", "image/png")
    stores = [FolderObjectStore(tmp_path, public_url="", signer=one) for one in (maker, reader)]
    query = stores[0].link(key).url.partition("?")[2]
    cursor = PageCursors(maker).make("list", (1, "x"))

    assert reader.verify("purpose", token) == (b"payload" if accepted else None)
    assert reader.verify("another", token) is None
    read = ShareTokens(reader).read(ShareTokens(maker).make(share))
    assert read == ((share.owner_id, share.id) if accepted else None)
    assert (stores[1].seconds_left(key, query) is not None) is accepted
    assert (_position(reader, cursor) == (1, "x")) is accepted


def _position(signer: Signer, cursor: str) -> object:
    try:
        return PageCursors(signer).read("list", cursor)
    except Exception:
        return None


@pytest.mark.parametrize("altered", ["", "=", "é", "x", "AAAA", "not base64!"])
def test_a_modified_token_is_invalid(altered: str) -> None:
    assert SWITCHED.verify("purpose", altered) is None
    assert SWITCHED.verify("purpose", SWITCHED.sign("purpose", b"payload") + altered) is None or (
        altered == ""
    )

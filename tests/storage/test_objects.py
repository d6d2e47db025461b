"""Objects are complete or missing, keys never lead elsewhere, and signed URLs expire in time."""

import asyncio
import os
import resource
import subprocess
import sys
import textwrap
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from domain.errors import ObjectMissing, StoreUnavailable
from domain.images import SHARDS, new_key, rendition_key
from domain.ports.objects import ObjectStore, StoredObject
from domain.signing import Signer
from storage.objects.folder import FolderObjectStore
from storage.objects.folder_files import LEFTOVER_PREFIX

HALF_AN_HOUR = 30 * 60
NAME = "3f" + "0a" * 19
NOT_KEYS = {
    "nothing": "",
    "a slash": "/",
    "no shard": f"images/{NAME}.png",
    "another folder": f"secrets/3f/{NAME}.png",
    "another shard than the name's": f"images/4f/{NAME}.png",
    "a step up": f"images/3f/../{NAME}.png",
    "steps up and out": "../../../../etc/passwd",
    "steps up inside": f"images/../images/3f/{NAME}.png",
    "an absolute path": f"/images/3f/{NAME}.png",
    "another absolute path": "/etc/passwd",
    "a doubled slash": f"images//3f/{NAME}.png",
    "a backslash": f"images\\3f\\{NAME}.png",
    "an escaped slash": f"images%2f3f%2f{NAME}.png",
    "an escaped step up": f"%2e%2e/3f/{NAME}.png",
    "capitals": f"images/3F/{NAME.upper()}.png",
    "a shorter name": f"images/3f/{NAME[:-1]}.png",
    "a longer name": f"images/3f/{NAME}0.png",
    "another ending": f"images/3f/{NAME}.svg",
    "no ending": f"images/3f/{NAME}",
    "two endings": f"images/3f/{NAME}.png.png",
    "a line break at the end": f"images/3f/{NAME}.png\n",
    "a NUL": f"images/3f/{NAME}.png\0.png",
    "a blank": f" images/3f/{NAME}.png",
    "digits of another script": f"images/3f/{NAME[:-1]}٣.png",
    "a wide dot": f"images/3f/{NAME}．png",
    "a rendition that is no WebP": f"images/3f/{NAME}-256w.png",
    "a rendition without a width": f"images/3f/{NAME}-w.webp",
    "a rendition of width 0": f"images/3f/{NAME}-0w.webp",
    "a file left half written": f"images/3f/{LEFTOVER_PREFIX}0123456789abcdef",
}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(tmp_path: Path, clock: Clock) -> AsyncIterator[FolderObjectStore]:
    store = FolderObjectStore(
        tmp_path / "objects",
        public_url="https://pictures.test/",
        signer=Signer(b"a secret"),
        clock=clock,
    )
    yield store
    await store.aclose()


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


def query_of(url: str) -> str:
    return urlsplit(url).query


# Bytes


@pytest.mark.parametrize("folder", ["images", "previews", "samples"])
@pytest.mark.parametrize("content_type", ["image/png", "image/jpeg", "image/webp"])
async def test_an_object_that_was_stored_can_be_read(
    store: FolderObjectStore, folder: str, content_type: str
) -> None:
    port: ObjectStore = store
    key = new_key(folder, content_type)
    thumbnail_key = rendition_key(key, 1024)

    await port.put(key, b"the picture")
    await port.put(thumbnail_key, b"its thumbnail")

    assert await port.get(key) == b"the picture"
    assert await port.get(thumbnail_key) == b"its thumbnail"


async def test_a_range_can_be_read(store: FolderObjectStore) -> None:
    key = new_key("images", "image/png")
    await store.put(key, b"0123456789")

    assert await store.get_size(key) == 10
    assert await store.read(key, start=3, count=4) == b"3456"
    with pytest.raises(StoreUnavailable):
        await store.read(key, start=8, count=4)


async def test_an_empty_object_is_an_object(store: FolderObjectStore) -> None:
    key = new_key("images", "image/png")

    await store.put(key, b"")

    assert await store.get(key) == b""


async def test_a_deleted_object_is_missing(store: FolderObjectStore) -> None:
    gone, kept = new_key("images", "image/png"), new_key("images", "image/png")
    await store.put(gone, b"gone")
    await store.put(kept, b"kept")

    await store.delete([gone])

    with pytest.raises(ObjectMissing):
        await store.get(gone)
    with pytest.raises(ObjectMissing):
        await store.get_size(gone)
    assert await store.get(kept) == b"kept"


async def test_deleting_skips_missing_objects(store: FolderObjectStore) -> None:
    missing, there = new_key("images", "image/png"), new_key("images", "image/png")
    await store.delete([missing])
    await store.put(there, b"there")

    await store.delete([missing, there, there])

    with pytest.raises(ObjectMissing):
        await store.get(there)


async def test_a_missing_object_raises_the_error_of_the_port(store: FolderObjectStore) -> None:
    with pytest.raises(StoreUnavailable):
        await store.get(new_key("images", "image/png"))


async def test_an_unusable_folder_is_an_unavailable_store(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")
    store = FolderObjectStore(tmp_path / "objects", public_url="", signer=Signer(b"a secret"))

    with pytest.raises(StoreUnavailable) as refused:
        await store.put(new_key("images", "image/png"), b"picture")

    assert isinstance(refused.value.__cause__, OSError)
    await store.aclose()


# Listing


async def listed(store: ObjectStore) -> list[StoredObject]:
    return [one for shard in SHARDS async for one in store.list_keys(shard)]


async def test_all_objects_are_listed_with_size_and_time(store: FolderObjectStore) -> None:
    assert await listed(store) == []
    begun = time.time() - 1
    sizes: dict[str, int] = {}
    for folder in ("images", "previews", "samples"):
        key = new_key(folder, "image/png")
        sizes |= {key: 5, rendition_key(key, 256): 7}
    for key, size in sizes.items():
        await store.put(key, b"x" * size)

    there = await listed(store)

    assert {found.key: found.byte_size for found in there} == sizes
    assert len(there) == len(sizes)
    assert all(begun <= found.modified_at.timestamp() <= time.time() + 1 for found in there)
    await store.delete(list(sizes))
    assert await listed(store) == []


async def test_only_objects_are_listed(store: FolderObjectStore, tmp_path: Path) -> None:
    key = f"images/3f/{NAME}.png"
    await store.put(key, b"picture")
    shard = tmp_path / "objects" / "images" / "3f"
    (shard / f"{LEFTOVER_PREFIX}0123456789abcdef").write_bytes(b"half")
    (shard / f"{NAME}.svg").write_bytes(b"no key")
    (shard / f"{NAME}.jpg").symlink_to(shard / f"{NAME}.png")
    (shard / f"{NAME}.webp").mkdir()
    (tmp_path / "objects" / "images" / "4f").symlink_to(shard)
    (tmp_path / "objects" / "previews").write_bytes(b"a file where a folder should be")

    assert [found.key for found in await listed(store)] == [key]


async def test_an_unreadable_store_is_not_listed_as_empty(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("a file where the folder should be")
    store = FolderObjectStore(tmp_path / "objects", public_url="", signer=Signer(b"a secret"))

    with pytest.raises(StoreUnavailable):
        await listed(store)

    await store.aclose()


# Atomicity


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_leaves_nothing_behind(store: FolderObjectStore, tmp_path: Path) -> None:
    key = new_key("images", "image/png")

    with files_no_larger_than(100_000), pytest.raises(StoreUnavailable):
        await store.put(key, bytes(1_000_000))

    assert files_below(tmp_path) == []
    with pytest.raises(ObjectMissing):
        await store.get(key)


async def test_readers_see_the_complete_object_or_none(store: FolderObjectStore) -> None:
    keys = [new_key("images", "image/png") for _ in range(20)]
    whole = os.urandom(2_000_000)
    seen: list[bytes] = []
    writing = True

    async def read_what_is_there() -> None:
        # A slow machine may not have read before all was written.
        while writing or len(seen) <= len(keys):
            for key in keys:
                try:
                    seen.append(await store.get(key))
                except ObjectMissing:
                    await asyncio.sleep(0)

    reading = asyncio.create_task(read_what_is_there())
    for key in keys:
        await store.put(key, whole)
    writing = False
    await reading

    assert all(data == whole for data in seen)


def test_a_killed_process_leaves_only_complete_objects_and_known_temporary_files(
    tmp_path: Path,
) -> None:
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from domain.images import new_key
        from domain.signing import Signer
        from storage.objects.folder import FolderObjectStore

        async def main():
            store = FolderObjectStore(Path(sys.argv[1]), public_url="", signer=Signer(b"-"))
            while True:
                await store.put(new_key("images", "image/png"), b"x" * 6_000_000)
                print("put", flush=True)

        asyncio.run(main())
        """
    )
    for delay in (0.011, 0.05, 0.087):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        # No wait for a condition: the moment of death is what is tried.
        time.sleep(delay)
        process.kill()
        process.communicate()

    objects = [path for path in files_below(tmp_path) if path.suffix == ".png"]
    others = [path for path in files_below(tmp_path) if path.suffix != ".png"]
    assert objects
    assert {path.stat().st_size for path in objects} == {6_000_000}
    assert all(path.name.startswith(LEFTOVER_PREFIX) for path in others)


# Escapes


@pytest.mark.parametrize("key", NOT_KEYS.values(), ids=NOT_KEYS.keys())
async def test_an_invalid_key_is_refused_before_the_disk_is_accessed(
    store: FolderObjectStore, tmp_path: Path, key: str
) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await store.put(key, b"picture")
    with pytest.raises(ValueError, match="not a key"):
        await store.get(key)
    with pytest.raises(ValueError, match="not a key"):
        await store.get_size(key)
    with pytest.raises(ValueError, match="not a key"):
        await store.read(key, start=0, count=1)
    with pytest.raises(ValueError, match="not a key"):
        await store.delete([key])
    with pytest.raises(ValueError, match="not a key"):
        store.link(key)
    assert is_empty(tmp_path)


async def test_one_invalid_key_keeps_all_from_being_deleted(store: FolderObjectStore) -> None:
    key = new_key("images", "image/png")
    await store.put(key, b"kept")

    with pytest.raises(ValueError, match="not a key"):
        await store.delete([key, "images/../secret"])

    assert await store.get(key) == b"kept"


@pytest.mark.parametrize("linked", ["images", "images/3f", f"images/3f/{NAME}.png"])
async def test_symbolic_links_are_not_followed(
    store: FolderObjectStore, tmp_path: Path, linked: str
) -> None:
    key = f"images/3f/{NAME}.png"
    below = key.removeprefix(linked).lstrip("/")
    outside = tmp_path / "outside"
    secret = outside / below if below else outside
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_bytes(b"secret")
    link = tmp_path / "objects" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)

    with pytest.raises(ObjectMissing):
        await store.get(key)
    with pytest.raises(ObjectMissing):
        await store.get_size(key)
    await store.delete([key])

    assert secret.read_bytes() == b"secret"


@pytest.mark.parametrize("linked", ["images", "images/3f"])
async def test_nothing_is_stored_through_a_symbolic_link(
    store: FolderObjectStore, tmp_path: Path, linked: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = tmp_path / "objects" / linked
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)

    with pytest.raises(StoreUnavailable):
        await store.put(f"images/3f/{NAME}.png", b"picture")

    assert files_below(outside) == []


async def test_storing_replaces_a_symbolic_link_and_not_its_target(
    store: FolderObjectStore, tmp_path: Path
) -> None:
    key = f"images/3f/{NAME}.png"
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    link = tmp_path / "objects" / key
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)

    await store.put(key, b"picture")

    assert await store.get(key) == b"picture"
    assert outside.read_bytes() == b"secret"


async def test_only_a_regular_file_is_an_object(store: FolderObjectStore, tmp_path: Path) -> None:
    folder_key, pipe_key = (f"images/3f/{NAME}.{ending}" for ending in ("png", "jpg"))
    (tmp_path / "objects" / folder_key).mkdir(parents=True)
    os.mkfifo(tmp_path / "objects" / pipe_key)

    async with asyncio.timeout(5):
        for key in (folder_key, pipe_key):
            with pytest.raises(ObjectMissing):
                await store.get(key)


# Links


def test_a_signed_url_is_absolute_and_has_its_expiry(
    store: FolderObjectStore, clock: Clock
) -> None:
    key = new_key("images", "image/png")

    link = store.link(key)

    address = urlsplit(link.url)
    assert (address.scheme, address.netloc) == ("https", "pictures.test")
    assert address.path == f"/objects/{key}"
    assert f"expires={int(link.expires_at.timestamp())}&" in address.query
    assert store.seconds_left(key, address.query) == link.expires_at.timestamp() - clock.now


def test_a_signed_url_is_stable_for_half_an_hour_and_valid_for_as_long_again(
    store: FolderObjectStore, clock: Clock
) -> None:
    key = new_key("images", "image/png")
    given: dict[str, list[float]] = {}

    for clock.now in range(1_800_000_000, 1_800_000_000 + 4 * 3600):
        link = store.link(key)
        given.setdefault(link.url, []).append(clock.now)
        assert HALF_AN_HOUR < link.expires_at.timestamp() - clock.now <= 2 * HALF_AN_HOUR

    whole_windows = list(given.values())[1:-1]
    assert len(whole_windows) >= 6
    assert {len(moments) for moments in whole_windows} == {HALF_AN_HOUR}


def test_signed_urls_do_not_all_change_at_once(store: FolderObjectStore, clock: Clock) -> None:
    keys = [new_key("images", "image/png") for _ in range(300)]
    most_at_once, changed = 0, 0
    before = [store.link(key) for key in keys]

    for _ in range(30):
        clock.now += 60
        after = [store.link(key) for key in keys]
        changes = sum(old != new for old, new in zip(before, after, strict=True))
        most_at_once, changed, before = max(most_at_once, changes), changed + changes, after

    assert changed == len(keys)
    assert most_at_once < len(keys) / 8


def test_a_signed_url_is_valid_until_it_expires_and_not_after(
    store: FolderObjectStore, clock: Clock
) -> None:
    key = new_key("images", "image/png")
    link = store.link(key)
    query = query_of(link.url)

    clock.now = link.expires_at.timestamp() - 0.5
    assert store.seconds_left(key, query) == 0.5
    clock.now = link.expires_at.timestamp()
    assert store.seconds_left(key, query) is None
    clock.now += 10 * 365 * 24 * 3600
    assert store.seconds_left(key, query) is None


def test_no_character_of_a_signed_url_can_be_changed(store: FolderObjectStore) -> None:
    key = new_key("images", "image/png")
    query = query_of(store.link(key).url)
    assert store.seconds_left(key, query) is not None

    for place in range(len(query)):
        for character in "A0z_-=&%+. \n":
            altered = query[:place] + character + query[place + 1 :]
            assert altered == query or store.seconds_left(key, altered) is None
    for place in range(len(key)):
        for character in "0f/.\n":
            altered = key[:place] + character + key[place + 1 :]
            assert altered == key or store.seconds_left(altered, query) is None


def test_a_signed_url_is_valid_for_no_other_key(store: FolderObjectStore) -> None:
    key = new_key("images", "image/png")
    query = query_of(store.link(key).url)

    for other in (new_key("images", "image/png"), rendition_key(key, 256), key + "\n"):
        assert store.seconds_left(other, query) is None


def test_only_this_deployment_can_sign_and_only_urls(
    store: FolderObjectStore, tmp_path: Path, clock: Clock
) -> None:
    key = new_key("images", "image/png")
    stranger = FolderObjectStore(
        tmp_path, public_url="https://pictures.test", signer=Signer(b"another"), clock=clock
    )
    expires = int(clock.now) + 60
    payload = f"{key}\n{expires}".encode()

    def forged(purpose: str) -> str:
        tag = urlsafe_b64encode(Signer(b"a secret").tag(purpose, payload)).decode()
        return f"expires={expires}&signature={tag.rstrip('=')}"

    assert store.seconds_left(key, forged("link")) == 60
    assert store.seconds_left(key, forged("cursor")) is None
    assert store.seconds_left(key, query_of(stranger.link(key).url)) is None


def test_signing_a_page_of_urls_takes_little_time(store: FolderObjectStore) -> None:
    keys = [new_key("images", "image/png") for _ in range(100)]

    def seconds() -> float:
        begun = time.thread_time()
        for key in keys:
            store.link(key)
        return time.thread_time() - begun

    assert min(seconds() for _ in range(20)) < 0.005

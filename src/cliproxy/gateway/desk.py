"""The one door for changes of the configuration: lock, read again, edit, validate, persist, publish.

In that order or not at all: a failure at any step leaves memory and disk as they were. Two locks: one of this process,
which every change takes, and one on the file, which keeps other processes from writing meanwhile. Nothing is ever
written over a file that cannot be read: what stands there may be the only copy of somebody's work.

The file belongs to its author, so it may have changed at any time. A change begins by looking: what somebody else wrote
is published first, if it can be, and the change is made to that. A new content must stand still for a moment before it
counts, because the first half of a file being written often is a valid file. And right before the file is replaced
we look once more; whoever came in between is not overwritten, the change begins anew.

Everything that takes time (parsing, hashing, compiling, waiting for locks and disks) is done in threads; publishing is
one assignment, on the event loop, and cannot fail. A change that has begun is carried to its end also when its caller
leaves, since file and memory would else part.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import TypeVar

from msgspec import Struct

from cliproxy.canon.errors import InvalidRequest, SaveFailed
from cliproxy.config import rules
from cliproxy.config.document import Loaded, read, read_tree
from cliproxy.config.editing import Draft
from cliproxy.config.issues import ConfigError, Issue
from cliproxy.config.schema import Config
from cliproxy.config.tree import parse
from cliproxy.gateway.management_key import KeyHasher, is_same_key, plain_keys
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.snapshot import Snapshot
from cliproxy.stores.config_file import SETTLE, ConfigFile, Content, Overtaken, Version
from cliproxy.stores.folders import auth_folder, make_private, names_auth_folder

_log = logging.getLogger("cliproxy")

_LOOKS = 25
"""How often a file that keeps changing is looked at before a change is given up."""

_MOST_EDITS = 50
"""How often one draft is edited before the text is taken apart anew."""

_T = TypeVar("_T")

Edit = Callable[[Draft, Config], None]
"""Edits the draft, which holds what `Config` was read from. Runs in a thread, perhaps more than once. Raises CallerFault
to refuse; then nothing happens."""


class NotYaml(ConfigError):
    """A text that says nothing, because it is no YAML."""


class KeyProtected(InvalidRequest):
    """The document would remove or change the management key, which only the file's author can: keep its line as it is."""


class Terms(Struct, frozen=True, eq=False):
    """What the desk must know about the process. `over` gives the configuration that is served for one that was read:
    the command line wins over the file. `refusal` says why one must not be served, "" when it may. `follow` hears of
    each one that the desk has put in force."""

    over: Callable[[Config], Config] = lambda config: config
    refusal: Callable[[Config], str] = lambda _: ""
    follow: Callable[[Config], None] = lambda _: None


class _World(Struct, frozen=True, eq=False):
    """A configuration that is ready to be published. `digest` is of the content that it stands in."""

    loaded: Loaded
    snapshot: Snapshot
    digest: bytes


class _Kept(Struct, frozen=True, eq=False):
    """The draft of the last change, to go on with; `digest` is of what it wrote. It grows by each of its `edits`."""

    digest: bytes
    draft: Draft
    edits: int


class ConfigDesk:
    """`config` is what the file says and what is in force. `loaded` was read by `file`, its keys were hashed."""

    def __init__(self, runtime: Runtime, file: ConfigFile, config: Config, terms: Terms) -> None:
        self.config = config
        self._runtime = runtime
        self._file = file
        self._terms = terms
        self._standing = file.adopted
        self._hasher = KeyHasher()
        self._kept: _Kept | None = None
        self._edits = 0
        self._lock = asyncio.Lock()
        self._under_way: set[asyncio.Task[object]] = set()

    async def change(self, edit: Edit) -> None:
        """Carry out one edit; when this returns it is on disk, and in effect for the next request.

        Raises the CallerFault that `edit` raised, InvalidRequest when the result would be no valid configuration or
        must not be served, or SaveFailed when the file cannot be read, is broken, or cannot be written.
        """
        await self._to_the_end(self._change(edit))

    async def replace(self, text: str, expect: Callable[[str], None] = lambda _: None) -> Loaded:
        """Put a whole document in place of the file. `expect` sees the text that stands there, and raises CallerFault
        to prevent that.

        The management key stays what it is: where the document has it in plain text, its hash is written; KeyProtected
        when it would be another one, or none. Raises NotYaml, any other ConfigError when the document says something
        impossible, InvalidRequest when it must not be served, SaveFailed as `change` does.
        """
        return await self._to_the_end(self._replace(text, expect))

    async def read_text(self) -> str:
        """The file as it stands on disk, to the byte. Raises OSError, or ConfigError when it is not UTF-8."""
        return (await asyncio.to_thread(self._file.read)).text

    async def adopt(self, version: Version) -> None:
        """Put in force what the watcher has seen, if it still stands there. Raises ConfigError when it must not be."""
        await self._to_the_end(self._adopt(version))

    async def complain(self, error: ConfigError) -> None:
        """Of the watcher: a content that stays unusable."""
        _log.error("The configuration file cannot be used; the last good configuration stays in force.\n%s", error)

    async def close(self) -> None:
        """Wait for the changes that have begun."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    # -- changes, each alone

    async def _change(self, edit: Edit) -> None:
        def change(standing: Content) -> _World | None:
            try:
                draft = self._draft_of(standing)
                edit(draft, self.config)
                return None if draft.text == standing.text else self._saved(draft, self._said_by(draft), standing)
            except ConfigError as error:
                raise InvalidRequest(str(error)) from error

        await self._write(change)

    async def _replace(self, text: str, expect: Callable[[str], None]) -> Loaded:
        loaded = await asyncio.to_thread(self._document, text)

        def replace(standing: Content) -> _World | None:
            expect(standing.text)
            self._kept, self._edits = None, 0
            draft = Draft(text, self._file.path.name)
            self._protect_key(draft, loaded.config)
            return None if draft.text == standing.text else self._saved(draft, self._said_by(draft), standing)

        world = await self._write(replace)
        return loaded if world is None else world.loaded

    async def _adopt(self, version: Version) -> None:
        async with self._lock, contextlib.AsyncExitStack() as locks:
            with contextlib.suppress(OSError):  # what is already written must take effect, whoever holds the lock
                await locks.enter_async_context(self._file_locked())
            try:
                content = await asyncio.to_thread(self._file.read)
            except (OSError, ConfigError):
                return  # the watcher sees that too
            if content.digest == self._standing:
                self._file.adopted = content.digest
            elif content.digest == version.digest:
                await self._take_over(content, version.loaded)

    async def _write(self, change: Callable[[Content], _World | None]) -> _World | None:
        """Run `change` on what stands in the file, in a thread, and publish what it has saved."""
        async with self._lock:
            try:
                async with self._file_locked():
                    for _ in range(_LOOKS):
                        standing = await self._caught_up()
                        with contextlib.suppress(Overtaken):
                            world = await asyncio.to_thread(change, standing)
                            if world is not None:
                                self._publish(world)
                            return world
                    raise SaveFailed("failed to save config: another program keeps changing the file")
            except OSError as error:
                raise SaveFailed(f"failed to save config: {error.strerror or 'the file cannot be written'}") from error

    @contextlib.asynccontextmanager
    async def _file_locked(self) -> AsyncGenerator[None]:
        held = await asyncio.to_thread(self._file.lock)
        try:
            yield
        finally:
            held.release()

    async def _caught_up(self) -> Content:
        """What stands in the file; if somebody else put it there it is in force now. Raises SaveFailed or OSError."""
        try:
            content = await asyncio.to_thread(self._file.read)
            for _ in range(_LOOKS):
                if content.digest == self._standing:
                    return content
                before = content
                await asyncio.sleep(SETTLE)
                content = await asyncio.to_thread(self._file.read)
                if content.digest == before.digest:
                    return await self._caught_up_with(content)
        except ConfigError as error:
            raise SaveFailed(f"failed to save config: {error}") from error
        raise SaveFailed("failed to save config: another program keeps changing the file")

    async def _caught_up_with(self, content: Content) -> Content:
        if content.is_blank:
            raise SaveFailed("failed to save config: the file is empty")
        await self._take_over(content, await asyncio.to_thread(self._read, content.text))
        return await asyncio.to_thread(self._file.read)

    async def _take_over(self, content: Content, loaded: Loaded) -> None:
        """Put somebody else's edit in force. Raises ConfigError when it must not be."""
        try:
            world = await asyncio.to_thread(self._world_of, content, loaded)
        except InvalidRequest as refusal:
            raise ConfigError([Issue(self._file.path.name, "$", 1, 1, refusal.problem.message)]) from refusal
        self._publish(world)
        tell(world.loaded)
        _log.info("The configuration was reloaded.")

    def _publish(self, world: _World) -> None:
        had_keys = bool(self.config.api_keys)
        self._runtime.adopt(world.snapshot)
        self.config = world.loaded.config
        self._standing = self._file.adopted = world.digest
        if had_keys and not self.config.api_keys:
            _log.warning("There are no `api-keys` any more: %s may call without one.", _who(world.snapshot.config))
        self._terms.follow(world.snapshot.config)

    # -- in a thread

    def _document(self, text: str) -> Loaded:
        try:
            return self._read(text)
        except ConfigError as error:
            try:
                parse(text, self._file.path.name)
            except ConfigError:
                raise NotYaml(error.issues) from error
            raise

    def _protect_key(self, draft: Draft, config: Config) -> None:
        if config.management_key == self.config.management_key:
            return
        if not is_same_key(config.management_key, self.config.management_key):
            raise KeyProtected
        place = next(place for place, key in plain_keys(config) if key == config.management_key)
        draft.set(place, self.config.management_key.reveal())

    def _saved(self, draft: Draft, loaded: Loaded, standing: Content) -> _World:
        """Raises ConfigError, InvalidRequest or OSError; then nothing was done."""
        loaded = self._hasher.settle(draft, loaded, self._file.path.name)
        snapshot = self._prepared(loaded.config)
        digest = self._file.save(draft.text, standing.digest)
        self._kept = _Kept(digest, draft, self._edits + 1)
        return _World(loaded, snapshot, digest)

    def _world_of(self, content: Content, loaded: Loaded) -> _World:
        """Of an edit that somebody else has made. Keys in plain text are hashed, in the file too if that is possible."""
        if not plain_keys(loaded.config):
            return _World(loaded, self._prepared(loaded.config), content.digest)
        draft = Draft(content.text, self._file.path.name)
        loaded = self._hasher.settle(draft, loaded, self._file.path.name)
        snapshot = self._prepared(loaded.config)
        return _World(loaded, snapshot, _written_back(self._file, draft, content))

    def _prepared(self, config: Config) -> Snapshot:
        """Raises InvalidRequest when `config` cannot or must not be served."""
        served = self._terms.over(config)
        if refusal := self._terms.refusal(served):
            raise InvalidRequest(refusal)
        try:
            snapshot = self._runtime.prepare(served)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        if config.auth_dir != self.config.auth_dir:
            make_auth_folder(config)
        return snapshot

    def _read(self, text: str) -> Loaded:
        return read(text, name=self._file.path.name)

    def _draft_of(self, standing: Content) -> Draft:
        """The one that wrote what stands in the file, if there is one: it need not take the text apart again."""
        kept, self._kept, self._edits = self._kept, None, 0
        if kept is None or kept.digest != standing.digest or kept.edits >= _MOST_EDITS:
            return Draft(standing.text, self._file.path.name)
        self._edits = kept.edits
        return kept.draft

    def _said_by(self, draft: Draft) -> Loaded:
        return read_tree(draft.tree, name=self._file.path.name)

    async def _to_the_end(self, work: Coroutine[None, None, _T]) -> _T:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)


def open_config(file: ConfigFile) -> Loaded:
    """Read the configuration before a gateway starts with it: its management key is hashed, in the file too if that can
    be, and the folder of accounts that it names is there. Raises ConfigError or OSError."""
    loaded = file.load()
    if plain_keys(loaded.config):
        with contextlib.ExitStack() as locks:
            with contextlib.suppress(OSError):
                locks.callback(file.lock().release)
            loaded = _hashed(file)
    make_auth_folder(loaded.config)
    return loaded


def _hashed(file: ConfigFile) -> Loaded:
    content, name = file.read(), file.path.name
    draft = Draft(content.text, name)
    loaded = KeyHasher().settle(draft, read(content.text, name=name), name)
    file.adopted = content.digest if draft.text == content.text else _written_back(file, draft, content)
    return loaded


def _written_back(file: ConfigFile, draft: Draft, content: Content) -> bytes:
    """Save hashes in place of keys, if that is possible. The digest of what stands in the file then."""
    try:
        return file.save(draft.text, content.digest)
    except Overtaken:
        return content.digest  # whatever stands there now comes next
    except OSError as error:
        _log.warning(
            "The management key stays in %s in plain text, because its hash cannot be written there: %s.",
            file.path.name,
            error.strerror,
        )
        return content.digest


def make_auth_folder(config: Config) -> None:
    """The folder of accounts that the configuration names; without one the gateway serves what else it has."""
    try:
        if names_auth_folder(config):
            make_private(auth_folder(config))
    except OSError as error:
        _log.warning("`auth-dir` cannot be made: %s. No account can be kept there.", error.strerror)


def tell(loaded: Loaded) -> None:
    """Log what the author of a configuration should know about it."""
    for warning in loaded.warnings:
        _log.warning("%s", warning)
    if rules.is_broken_bcrypt(loaded.config.management_key.reveal()):
        _log.error(
            "The management key is no whole bcrypt hash, so nobody can manage this gateway; write the plain key."
        )


def _who(config: Config) -> str:
    is_open = config.allow_unauthenticated and not rules.is_loopback(config.host)
    return "everybody who reaches this port" if is_open else "programs on this machine"

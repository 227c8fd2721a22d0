"""The one door for changes of the configuration: lock, read again, edit, validate, persist, publish.

In that order or not at all: a failure at any step leaves memory and disk as they were. The lock holds within this
process and, through the file, among processes. Nothing is ever written over a file that cannot be read: what stands
there may be the only copy of somebody's work.
"""

import asyncio
import logging
from collections.abc import Callable

from cliproxy.canon.errors import InvalidRequest, SaveFailed
from cliproxy.config.document import Loaded, read
from cliproxy.config.editing import Draft
from cliproxy.config.issues import ConfigError
from cliproxy.config.schema import Config
from cliproxy.gateway.runtime import Runtime
from cliproxy.stores.config_file import ConfigFile

_log = logging.getLogger("cliproxy")

Edit = Callable[[Draft, Config], None]
"""Edits the draft, which holds what `Config` was read from. Raises CallerFault to refuse; then nothing happens."""


class ConfigDesk:
    """`over` gives the configuration that is served for one that was read: the command line wins over the file."""

    def __init__(self, runtime: Runtime, file: ConfigFile, config: Config, over: Callable[[Config], Config]) -> None:
        self._runtime = runtime
        self._file = file
        self._over = over
        self._lock = asyncio.Lock()
        self.config = config

    async def change(self, edit: Edit) -> None:
        """Carry out one edit; when this returns it is on disk, and in effect for the next request.

        Raises the CallerFault that `edit` raised, InvalidRequest when the result would be no valid configuration, or
        SaveFailed when the file cannot be read, is broken, or cannot be written.
        """
        async with self._lock:
            draft = Draft(self._file.read_text())
            before = draft.text
            edit(draft, self.config)
            if draft.text == before:
                return
            try:
                loaded = read(draft.text)
            except ConfigError as error:
                raise InvalidRequest(str(error)) from error
            try:
                self._file.save(draft.text)
            except OSError as error:
                raise SaveFailed(f"failed to save config: {error.strerror}") from error
            self._publish(loaded)

    def _publish(self, loaded: Loaded) -> None:
        self._runtime.publish(self._over(loaded.config))
        self.config = loaded.config

"""Changes of the configuration on a real file, without a server: what is written, what is in force, and what is not."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path

import bcrypt
import pytest

from cliproxy.canon.errors import InvalidRequest, NotFound, SaveFailed
from cliproxy.config.document import read
from cliproxy.config.editing import Draft
from cliproxy.config.issues import ConfigError
from cliproxy.config.schema import Config
from cliproxy.gateway.desk import ConfigDesk, KeyProtected, NotYaml, Terms, open_config, tell
from cliproxy.gateway.runtime import Runtime
from cliproxy.providers.registry import PROVIDERS
from cliproxy.stores.config_file import ConfigFile
from cliproxy.stores.file_lock import lock
from cliproxy.transport.pool import Pool

HASH = bcrypt.hashpw(b"mk", bcrypt.gensalt(4)).decode()
TEXT = f"""\
# head
port: 1000
remote-management:
  secret-key: "{HASH}" # key note
debug: false

api-keys: [k1] # mine
"""


class Desk:
    """A desk on a file, and what it has put in force."""

    def __init__(self, path: Path, text: str = TEXT, refusal: Callable[[Config], str] = lambda _: "") -> None:
        path.write_text(text)
        self.path = path
        self.file = ConfigFile(path)
        config = open_config(self.file).config
        self.runtime = Runtime(config, PROVIDERS, Pool(), monotonic=lambda: 0.0, epoch=lambda: 0.0, boot="test")
        self.followed: list[Config] = []
        terms = Terms(refusal=refusal, follow=self.followed.append)
        self.desk = ConfigDesk(self.runtime, self.file, config, terms)

    def runs(self, *work: Coroutine[None, None, object]) -> list[object]:
        """What came of each, an exception where one was raised."""

        async def story() -> list[object]:
            return await asyncio.gather(*work, return_exceptions=True)

        return asyncio.run(story())

    def run(self, work: Coroutine[None, None, object]) -> object:
        (result,) = self.runs(work)
        if isinstance(result, BaseException):
            raise result
        return result

    def set(self, *path: str, to: object) -> None:
        self.run(self.desk.change(setting(*path, to=to)))

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def served(self) -> Config:
        return self.runtime.snapshot.config


def setting(*path: str, to: object) -> Callable[[Draft, Config], None]:
    return lambda draft, _: draft.set(path, to)  # type: ignore[arg-type]


def adding(key: str) -> Callable[[Draft, Config], None]:
    def edit(draft: Draft, config: Config) -> None:
        draft.set(("api-keys",), [*(one.reveal() for one in config.api_keys), key])

    return edit


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "config.yaml")


# -- changes ----------------------------------------------------------------------------------------------------------


def test_a_change_is_on_disk_and_in_force_when_it_returns(desk):
    desk.set("debug", to=True)

    assert desk.text == TEXT.replace("debug: false", "debug: true")
    assert desk.served.debug
    assert desk.desk.config.debug
    assert [config.debug for config in desk.followed] == [True]


def test_an_edit_that_changes_nothing_writes_nothing(desk):
    before = desk.path.stat()

    desk.set("debug", to=False)

    assert desk.path.stat().st_ino == before.st_ino
    assert desk.followed == []


def test_a_refusal_of_the_edit_is_told_and_nothing_happens(desk):
    def edit(draft: Draft, _: Config) -> None:
        draft.set(("debug",), True)
        raise NotFound("item not found")

    with pytest.raises(NotFound, match="item not found"):
        desk.run(desk.desk.change(edit))

    assert desk.text == TEXT
    assert not desk.desk.config.debug


@pytest.mark.parametrize(
    ("path", "value", "place"), [(("request-retry",), "many", "$.request-retry"), (("port",), 70000, "$.port")]
)
def test_what_would_be_no_configuration_is_refused_with_its_place(desk, path, value, place):
    with pytest.raises(InvalidRequest, match=re.escape(place)):
        desk.set(*path, to=value)

    assert desk.text == TEXT


def test_what_must_not_be_served_is_refused(tmp_path):
    desk = Desk(tmp_path / "config.yaml", refusal=lambda config: "" if config.api_keys else "no `api-keys`")

    with pytest.raises(InvalidRequest, match="no `api-keys`"):
        desk.set("api-keys", to=[])

    assert desk.text == TEXT
    assert desk.served.api_keys


def test_a_failed_save_changes_nothing(desk):
    desk.path.chmod(0o444)

    with pytest.raises(SaveFailed, match=r"^failed to save config: Permission denied$"):
        desk.set("debug", to=True)

    assert desk.text == TEXT
    assert not desk.desk.config.debug
    desk.path.chmod(0o600)
    desk.set("debug", to=True)
    assert desk.served.debug


def test_changes_at_the_same_time_all_survive(desk):
    desk.runs(*(desk.desk.change(adding(f"n{number}")) for number in range(40)))

    keys = {key.reveal() for key in read(desk.text).config.api_keys}
    assert keys == {"k1", *(f"n{number}" for number in range(40))}
    assert {key.reveal() for key in desk.served.api_keys} == keys


def test_a_change_goes_to_its_end_when_its_caller_leaves(desk):
    entered, leave = threading.Event(), threading.Event()

    def edit(draft: Draft, _: Config) -> None:
        entered.set()
        leave.wait(5)
        draft.set(("debug",), True)

    async def story() -> None:
        caller = asyncio.create_task(desk.desk.change(edit))
        await asyncio.to_thread(entered.wait, 5)
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        leave.set()
        await desk.desk.close()

    desk.run(story())

    assert desk.text == TEXT.replace("debug: false", "debug: true")
    assert desk.served.debug


def test_the_loop_goes_on_while_a_change_works(desk):
    leave = threading.Event()

    def edit(draft: Draft, _: Config) -> None:
        leave.wait(5)
        draft.set(("debug",), True)

    async def story() -> None:
        changing = asyncio.create_task(desk.desk.change(edit))
        await asyncio.sleep(0.01)
        assert not changing.done()
        leave.set()
        await changing

    desk.run(story())

    assert desk.served.debug


# -- what others do ---------------------------------------------------------------------------------------------------


def test_an_edit_of_somebody_else_is_put_in_force_first(desk):
    desk.path.write_text(TEXT.replace("[k1]", "[k1, k2]"))

    desk.run(desk.desk.change(adding("n1")))

    assert [key.reveal() for key in desk.served.api_keys] == ["k1", "k2", "n1"]
    assert len(desk.followed) == 2


def test_somebody_who_comes_in_between_is_not_overwritten(desk):
    comes = ["k2", "k3"]

    def edit(draft: Draft, config: Config) -> None:
        adding("n1")(draft, config)
        if comes:
            desk.path.write_text(desk.text.replace("# mine", f"# mine\n# {comes.pop()}"))

    desk.run(desk.desk.change(edit))

    assert "# k2" in desk.text
    assert "# k3" in desk.text
    assert [key.reveal() for key in desk.served.api_keys] == ["k1", "n1"]


@pytest.mark.parametrize("content", [b"debug: [", b"debug: many", b"", b"\n\n", b"\xff"])
def test_a_broken_file_is_not_written_over(desk, content):
    desk.path.write_bytes(content)

    with pytest.raises(SaveFailed, match=r"^failed to save config: "):
        desk.set("debug", to=True)

    assert desk.path.read_bytes() == content
    assert not desk.desk.config.debug


def test_a_missing_file_is_not_created(desk):
    desk.path.unlink()

    with pytest.raises(SaveFailed, match="No such file or directory") as failed:
        desk.set("debug", to=True)

    assert str(desk.path.parent) not in str(failed.value)
    assert list(desk.path.parent.iterdir()) == []


def test_a_half_written_file_is_waited_for(desk):
    whole = TEXT.replace("[k1]", "[k1, k2]") + "request-retry: 7\n"

    async def story() -> None:
        desk.path.write_text(whole[: whole.index("api-keys")])
        changing = asyncio.create_task(desk.desk.change(setting("debug", to=True)))
        await asyncio.sleep(0.1)
        desk.path.write_text(whole)
        await changing

    desk.run(story())

    assert desk.text == whole.replace("debug: false", "debug: true")
    assert all(config.api_keys for config in desk.followed)


def test_the_lock_of_another_process_is_waited_for(desk):
    held = lock(desk.path, 1.0)

    async def story() -> None:
        changing = asyncio.create_task(desk.desk.change(setting("debug", to=True)))
        await asyncio.sleep(0.2)
        assert not changing.done()
        assert desk.text == TEXT
        held.release()
        await changing

    desk.run(story())

    assert desk.served.debug


# -- the management key -----------------------------------------------------------------------------------------------


def test_a_plain_key_in_an_edit_of_somebody_else_is_hashed(desk):
    desk.path.write_text(TEXT.replace(HASH, "mk2"))

    desk.set("debug", to=True)

    stored = desk.desk.config.management_key.reveal()
    assert bcrypt.checkpw(b"mk2", stored.encode())
    assert desk.text == TEXT.replace(HASH, stored).replace("debug: false", "debug: true")


def test_one_plain_key_in_both_places_gets_one_hash(tmp_path):
    desk = Desk(tmp_path / "config.yaml", "remote-management-key: mk\nremote-management: {secret-key: mk}\n")

    loaded = read(desk.text)
    assert loaded.config.remote_management_key == loaded.config.remote_management.secret_key
    assert loaded.warnings == ()


def test_a_broken_hash_is_told_as_an_error(caplog):
    tell(read("remote-management: {secret-key: $2a$oops}\n"))

    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.ERROR]


# -- whole documents --------------------------------------------------------------------------------------------------


def test_a_document_takes_the_place_of_the_file(desk):
    text = TEXT.replace("[k1]", "[other]") + "\n# more\n"

    loaded = desk.run(desk.desk.replace(text))

    assert desk.text == text
    assert loaded.config == desk.served
    assert [key.reveal() for key in desk.served.api_keys] == ["other"]


def test_the_key_in_plain_text_stays_the_stored_hash(desk):
    desk.run(desk.desk.replace(TEXT.replace(HASH, "mk").replace("[k1]", "[other]")))

    assert desk.text == TEXT.replace("[k1]", "[other]")


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(HASH, "another"),
        TEXT.replace(HASH, ""),
        TEXT.replace(HASH, bcrypt.hashpw(b"mk", bcrypt.gensalt(4)).decode()),
        TEXT + 'remote-management-key: ""\n',
        TEXT + "remote-management-key: another\n",
        "debug: true\n",
        "",
    ],
)
def test_a_document_with_another_key_or_none_is_refused(desk, text):
    with pytest.raises(KeyProtected):
        desk.run(desk.desk.replace(text))

    assert desk.text == TEXT


def test_no_yaml_is_told_from_no_configuration(desk):
    for text in ("a: [", "a: 1\na: 2\n", "a: b: c\n"):
        with pytest.raises(NotYaml):
            desk.run(desk.desk.replace(text))
    for text in (TEXT.replace("debug: false", "debug: many"), "- a\n"):
        with pytest.raises(ConfigError) as refused:
            desk.run(desk.desk.replace(text))
        assert not isinstance(refused.value, NotYaml)

    assert desk.text == TEXT


def test_a_document_is_not_put_over_what_its_author_has_not_seen(desk):
    def expect(standing: str) -> None:
        if standing != TEXT:
            raise NotFound("it has changed")

    desk.path.write_text(TEXT + "# by hand\n")

    with pytest.raises(NotFound, match="it has changed"):
        desk.run(desk.desk.replace(TEXT, expect))

    assert desk.text == TEXT + "# by hand\n"


def test_the_file_is_read_to_the_byte(desk):
    content = "\ufeff# ü\r\nport: 1\r\n".encode()
    desk.path.write_bytes(content)

    assert str(desk.run(desk.desk.read_text())).encode() == content


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be told from others here")
def test_the_owner_of_the_file_stays(desk):
    os.chown(desk.path, 12345, 12345)

    desk.set("debug", to=True)

    assert (desk.path.stat().st_uid, desk.path.stat().st_gid) == (12345, 12345)

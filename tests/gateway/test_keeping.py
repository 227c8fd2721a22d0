"""What is known of accounts, from one gateway to the next."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cliproxy.config.document import read
from cliproxy.gateway.accounts import Accounts
from cliproxy.gateway.allowances import Told
from cliproxy.gateway.keeping import Keeping, begin_keeping, righted
from cliproxy.gateway.logins import Clock
from cliproxy.gateway.runtime import Runtime
from cliproxy.gateway.vault import Vault
from cliproxy.providers.accounts import ClientSecrets
from cliproxy.providers.logins.registry import read_file
from cliproxy.providers.registry import KINDS, PROVIDERS
from cliproxy.routing.health import Kept
from cliproxy.routing.limits import Limit
from cliproxy.routing.pool import Pool
from cliproxy.routing.verdict import FOREVER
from cliproxy.stores.auth_files import AuthFiles
from cliproxy.stores.state import Changes, Saved, StateStore
from cliproxy.stores.token_journal import TokenJournal
from cliproxy.transport.pool import Pool as Transport
from fake_time import FakeTime

EPOCH = 1_800_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR
FIVE_HOURS = {"": (Limit("5h", left=0.25, resets_in=600.0),)}


def rest(account: str, model: str = "m", left: float | None = 600.0, cause: str = "exhausted") -> Kept:
    """One that began a minute ago and has `left` seconds to go."""
    until_at = None if left is None else EPOCH + left
    return Kept(account, model, cause, "header", 429, "the sign", EPOCH - 60, until_at, 2, 1)  # type: ignore[arg-type]


class Limits:
    """See `gateway.keeping.Allowances`."""

    def __init__(self) -> None:
        self.told: dict[str, Told] = {}
        self.changed: set[str] = set()

    def take_changed(self) -> dict[str, Told]:
        changed, self.changed = self.changed, set()
        return {account: self.told[account] for account in changed}

    def restore(self, account: str, told: Told) -> None:
        self.told[account] = told


class Origins:
    """Accounts whose name ends in `.json` are those of the file of that name."""

    def __init__(self) -> None:
        self.marks: dict[str, str] = {}
        self.configured = {"key", "other key"}
        self.files = {"a.json", "b.json"}

    def file_of(self, account: str) -> str | None:
        if account in self.configured:
            return ""
        return account if account in self.files else None

    def mark(self, name: str) -> str:
        return self.marks.get(name, "first")


class HungStore(StateStore):
    """On a disk that does not answer for the time being."""

    def __init__(self, path: Callable[[], Path]) -> None:
        super().__init__(path)
        self.answers = threading.Event()

    def load(self) -> Saved:
        assert self.answers.wait(10)
        return super().load()

    def save(self, changes: Changes) -> bool:
        assert self.answers.wait(10)
        return super().save(changes)


class Process:
    """One gateway's health. `passed` are the seconds since the first one began, `jump` what its clock is wrong by."""

    def __init__(
        self,
        path: Path,
        passed: float = 0.0,
        jump: float = 0.0,
        store: StateStore | None = None,
        patience: float = 10.0,
    ) -> None:
        self.time = FakeTime()
        self.jump = passed + jump - self.time.monotonic()
        self.store = store or StateStore(lambda: path)
        self.pool = Pool()
        self.limits = Limits()
        self.origins = Origins()
        clock = Clock(self.time.monotonic, self.epoch, self.time.pause)
        self.keeping = Keeping(self.store, self.pool.rests, self.limits, self.origins, clock, patience)

    def epoch(self) -> float:
        return EPOCH + self.jump + self.time.monotonic()

    def rest(self, kept: Kept) -> None:
        self.pool.rests.restore(kept, self.time.monotonic(), self.epoch())

    def left(self, account: str, model: str = "m") -> float | None:
        """How long a rest still is; None when there is none."""
        found = self.pool.rests.of(account).get(model)
        return None if found is None else found.until - self.time.monotonic()

    def run(self, work: Callable[[], Awaitable[None]], at_last: Callable[[], None] = lambda: None) -> None:
        """Load, do `work` while it keeps, and end; `at_last` is called when that is over."""

        async def whole() -> None:
            await self.keeping.load()
            task = asyncio.create_task(self.keeping.keep())
            await self._waiting()
            try:
                await work()
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                at_last()

        asyncio.run(whole())

    async def later(self, seconds: float = 1.0) -> None:
        """Let time pass, and what is due by then be done."""
        self.time.advance(seconds)
        await self._waiting()

    async def _waiting(self) -> None:
        async with asyncio.timeout(10):
            while not self.time.waits():  # noqa: ASYNC110 - what is waited for sets no event
                await asyncio.sleep(0)


async def nothing() -> None: ...


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def on_disk(path: Path) -> Saved:
    store = StateStore(lambda: path)
    saved = store.load()
    store.close()
    return saved


def first_process(path: Path, *rests: Kept) -> None:
    """One that learns of these and ends."""
    first = Process(path)

    async def learn() -> None:
        for one in rests:
            first.rest(one)

    first.run(learn)


def next_process(path: Path, **options: float) -> Process:
    process = Process(path, **options)
    process.run(nothing)
    return process


# -- writing


def test_a_rest_is_on_disk_a_second_later_and_gone_from_it_when_it_ends(path: Path) -> None:
    process = Process(path)

    async def work() -> None:
        process.rest(rest("key"))
        await process.later()
        assert on_disk(path).rests == (rest("key"),)
        process.pool.wake("key")
        await process.later()
        assert on_disk(path).rests == ()

    process.run(work)


def test_the_last_is_written_when_the_gateway_ends(path: Path) -> None:
    first_process(path, rest("key"))

    assert on_disk(path).rests == (rest("key"),)
    assert [entry.name for entry in path.parent.iterdir()] == ["state.db"]


def test_nothing_new_is_not_written(path: Path) -> None:
    process = Process(path)

    async def work() -> None:
        process.rest(rest("key"))
        await process.later()
        before = [(entry.name, entry.stat().st_mtime_ns) for entry in sorted(path.parent.iterdir())]
        for _ in range(5):
            await process.later()
        assert [(entry.name, entry.stat().st_mtime_ns) for entry in sorted(path.parent.iterdir())] == before

    process.run(work)


def test_limits_are_written_twice_a_minute(path: Path) -> None:
    process = Process(path)

    async def work() -> None:
        process.limits.told["key"] = Told(EPOCH, FIVE_HOURS)
        process.limits.changed.add("key")
        await process.later()
        assert on_disk(path).limits == ()
        await process.later(30)
        assert [one.account for one in on_disk(path).limits] == ["key"]

    process.run(work)


def test_a_database_that_vanishes_is_written_anew_with_everything(path: Path) -> None:
    process = Process(path)

    async def work() -> None:
        process.rest(rest("key"))
        await process.later()
        for entry in path.parent.iterdir():
            entry.unlink()
        process.rest(rest("other key"))
        await process.later()
        await process.later()
        assert {one.account for one in on_disk(path).rests} == {"key", "other key"}

    process.run(work)


def test_what_could_not_be_written_is_written_later(path: Path) -> None:
    process = Process(path)
    path.parent.write_text("in the way")

    async def work() -> None:
        process.rest(rest("key"))
        await process.later()
        path.parent.unlink()
        await process.later()
        assert on_disk(path).rests == (rest("key"),)

    process.run(work)


# -- taking over


def test_rests_go_on_where_they_were_and_remember_their_row(path: Path) -> None:
    first_process(path, rest("key"), rest("key", "", None, "suspended"))

    process = next_process(path, passed=100)

    assert process.left("key") == 500
    assert process.left("key", "") == FOREVER
    found = process.pool.rests.of("key")["m"]
    assert (found.cause, found.source, found.status, found.evidence) == ("exhausted", "header", 429, "the sign")
    assert (found.count, found.probes) == (2, 1)


def test_limits_are_taken_over(path: Path) -> None:
    first = Process(path)
    first.limits.told["key"] = Told(EPOCH, FIVE_HOURS)
    first.limits.changed.add("key")
    first.run(nothing)

    assert next_process(path, passed=100).limits.told == {"key": Told(EPOCH, FIVE_HOURS)}


def test_limits_of_long_ago_are_not(path: Path) -> None:
    first = Process(path)
    first.limits.told["key"] = Told(EPOCH, FIVE_HOURS)
    first.limits.changed.add("key")
    first.run(nothing)

    assert next_process(path, passed=9 * DAY).limits.told == {}
    assert on_disk(path).limits == ()


def test_a_rest_that_is_just_over_is_remembered_and_one_of_long_ago_is_removed(path: Path) -> None:
    first_process(path, rest("key", left=600), rest("other key", left=3000))

    process = next_process(path, passed=600 + HOUR + 1)

    assert process.left("key") is None
    assert process.left("other key") is not None
    assert [one.account for one in on_disk(path).rests] == ["other key"]


def test_rests_of_an_account_that_is_no_longer_configured_wait_for_it(path: Path) -> None:
    first_process(path, rest("key"))
    without = Process(path, passed=10)
    without.origins.configured.clear()
    without.run(nothing)

    assert without.left("key") is None
    assert next_process(path, passed=20).left("key") == 580


def test_a_disk_that_does_not_answer_holds_up_neither_the_start_nor_the_end(path: Path) -> None:
    first_process(path, rest("key"))
    store = HungStore(lambda: path)
    process = Process(path, store=store, patience=0.01)

    async def work() -> None:
        assert process.left("key") is None
        process.rest(rest("other key"))

    process.run(work, at_last=store.answers.set)


# -- clocks


def test_a_clock_that_was_set_back_makes_no_rest_longer(path: Path) -> None:
    first_process(path, rest("key", left=600))

    assert next_process(path, jump=-DAY).left("key") == 660


def test_a_clock_that_was_set_ahead_ends_rests(path: Path) -> None:
    first_process(path, rest("key", left=DAY))

    assert next_process(path, jump=DAY + 5).left("key") == -5


def test_a_clock_that_is_set_while_we_run_is_followed(path: Path) -> None:
    """The machine had started with a clock that was a year behind."""
    process = Process(path, jump=-365 * DAY)

    async def work() -> None:
        now_at = process.epoch()
        process.rest(Kept("key", "m", "exhausted", "header", 429, "", now_at, now_at + 600))
        await process.later()
        process.jump += 365 * DAY
        await process.later()

    process.run(work)

    (kept,) = on_disk(path).rests
    assert kept.until_at == pytest.approx(EPOCH + 600)


@given(started=st.floats(-1e9, 3e9), length=st.floats(0, 1e8), now_at=st.floats(-1e9, 3e9), is_endless=st.booleans())
def test_no_rest_is_ever_longer_than_it_was_nor_begins_in_the_future(
    started: float, length: float, now_at: float, is_endless: bool
) -> None:
    kept = Kept("a", "m", "quota", "header", 429, "", started, None if is_endless else started + length)

    right = righted(kept, now_at)

    if right is not None:
        assert right.started_at <= now_at
        assert (right.until_at is None) == is_endless
        if right.until_at is not None:
            assert right.until_at - now_at <= length + 1e-3
            assert kept.until_at is None or right.until_at <= kept.until_at


def test_a_rest_without_an_end_is_tried_again_after_a_month() -> None:
    assert righted(rest("a", left=None), EPOCH + 29 * DAY) is not None
    assert righted(rest("a", left=None), EPOCH + 31 * DAY) is None


def test_times_that_are_none_are_nothing() -> None:
    endless = float("inf")

    assert righted(Kept("a", "m", "quota", "header", 429, "", EPOCH, endless), EPOCH) is None
    assert righted(Kept("a", "m", "quota", "header", 429, "", -endless, EPOCH), EPOCH) is None


# -- files


def test_rests_of_a_file_are_taken_over_when_it_is_read(path: Path) -> None:
    first_process(path, rest("a.json"), rest("b.json"))
    process = Process(path, passed=10)

    async def work() -> None:
        assert process.left("a.json") is None
        assert process.keeping.recall("a.json")
        assert process.left("a.json") == 590
        assert process.left("b.json") is None

    process.run(work)

    assert {one.account for one in on_disk(path).rests} == {"a.json", "b.json"}


def test_a_file_with_another_mark_starts_clean_also_the_time_after(path: Path) -> None:
    first_process(path, rest("a.json", "", None, "suspended"), rest("a.json"))
    process = Process(path)
    process.origins.marks["a.json"] = "second"

    async def work() -> None:
        assert not process.keeping.recall("a.json")
        assert process.pool.rests.of("a.json") == {}

    process.run(work)

    assert on_disk(path).rests == ()


def test_the_mark_follows_a_file_that_changes_while_we_run(path: Path) -> None:
    first = Process(path)

    async def learn() -> None:
        first.keeping.recall("a.json")
        first.rest(rest("a.json"))
        await first.later()
        first.origins.marks["a.json"] = "renewed"
        first.keeping.recall("a.json")

    first.run(learn)
    process = Process(path)
    process.origins.marks["a.json"] = "renewed"

    async def work() -> None:
        assert process.keeping.recall("a.json")
        process.origins.marks["a.json"] = "renewed again"
        process.keeping.recall("a.json")

    process.run(work)

    assert [one.mark for one in on_disk(path).marks] == ["renewed again"]


def test_a_file_that_is_not_there_yet_loses_nothing(path: Path) -> None:
    """Its folder may be mounted later."""
    first_process(path, rest("a.json"))
    next_process(path, passed=5)
    process = Process(path, passed=10)

    async def work() -> None:
        assert process.keeping.recall("a.json")
        assert process.left("a.json") == 590

    process.run(work)


def test_marks_that_nothing_needs_are_removed(path: Path) -> None:
    first_process(path, rest("a.json"))

    next_process(path, passed=2 * HOUR)

    assert on_disk(path) == Saved()


# -- with real files


class Household:
    """A folder with one account, and gateways one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "a.json"
        self.now = 0.0

    def write(self, token: str = "secret-token") -> None:
        self.file.write_text(
            json.dumps({"type": "codex", "email": "a@x.org", "access_token": token, "refresh_token": f"{token}-r"})
        )

    def lives(self, work: Callable[[Runtime, Accounts], Awaitable[None]]) -> None:
        """One gateway from its start to its end."""

        async def life() -> None:
            transport = Transport()
            runtime = Runtime(
                read("").config,
                PROVIDERS,
                transport,
                monotonic=lambda: self.now,
                epoch=lambda: EPOCH + self.now,
                boot="test",
                kinds=KINDS,
            )
            files = AuthFiles(lambda: self.folder, time.time)
            vault = Vault(runtime, files, TokenJournal(lambda: self.folder / "t"), ClientSecrets(), ClientSecrets)
            accounts = Accounts(runtime, files, vault, read_file, time.time_ns)
            keeping = await begin_keeping(runtime, accounts, StateStore(lambda: self.folder / ".state" / "state.db"))
            task = asyncio.create_task(keeping.keep())
            await asyncio.sleep(0)
            try:
                await accounts.look()
                await work(runtime, accounts)
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                transport.close()

        asyncio.run(life())

    def suspend(self) -> None:
        async def work(runtime: Runtime, _: Accounts) -> None:
            (account,) = runtime.snapshot.upstreams
            for model, cause, left in (("", "suspended", None), ("gpt-5", "exhausted", DAY)):
                runtime.pool.rests.restore(rest(account, model, left, cause), self.now, EPOCH + self.now)

        self.lives(work)

    def causes(self) -> list[str]:
        """What the account rests for when a gateway has started."""
        found: list[str] = []

        async def work(runtime: Runtime, _: Accounts) -> None:
            (account,) = runtime.snapshot.upstreams
            found.extend(one.cause for one in runtime.pool.rests.of(account).values())

        self.lives(work)
        return sorted(found)


@pytest.fixture
def household(tmp_path: Path) -> Household:
    household = Household(tmp_path)
    household.write()
    household.suspend()
    assert household.causes() == ["exhausted", "suspended"]
    return household


def test_a_restart_forgets_nothing(household: Household) -> None:
    assert household.causes() == ["exhausted", "suspended"]


def test_other_owners_and_modes_are_no_other_file(household: Household) -> None:
    household.file.chmod(0o640)

    assert household.causes() == ["exhausted", "suspended"]


def test_a_file_that_moved_with_its_time_is_no_other_file(household: Household) -> None:
    """Another inode, as after a copy of the whole folder."""
    found, content = household.file.stat(), household.file.read_bytes()
    household.file.rename(household.folder / "old")
    household.file.write_bytes(content)
    os.utime(household.file, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert household.causes() == ["exhausted", "suspended"]


def test_a_file_that_was_made_anew_meanwhile_starts_clean_also_with_the_same_content(household: Household) -> None:
    found = household.file.stat()
    household.file.unlink()
    household.write()
    os.utime(household.file, ns=(found.st_atime_ns, found.st_mtime_ns + 1))

    assert household.causes() == []


def test_a_file_that_was_edited_meanwhile_starts_clean_whatever_its_time_says(household: Household) -> None:
    found = household.file.stat()
    household.write("other-token")
    os.utime(household.file, ns=(found.st_atime_ns, found.st_mtime_ns))

    assert household.causes() == []


def test_a_change_while_we_run_keeps_what_no_new_login_mends(household: Household) -> None:
    async def renew(_: Runtime, accounts: Accounts) -> None:
        household.write("other-token")
        await accounts.look()

    household.lives(renew)

    assert household.causes() == ["exhausted"]


def test_a_file_that_comes_again_while_we_run_starts_clean(household: Household) -> None:
    content = household.file.read_bytes()

    async def again(runtime: Runtime, accounts: Accounts) -> None:
        household.file.unlink()
        await accounts.look()
        household.file.write_bytes(content)
        await accounts.look()
        (account,) = runtime.snapshot.upstreams
        assert runtime.pool.rests.of(account) == {}

    household.lives(again)

    assert household.causes() == []


def test_no_secret_stands_in_the_database(household: Household) -> None:
    everything = (household.folder / ".state" / "state.db").read_bytes()

    assert b"a.json" in everything
    assert b"secret-token" not in everything

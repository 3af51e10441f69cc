"""What a store on a database server owes to a database of skaphos/berth, as tests: there, back, there again.

Inherit `SqlAdoption` beside a fixture named `server`. The statements are the reference's own, as far as its
documents show them.
"""

import re
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from berth.core.decide import decide
from berth.core.names import Key
from berth.core.records import Session, Tenure
from berth.core.requests import Acquire, Acquired, NotAcquired, Renew, Renewed
from berth.store.api import Store, StoreRefused
from berth.store.schema import Migrate
from tests.store.conformance import must_win, read_one
from tests.store.samples import KEY, SECOND, held

FREED, EXPIRED = Key("default", "freed"), Key("default", "expired")


class SqlAdoption:
    create_reference: str
    """The reference's table."""
    present: str
    """The present, as the reference writes it."""
    past: str
    """Long ago, likewise."""

    def opened(self, server: Any, migrate: Migrate = "auto") -> "AbstractAsyncContextManager[Store]":
        raise NotImplementedError

    @pytest.fixture
    def reference(self, server: Any) -> Any:
        """A server with a database of the reference's: a lease is held, one was released, one has expired."""
        server.on(self.create_reference)
        for name, holder, ttl_ms, renewed_at, token in (
            ("a", "edge-1", 30_000, self.present, 7),
            ("freed", "", 0, self.past, 3),
            ("expired", "edge-é", 30_000, self.past, 2**31 - 2),
        ):
            server.on(
                f"""INSERT INTO berth_leases (namespace, name, holder, ttl_ms, acquired_at, renewed_at,
                    fencing_token, version) VALUES ('default', '{name}', '{holder}', {ttl_ms}, {self.past},
                    {renewed_at}, {token}, 5)"""
            )
        return server

    async def test_leases_keep_their_tokens_and_holders(self, reference: Any):
        async with self.opened(reference) as store:
            leases = (await store.read([KEY, FREED, EXPIRED])).leases
            tokens = [observed.record and observed.record.token for observed in leases.values()]
            assert tokens == [7, 3, 2**31 - 2]
            assert isinstance(decide(leases[KEY], Renew("edge-1", 7, SECOND)).outcome, Renewed)
            assert isinstance(decide(leases[KEY], Acquire("other", SECOND)).outcome, NotAcquired)
            taken = decide(leases[FREED], Acquire("other", 30 * SECOND))
            assert isinstance(taken.outcome, Acquired)
            assert (taken.outcome.view.token, taken.outcome.clean_handover) == (4, False)
            assert taken.write is not None
            await must_win(store, taken.write)

    async def test_names_that_its_table_may_take_for_one_are_two(self, reference: Any):
        alike = [Key("default", "A"), Key("default", "a "), Key("default", "\u00e1"), Key("Default", "a")]
        async with self.opened(reference) as store:
            assert [each.record for each in (await store.read(alike)).leases.values()] == [None] * 4
            await must_win(store, *(held(key) for key in alike))
            record = (await read_one(store)).record
            assert record is not None
            assert record.token == 7

    async def test_what_other_clocks_have_renewed_lives_its_whole_ttl_from_then(self, reference: Any):
        async with self.opened(reference) as store:
            observed = (await store.read([EXPIRED])).leases[EXPIRED]
            assert observed.record is not None
            assert observed.record.tenures[0].holder == "edge-é"
            assert observed.idle_us[0] < 20 * SECOND

    async def test_a_server_of_the_reference_that_still_runs_loses_its_writes(self, reference: Any):
        async with self.opened(reference):
            pass
        stale = (
            f"UPDATE berth_leases SET renewed_at = {self.past}, version = 6 WHERE name = 'a' AND version = 5"
        )
        reference.on(stale)
        assert reference.on("SELECT version FROM berth_leases WHERE name = 'a'") == [(6,)]
        assert reference.on(f"SELECT 1 FROM berth_leases WHERE name = 'a' AND renewed_at = {self.past}") == []

    async def test_the_way_back_and_there_again(self, reference: Any):
        session, under = Session("s-1", 1, "edge-1", "", 30 * SECOND, 1), Key("default", "under")
        async with self.opened(reference) as store:
            before = (await read_one(store)).record
            assert before is not None
            delayed = replace(before, version=before.version + 1, lock_delay_us=SECOND)
            await must_win(store, delayed, session, held(under, token=4, session="s-1"))
            # The way back begins with the end of the sessions and of what hangs on them.
            ended = (await store.read([under], ["s-1"])).sessions["s-1"].session
            await must_win(store, replace(ended, version=2, ended="clean", ended_at_us=9))
        columns = "holder, ttl_ms, fencing_token, version"
        as_text = [
            (holder.decode() if isinstance(holder, bytes) else holder, *numbers)
            for holder, *numbers in reference.on(f"SELECT {columns} FROM berth_leases ORDER BY name")
        ]
        assert as_text == [
            ("edge-1", 30_000, 7, 7),
            ("edge-é", 30_000, 2**31 - 2, 6),
            ("", 0, 3, 5),
            ("edge-1", 0, 4, 1),
        ]
        # The reference writes the first eight columns, by name, and knows no others.
        reference.on(
            f"""UPDATE berth_leases SET holder = 'back', ttl_ms = 60000, acquired_at = {self.present},
                renewed_at = {self.present}, fencing_token = 8, version = 8
                WHERE name = 'a' AND version = 7"""
        )
        reference.on(
            f"""INSERT INTO berth_leases (namespace, name, holder, ttl_ms, acquired_at, renewed_at,
                fencing_token, version)
                VALUES ('default', 'z', 'back', 1000, {self.present}, {self.present}, 1, 1)"""
        )
        async with self.opened(reference, "off") as store:
            record = (await read_one(store)).record
            assert record is not None
            (tenure,) = record.tenures
            assert isinstance(tenure, Tenure)
            assert (tenure.holder, tenure.token, tenure.ttl_us) == ("back", 8, 60 * SECOND)
            assert (record.version, record.lock_delay_us) == (8, 0)
            await must_win(store, replace(record, version=9))

    async def test_what_berth_has_added_can_be_removed(self, reference: Any):
        async with self.opened(reference) as store:
            await must_win(store, held(Key("default", "new")))
        for statement in self.removal():
            reference.on(statement)
        assert len(reference.on("SELECT * FROM berth_leases WHERE name = 'new'")[0]) == 8
        async with self.opened(reference) as store:
            record = (await read_one(store)).record
            assert record is not None
            assert record.token == 7

    def removal(self) -> list[str]:
        """As the manual says it."""
        page = Path(__file__).parents[2] / "docs" / "stores.md"
        (script,) = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
        common, more = script.split("-- MariaDB has these as well:")
        return [each for each in (common + self.more_to_remove(more)).split(";") if each.strip()]

    def more_to_remove(self, script: str) -> str:
        """What of the manual's own lines for MariaDB counts here."""
        return ""

    async def test_a_table_of_somebody_else_s_is_refused_untouched(self, server: Any):
        server.on("CREATE TABLE berth_leases (ship int)")
        with pytest.raises(StoreRefused, match="name another database"):
            async with self.opened(server):
                pass
        assert server.on("SELECT ship FROM berth_leases") == []

    async def test_without_leave_nothing_is_migrated(self, reference: Any):
        with pytest.raises(StoreRefused, match="sql-migrate auto"):
            async with self.opened(reference, "off"):
                pass
        assert reference.on("SELECT version FROM berth_leases") == [(5,)] * 3
        async with self.opened(reference):
            pass
        async with self.opened(reference, "off"):
            pass

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ("UPDATE berth_schema SET checksum = 'x'", "not this berth's"),
            ("INSERT INTO berth_schema VALUES (99, 'later', 'x')", "newer berth"),
            ("ALTER TABLE berth_leases DROP COLUMN incarnation", "incarnation"),
        ],
    )
    async def test_a_schema_that_is_not_this_one_s_is_refused(self, server: Any, change: str, complaint: str):
        async with self.opened(server):
            pass
        server.on(change)
        for migrate in ("auto", "off"):
            with pytest.raises(StoreRefused, match=complaint):
                async with self.opened(server, migrate):
                    pass

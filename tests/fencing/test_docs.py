"""The manual page: its statements are the constants, and its examples run."""

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import psycopg
import pytest

from berth.client.fencing import (
    HEADER,
    MariadbFence,
    PostgresFence,
    SqlFence,
    SqliteFence,
    StaleToken,
    fenced_put,
    objects,
)
from tests.fencing import page
from tests.fencing.targets import open_mariadb, open_postgres, open_sqlite
from tests.support.mariadb import Mariadb
from tests.support.postgres import Postgres

FENCES: list[SqlFence] = [PostgresFence(), MariadbFence(), SqliteFence()]


@pytest.mark.parametrize(("fence", "block"), [*zip(FENCES, page.blocks("sql"), strict=True)])
def test_statements_are_those_that_run(fence: SqlFence, block: str) -> None:
    shown = [text.strip() for text in block.split(";\n") if text.strip()]
    mark = dollars if isinstance(fence, PostgresFence) else question_marks
    assert shown == [mark(text) for text in (fence.CREATE, fence.RAISE, fence.CONFIRM)]


def question_marks(statement: str) -> str:
    return statement.replace("%s", "?")


def dollars(statement: str) -> str:
    for number in range(1, statement.count("%s") + 1):
        statement = statement.replace("%s", f"${number}", 1)
    return statement


def test_numbered_parameters_run_as_they_are_shown(postgres_server: Postgres) -> None:
    create, enter, confirm, *_ = (text for text in page.blocks("sql")[0].split(";\n"))
    with psycopg.connect(postgres_server.dsn) as connection:
        connection.cursor().execute(create.encode())
        connection.cursor().execute(b"PREPARE enter AS" + enter.encode())
        connection.cursor().execute(b"PREPARE confirm AS" + confirm.encode())
        connection.cursor().execute(b"EXECUTE enter('default/shown', 7)")
        shown = connection.cursor().execute(b"EXECUTE confirm('default/shown')").fetchone()
        assert shown == (7, True)
        connection.rollback()


def refuses(pay: Callable[..., None], connect: Callable[[], Any]) -> None:
    """Whether the example pays with rising tokens only, and writes nothing that is refused."""
    with closing(connect()) as connection:
        connection.cursor().execute("CREATE TABLE payments (amount integer)")
        connection.commit()
    pay(10, token=7)
    pay(20, token=8)
    with pytest.raises(StaleToken):
        pay(30, token=7)
    with closing(connect()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT amount FROM payments ORDER BY amount")
        assert [amount for (amount,) in cursor.fetchall()] == [10, 20]


def test_the_example_for_postgres(postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENTS_DSN", postgres_server.dsn)
    target = open_postgres(postgres_server.dsn)
    refuses(page.names(page.example("import psycopg"))["pay"], target.connect)
    target.clear()


def test_the_example_for_mariadb(mariadb_server: Mariadb, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENTS_PORT", str(mariadb_server.port))
    monkeypatch.setenv("PAYMENTS_PASSWORD", "berth")
    target = open_mariadb(mariadb_server.dsn)
    refuses(page.names(page.example("import pymysql"))["pay"], target.connect)
    target.clear()


def test_the_example_for_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYMENTS_FILE", str(tmp_path / "payments.db"))
    target = open_sqlite(str(tmp_path / "payments.db"))
    refuses(page.names(page.example("BEGIN IMMEDIATE"))["pay"], target.connect)


async def test_the_examples_of_the_middleware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKS_FILE", str(tmp_path / "marks.db"))
    shown = page.names(page.example("FencedWsgi"), page.example("FencedAsgi"))
    told: list[Any] = []
    for token in (8, 7):
        environ: dict[str, Any] = {"HTTP_BERTH_FENCING_TOKEN": f"default/payments;{token}"}
        setup_testing_defaults(environ)
        list(shown["application"](environ, lambda status, headers: told.append(int(status[:3]))))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            told.append(message["status"])

    for token in (9, 8):
        headers = [(HEADER.lower().encode(), f"default/payments;{token}".encode())]
        await shown["asgi_application"]({"type": "http", "headers": headers}, receive, send)
    assert told == [200, 409, 200, 409]


def test_numbers_and_codes_are_those_of_the_code() -> None:
    assert objects.TRIES == 4
    assert "gives up after four tries with `Contended`" in page.PAGE
    assert f"{HEADER}: default/payments;7" in page.PAGE
    source = Path(fenced_put.__code__.co_filename).with_name("gate.py").read_text()
    codes = set(re.findall(r'\d{3}, "(\w+)"', source))
    assert codes == set(re.findall(r"^\| \d{3} \| `(\w+)`", page.PAGE, re.MULTILINE))

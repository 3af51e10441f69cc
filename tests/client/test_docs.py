"""Every example of the pages on the client and on holding runs, against a real API server."""

import ast
import hashlib
import os
import re
import sys
from functools import partial
from io import StringIO
from pathlib import Path
from textwrap import indent

import pytest
import trio
import trustme

from berth.roles.apiserver.app import serve
from berth.roles.apiserver.options import ApiserverOptions
from berth.runtime.log import Logs
from berth.runtime.supervise import Handle

ROOT = Path(__file__).parents[2]


def examples(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


SNIPPETS = [example for example in examples("client.md", "python") if "trio.run(" not in example]
PROGRAMS = [example for example in examples("client.md", "python") if "trio.run(" in example]
PROGRAMS += [example for example in examples("holding.md", "python") if "hold_session" not in example]
[SESSION_PROGRAM] = (example for example in examples("holding.md", "python") if "hold_session" in example)
COMMANDS = examples("holding.md", "sh")
KEY = "an-api-key-of-the-tests"


@pytest.fixture
def options(authority: trustme.CA, tmp_path: Path) -> ApiserverOptions:
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "tls.pem")
    (tmp_path / "keys").write_text(f"team:{hashlib.sha256(KEY.encode()).hexdigest()}:admin\n")
    return ApiserverOptions(
        listen_addr="127.0.0.1:0",
        metrics_addr="",
        tls_cert_file=tmp_path / "tls.pem",
        tls_key_file=tmp_path / "tls.pem",
        auth_mode="static-keys",
        api_keys_file=tmp_path / "keys",
    )


@pytest.fixture
async def surroundings(
    options: ApiserverOptions, nursery: trio.Nursery, ca_file: Path, tmp_path: Path
) -> dict[str, str]:
    """The environment variables of a running server."""
    handle: Handle = await nursery.start(partial(serve, options, logs=Logs("warn", stream=StringIO())))
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    address = handle.addresses[0].rpartition("/")[2]
    return {
        "BERTH_API_SERVER": f"https://{address}",
        "BERTH_API_KEY_FILE": str(key_file),
        "BERTH_CA_FILE": str(ca_file),
    }


async def test_the_snippets_run_one_after_another(
    surroundings: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    connect, *others = SNIPPETS
    # The page lets them run while the client of the first is open: within its `async with`.
    source = connect + indent("\n".join(others), "    ")
    code = compile(source, "docs/client.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    await eval(code, {})

    told = capsys.readouterr().out.splitlines()
    assert told[0] == "team admin"
    assert "mine until it is not renewed; every write carries token 1" in told
    assert "['team/worker-1']" in told
    assert "not within a second; place 1 in line" in told
    assert {"took 100 shards", "gave up 100 shards"} <= {*told}
    assert {"102 leases are known", "nothing has happened"} <= {*told}
    assert "free 1" in told
    assert "not_found" in told[-1]
    assert not [line for line in told if line.startswith(("lost", "not now", "try again"))]


@pytest.mark.parametrize("program", PROGRAMS)
async def test_the_program_does_its_work_and_releases(surroundings: dict[str, str], program: str) -> None:
    for token in (1, 2):
        told = await run_program(program, surroundings)
        assert told == [f"page {page}, written with token {token}" for page in (1, 2, 3)]


async def test_the_program_under_a_session_does_its_work_and_ends_it(surroundings: dict[str, str]) -> None:
    for token in (1, 2):
        told = await run_program(SESSION_PROGRAM, surroundings)
        assert told == [f"works on shard-{shard} with token {token}" for shard in (1, 2, 3)]


async def test_the_commands_run(surroundings: dict[str, str]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = [await run(["sh", "-euc", command], {**surroundings, "PATH": path}) for command in COMMANDS]
    assert told == [["mine, with token 1"], ["page 1", "page 2", "page 3"]]


async def run_program(source: str, surroundings: dict[str, str]) -> list[str]:
    return await run([sys.executable, "-W", "error", "-c", source], surroundings)


async def run(command: list[str], surroundings: dict[str, str]) -> list[str]:
    with trio.fail_after(30):
        ran = await trio.run_process(
            command, cwd=ROOT, env={**os.environ, **surroundings}, capture_stdout=True
        )
    return ran.stdout.decode().splitlines()


def test_the_pages_have_all_kinds() -> None:
    assert len(SNIPPETS) >= 8
    assert len(PROGRAMS) == 3
    assert len(COMMANDS) == 2

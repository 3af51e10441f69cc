"""Static keys: what a key file may say, and how a running server takes up another."""

import signal
from hashlib import sha256
from pathlib import Path

import pytest

from berth.roles.apiserver.auth import KeysInvalid, StaticKeys
from tests.roles.apiserver.conftest import calling, key_line
from tests.support.apiserver import ANY_PORTS, Apiserver, Certificates, apiserver, refused, until

HASH = sha256(b"key").hexdigest()
HASH_TEXT = "expected ID:SHA256[:ROLE], with the SHA-256 of the key as 64 lower-case hex digits"
ROLE_TEXT = "the role must be one of reader, holder, admin"
ID_TEXT = "the key id must not be empty or contain '/'"
BAD_LINES = {
    "no-colon": HASH_TEXT,
    "a:": HASH_TEXT,
    "a:::": HASH_TEXT,
    f"a:{HASH[:-1]}": HASH_TEXT,
    f"a:{HASH}0": HASH_TEXT,
    f"a:{HASH.upper()}": HASH_TEXT,
    f"a:{HASH[:-1]}g": HASH_TEXT,
    f"a:{HASH[:-1]}\u0661": HASH_TEXT,
    f"a:{HASH}:holder:more": HASH_TEXT,
    f"a:{HASH}:": ROLE_TEXT,
    f"a:{HASH}:Admin": ROLE_TEXT,
    f"a:{HASH}:root": ROLE_TEXT,
    f":{HASH}": ID_TEXT,
    f"a/b:{HASH}": ID_TEXT,
    f"/:{HASH}": ID_TEXT,
    "key": HASH_TEXT,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def tenant_of(keys: StaticKeys, key: str) -> tuple[str, str]:
    identity = keys.identify([f"Bearer {key}"])
    return identity.tenant, identity.role


def test_lines_are_entries_comments_or_nothing(file: Path) -> None:
    lines = [
        "# a comment",
        "",
        "   ",
        f"  west :  {HASH}  ",
        key_line("other", "west"),
        key_line("ops", "ops:admin"),
    ]
    file.write_text("\r\n".join(lines))
    keys = StaticKeys(file)
    assert len(keys) == 3
    assert tenant_of(keys, "key") == ("west", "holder")
    assert tenant_of(keys, "other") == ("west", "holder"), "one tenant may have several keys"
    assert tenant_of(keys, "ops") == ("ops", "admin")


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_is_named_by_its_number(file: Path, line: str) -> None:
    file.write_text(f"# first\n{line}\n")
    with pytest.raises(KeysInvalid) as refusal:
        StaticKeys(file)
    assert str(refusal.value) == f"api keys file {file}: line 2: {BAD_LINES[line]}"


def test_a_hash_stands_once(file: Path) -> None:
    file.write_text(key_line("key", "a") + key_line("key", "b"))
    with pytest.raises(KeysInvalid, match="line 2: the same hash stands on an earlier line"):
        StaticKeys(file)


def test_a_key_is_compared_byte_by_byte(file: Path) -> None:
    file.write_text(f"west:{sha256('schlüssel'.encode()).hexdigest()}\n")
    on_the_wire = "schlüssel".encode().decode("latin-1")
    assert tenant_of(StaticKeys(file), on_the_wire) == ("west", "holder")


def starting(certificates: Certificates, file: Path) -> tuple[int, str]:
    flags = ("--auth-mode", "static-keys", "--api-keys-file", str(file))
    return refused(*certificates.flags, *ANY_PORTS, "--store-backend", "mem", *flags)


def test_a_bad_file_is_refused_with_all_that_is_wrong(certificates: Certificates, file: Path) -> None:
    file.write_text("".join(f"{line}\n" for line in BAD_LINES))
    status, told = starting(certificates, file)
    assert status == 2
    (line,) = told.splitlines()
    assert line.startswith(f"error: --api-keys-file: api keys file {file}: line 1: {HASH_TEXT}; line 2: ")
    assert all(f"line {number}: " in line for number in range(1, len(BAD_LINES) + 1))
    assert HASH not in line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"#" * (1 << 20) + b"#", "is larger than 1048576 bytes"),
    ],
    ids=["missing", "binary", "huge"],
)
def test_an_unusable_file_is_refused(
    certificates: Certificates, file: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        file.write_bytes(content)
    assert starting(certificates, file) == (
        2,
        f"error: --api-keys-file: api keys file {file} {says}\n",
    )


def status_of(server: Apiserver, key: str) -> int:
    caller = calling(server, key)
    try:
        return caller.get("/v1alpha1/whoami").status
    finally:
        caller.close()


def test_a_hangup_takes_up_a_good_file_and_keeps_the_old_keys_over_a_bad_one(
    tmp_path: Path, file: Path
) -> None:
    certificates = Certificates(tmp_path)
    file.write_text(key_line("old", "west"))
    with apiserver(certificates, "--auth-mode", "static-keys", "--api-keys-file", str(file)) as server:
        file.write_text(key_line("new", "west"))
        assert status_of(server, "new") == 401, "not before it is told to"
        server.signal(signal.SIGHUP)
        until(lambda: status_of(server, "new") == 200)
        assert status_of(server, "old") == 401

        file.write_text("broken\n")
        certificates.issue()
        server.signal(signal.SIGHUP)
        until(lambda: bool(server.errors()))
        assert server.errors()[0]["msg"] == "API keys cannot be used, the old ones stay"
        assert "line 1: expected ID:SHA256" in server.text
        assert status_of(server, "new") == 200
        until(lambda: bool(server.logged("TLS certificate reloaded")), within_seconds=3)

        file.unlink()
        server.signal(signal.SIGHUP)
        until(lambda: len(server.errors()) == 2)
        assert status_of(server, "new") == 200

        file.write_text("")
        server.signal(signal.SIGHUP)
        until(lambda: status_of(server, "new") == 401)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def test_a_server_without_keys_lets_nobody_in_and_says_so(certificates: Certificates, file: Path) -> None:
    file.write_text("# none yet\n")
    with apiserver(certificates, "--auth-mode", "static-keys", "--api-keys-file", str(file)) as server:
        assert status_of(server, "any") == 401
        assert any("holds no key" in line["msg"] for line in server.log)
        server.stop()

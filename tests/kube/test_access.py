"""Access: what a kubeconfig, a plug-in or a pod says, kept fresh; and what to do when it says nothing."""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
import yaml

from berth.kube import access as access_module
from berth.kube import access_config
from berth.kube.access import (
    Access,
    AccessInvalid,
    access_by_kubeconfig,
    access_in_cluster,
    find_access,
)
from berth.kube.api import open_client
from berth.kube.faults import Unauthorized, Unavailable
from berth.kube.objects import LEASES
from berth.runtime.asgi import Receive, Scope, Send
from berth.runtime.clock import ManualClock
from berth.runtime.tls import TlsFiles
from tests.kube.conftest import serving
from tests.kube.server.rest import KubeServer
from tests.runtime.conftest import Journal
from tests.support.kube_apiserver import KubeApiserver

WALL_US = 1_790_000_000_000_000
SERVER = "https://127.0.0.1:1"
CA_PEM = trustme.CA().cert_pem.bytes()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(wall_us=WALL_US)


def config(
    *,
    user: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    current: str = "here",
    **top: Any,
) -> dict[str, Any]:
    data = base64.b64encode(CA_PEM).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": SERVER, "certificate-authority-data": data, **(cluster or {})},
            }
        ],
        "users": [{"name": "u", "user": {"token": "secret"} if user is None else user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "team"}}],
        **top,
    }


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: dict[str, Any], name: str = "config") -> str:
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


Load = Callable[..., Any]


@pytest.fixture
def load(journal: Journal, clock: ManualClock) -> Load:
    async def load(paths: str, context: str | None = None) -> Access:
        return await access_by_kubeconfig(paths, context=context, logger=journal.logger, clock=clock)

    return load


async def test_a_token_and_where_it_is_for(write: Write, load: Load) -> None:
    access = await load(write(config()))
    assert (access.server, access.namespace) == (SERVER, "team")
    assert await access.authorization() == "Bearer secret"
    assert access.server_name is None


async def test_a_context_by_its_name(write: Write, load: Load) -> None:
    two = config()
    two["contexts"].append({"name": "there", "context": {"cluster": "c", "user": "other"}})
    two["users"].append({"name": "other", "user": {"username": "a", "password": "b"}})
    access = await load(write(two), "there")
    assert access.namespace == "default"
    assert await access.authorization() == "Basic " + base64.b64encode(b"a:b").decode()


async def test_several_files_are_one_and_the_first_word_counts(
    write: Write, load: Load, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "token").write_text("from-file\n")
    first = {**config(), "clusters": [], "users": []}
    second = config(user={"tokenFile": "token"}, current="other")
    paths = [str(tmp_path / "missing"), write(first, "first"), write(second, "sub/second")]
    access = await load(":".join(paths))
    assert access.namespace == "team"
    assert await access.authorization() == "Bearer from-file"


@pytest.mark.parametrize(
    ("content", "context", "text"),
    [
        (config(current=""), None, "has no current-context; set one with"),
        (config(), "nowhere", "nowhere"),
        (config(users=[]), None, "has no user 'u'"),
        (config(clusters=[]), None, "Expected object with name c in .*clusters list"),
        (config(cluster={"proxy-url": "http://proxy"}), None, "wants a proxy"),
        (config(cluster={"certificate-authority-data": "bm9uc2Vuc2U="}), None, "no CA certificate in PEM"),
        (config(user={"client-certificate-data": "eA=="}), None, "without its key"),
        (
            config(user={"client-certificate-data": "eA==", "client-key-data": "eA=="}),
            None,
            "client certificate or its key cannot be used",
        ),
        (config(user={"client-certificate": "none", "client-key": "none"}), None, "File does not exist"),
        ({}, None, "no current-context"),
    ],
)
async def test_what_is_wrong_is_said(
    write: Write, load: Load, content: dict[str, Any], context: str | None, text: str
) -> None:
    with pytest.raises(AccessInvalid, match=text) as caught:
        await load(write(content), context)
    assert "secret" not in str(caught.value)


async def test_a_file_that_is_missing_empty_or_no_yaml(load: Load, tmp_path: Path) -> None:
    with pytest.raises(AccessInvalid, match=r"there is no kubeconfig at .*none"):
        await load(str(tmp_path / "none"))
    for content in ("", "a: [", "- a", "contexts: 7", "just text"):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(AccessInvalid, match="bad cannot be used"):
            await load(str(tmp_path / "bad"))


async def test_a_client_key_that_is_encrypted(write: Write, load: Load, authority: trustme.CA) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    issued = authority.issue_cert("me.test")
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    data = {
        "client-certificate-data": base64.b64encode(issued.cert_chain_pems[0].bytes()).decode(),
        "client-key-data": base64.b64encode(locked).decode(),
    }
    with pytest.raises(AccessInvalid, match="client key is encrypted; decrypt it"):
        await load(write(config(user=data)))


async def test_a_token_file_is_read_again_and_before_a_token(
    write: Write, load: Load, tmp_path: Path, clock: ManualClock
) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    access = await load(write(config(user={"token": "static", "tokenFile": str(file)})))
    assert await access.authorization() == "Bearer one"
    file.write_text("two\n")
    assert await access.authorization() == "Bearer one"
    clock.advance(61)
    assert await access.authorization() == "Bearer two"


async def test_what_holds_outlives_a_failure_to_read_it_again(
    write: Write, load: Load, clock: ManualClock, journal: Journal
) -> None:
    access = await load(write(config()))
    write({})
    clock.advance(61)
    assert await access.authorization() == "Bearer secret"
    assert journal.messages() == ["credentials cannot be refreshed, the old ones stay"]
    assert await access.authorization() == "Bearer secret"
    assert len(journal.messages()) == 1, "not with every request"


async def test_a_key_that_is_given_as_data_leaves_no_file(
    write: Write, load: Load, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    issued = authority.issue_cert("me.test")
    data = {
        "client-certificate-data": base64.b64encode(issued.cert_chain_pems[0].bytes()).decode(),
        "client-key-data": base64.b64encode(issued.private_key_pem.bytes()).decode(),
    }
    for _ in range(2):
        access = await load(write(config(user=data)))
        assert await access.authorization() is None
        assert list((tmp_path / "tmp").iterdir()) == []


class Plugin:
    """An exec plug-in: it answers with what is in a file, and counts its runs."""

    def __init__(self, folder: Path) -> None:
        self._answer, self._runs = folder / "answer", folder / "runs"
        self.path = folder / "plugin"
        self._runs.write_text("")
        self.path.write_text(f'#!/bin/sh\necho run >> "{self._runs}"\n. "{self._answer}"\n')
        self.path.chmod(0o755)

    @property
    def runs(self) -> int:
        return len(self._runs.read_text().splitlines())

    @property
    def user(self) -> dict[str, Any]:
        version = "client.authentication.k8s.io/v1"
        return {"exec": {"apiVersion": version, "command": str(self.path), "interactiveMode": "Never"}}

    def answers(self, **status: Any) -> None:
        credential = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
        self.does(f"cat <<'END'\n{json.dumps({**credential, 'status': status})}\nEND")

    def does(self, script: str) -> None:
        self._answer.write_text(script)


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


async def test_a_plugin_is_asked_once_until_its_answer_is_refused(
    write: Write, load: Load, plugin: Plugin, clock: ManualClock
) -> None:
    plugin.answers(token="one")
    access = await load(write(config(user=plugin.user)))
    clock.advance(3600)
    assert await access.authorization() == "Bearer one"
    assert plugin.runs == 1
    plugin.answers(token="two")
    answers: list[bool] = []

    async def refuse() -> None:
        answers.append(await access.refused("Bearer one"))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(refuse)
    assert answers == [True] * 20
    assert plugin.runs == 2
    assert await access.authorization() == "Bearer two"
    assert not await access.refused("Bearer two"), "a plug-in that has just been asked is not asked again"
    assert plugin.runs == 2


async def test_a_plugins_token_is_renewed_before_it_expires(
    write: Write, load: Load, plugin: Plugin, clock: ManualClock, journal: Journal
) -> None:
    plugin.answers(token="one", expirationTimestamp="2026-09-21T15:13:20Z")  # 3,600 s after the start
    access = await load(write(config(user=plugin.user)))
    assert (access_config.parsed_time("2026-09-21T15:13:20Z") or 0) - WALL_US == 3600 * 1_000_000
    clock.advance(3530)
    assert await access.authorization() == "Bearer one"
    plugin.does("exit 1")
    clock.advance(20)
    assert await access.authorization() == "Bearer one", "it still holds"
    assert journal.messages() == ["credentials cannot be refreshed, the old ones stay"]
    plugin.answers(token="two", expirationTimestamp="2026-09-21T18:13:20Z")
    assert await access.authorization() == "Bearer one", "a plug-in that has just failed is not asked again"
    clock.advance(11)
    assert await access.authorization() == "Bearer two"


async def test_a_token_that_has_expired_and_cannot_be_renewed_is_an_error(
    write: Write, load: Load, plugin: Plugin, clock: ManualClock
) -> None:
    plugin.answers(token="one", expirationTimestamp="2026-09-21T15:13:20Z")
    access = await load(write(config(user=plugin.user)))
    plugin.does("echo no such account >&2; exit 3")
    clock.advance(3601)
    with pytest.raises(
        AccessInvalid, match=r"gave no credential \(exec: process returned 3. no such account"
    ):
        await access.authorization()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exit 1", "gave no credential"),
        ("echo nonsense", "failed to decode process output"),
        ("echo '{}'", "missing key"),
    ],
)
async def test_a_plugin_that_fails(write: Write, load: Load, plugin: Plugin, script: str, text: str) -> None:
    plugin.does(script)
    with pytest.raises(AccessInvalid, match=text):
        await load(write(config(user=plugin.user)))


async def test_a_plugin_that_is_not_installed(write: Write, load: Load) -> None:
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "no-such-plugin",
            "installHint": "get it from the shop",
        }
    }
    with pytest.raises(AccessInvalid, match=r"no-such-plugin .* is not installed: get it from the shop"):
        await load(write(config(user=user)))


async def test_a_plugin_that_hangs_keeps_nobody_else_waiting(
    write: Write, load: Load, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "LOAD_SECONDS", 0.3)
    plugin.does("exec sleep 2")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.01)
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        with trio.fail_after(1.5), pytest.raises(AccessInvalid, match="no credentials after"):
            await load(write(config(user=plugin.user)))
        nursery.cancel_scope.cancel()
    assert turns > 10


async def test_a_plugin_may_give_a_certificate(
    write: Write, load: Load, plugin: Plugin, authority: trustme.CA
) -> None:
    issued = authority.issue_cert("me.test")
    certificate, key = issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode()
    plugin.answers(clientCertificateData=certificate, clientKeyData=key)
    assert await (await load(write(config(user=plugin.user)))).authorization() is None
    plugin.answers(clientCertificateData=certificate)
    with pytest.raises(AccessInvalid, match="without its key"):
        await load(write(config(user=plugin.user)))


class IdentityProvider:
    """What a refresh asks: where the tokens are, and for one."""

    def __init__(self) -> None:
        self.id_token = ""
        self.paths: list[str] = []
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await receive()).get("body", b"").decode()
        url = f"https://{dict(scope['headers'])[b'host'].decode()}"
        self.paths.append(scope["path"])
        if scope["path"] == "/token":
            self.asked.append(body)
            answer = {
                "id_token": self.id_token,
                "refresh_token": "next",
                "access_token": "x",
                "token_type": "x",
            }
        else:
            answer = {"token_endpoint": f"{url}/token"}
        content = json.dumps(answer).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def jwt(**claims: Any) -> str:
    parts = ({"alg": "none"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "x"])


def oidc(url: str, token: str, **more: Any) -> dict[str, Any]:
    told = {"idp-issuer-url": url, "client-id": "berth", "client-secret": "s", "refresh-token": "first"}
    return {"auth-provider": {"name": "oidc", "config": {**told, "id-token": token, **more}}}


async def test_an_oidc_token_that_has_expired_is_refreshed_and_kept(
    write: Write, load: Load, tls_files: TlsFiles, authority: trustme.CA, journal: Journal, clock: ManualClock
) -> None:
    """The package asks the machine's clock whether it has."""
    provider = IdentityProvider()
    provider.id_token = jwt(sub="me", exp=4_000_000_000)
    data = {"idp-certificate-authority-data": base64.b64encode(authority.cert_pem.bytes()).decode()}
    async with serving(provider, tls_files, journal) as url:
        path = write(config(user=oidc(url, jwt(sub="me", exp=1_000_000_000), **data)))
        access = await load(path)
        assert await access.authorization() == f"Bearer {provider.id_token}"
        assert ["grant_type=refresh_token" in body and "first" in body for body in provider.asked] == [True]
        kept = (await load(path)).authorization
        assert await kept() == f"Bearer {provider.id_token}"
        clock.advance(61)
        assert await access.authorization() == f"Bearer {provider.id_token}"
        assert len(provider.asked) == 1


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # so that it would be made
async def test_an_identity_provider_that_nobody_vouches_for_is_told_nothing(
    write: Write, load: Load, tls_files: TlsFiles, journal: Journal
) -> None:
    provider = IdentityProvider()
    async with serving(provider, tls_files, journal) as url:
        path = write(config(user=oidc(url, jwt(exp=1_000_000_000))))
        with pytest.raises(AccessInvalid, match="log in again if it uses OIDC"):
            await load(path)
    assert provider.paths == [], "not even where its tokens are"


async def test_as_a_pod(
    journal: Journal, clock: ManualClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("token", "pods-token\n"), ("ca.crt", CA_PEM.decode()), ("namespace", "team")):
        (tmp_path / name).write_text(content)
    package = "kubernetes.config.incluster_config"
    monkeypatch.setattr(f"{package}.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr(f"{package}.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr(access_config, "NAMESPACE_FILE", tmp_path / "namespace")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(AccessInvalid, match=r"no access as a pod: .*outside a cluster give a kubeconfig"):
        await access_in_cluster(logger=journal.logger)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    access = await find_access(logger=journal.logger, clock=clock)
    assert (access.server, access.namespace) == ("https://10.96.0.1:443", "team")
    assert await access.authorization() == "Bearer pods-token"
    (tmp_path / "token").write_text("rotated")
    clock.advance(61)
    assert await access.authorization() == "Bearer rotated"


async def test_where_access_is_looked_for(
    write: Write, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(AccessInvalid, match=r"no kubeconfig at ~/\.kube/config"):
        await find_access(logger=journal.logger)
    (tmp_path / ".kube").mkdir()
    write(config(), ".kube/config")
    assert (await find_access(logger=journal.logger)).server == SERVER
    monkeypatch.setenv("KUBECONFIG", write(config(cluster={"server": "https://other:6443/"})))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    assert (await find_access(logger=journal.logger)).server == "https://other:6443"


def trusted(authority: trustme.CA, url: str) -> dict[str, Any]:
    data = base64.b64encode(authority.cert_pem.bytes()).decode()
    return {"server": url, "certificate-authority-data": data}


async def test_the_clusters_authority_is_trusted_and_no_other(
    write: Write, load: Load, kube: KubeServer, served: str, authority: trustme.CA
) -> None:
    kube.guarded, kube.tokens = True, {"secret": "me"}
    access = await load(write(config(cluster=trusted(authority, served))))
    async with open_client(access) as client:
        assert (await client.list_page(LEASES, "default")).items == []
    for cluster, text in (
        ({"server": served}, "is not trusted"),
        (trusted(authority, served) | {"tls-server-name": "other.test"}, "cannot be accepted"),
    ):
        async with open_client(await load(write(config(cluster=cluster)))) as client:
            with pytest.raises(Unavailable, match=text) as caught:
                await client.list_page(LEASES, "default")
            assert caught.value.outcome_known
    careless = {"server": served, "insecure-skip-tls-verify": True}
    content = config(cluster=careless)
    del content["clusters"][0]["cluster"]["certificate-authority-data"]
    async with open_client(await load(write(content))) as client:
        await client.list_page(LEASES, "default")


async def test_a_token_that_is_refused_is_read_again_and_the_request_repeated(
    write: Write, load: Load, kube: KubeServer, served: str, authority: trustme.CA, clock: ManualClock
) -> None:
    kube.guarded, kube.tokens = True, {"new": "me"}
    content = config(cluster=trusted(authority, served))
    path = write(content)
    async with open_client(await load(path)) as client:
        clock.advance(30)
        with pytest.raises(Unauthorized):
            await client.list_page(LEASES, "default")
        content["users"][0]["user"]["token"] = "new"
        write(content)
        clock.advance(30)
        await client.list_page(LEASES, "default")


async def test_a_kubeconfig_of_a_real_cluster(real: KubeApiserver, load: Load, tmp_path: Path) -> None:
    """By a client certificate."""
    access = await load(str(real.kubeconfig(tmp_path / "kubeconfig")))
    async with open_client(access) as client:
        assert (await client.list_page(LEASES, "default")).resource_version
    assert os.listdir(tmp_path) == ["kubeconfig"]

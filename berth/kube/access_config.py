"""The door to the `kubernetes` package: how a kubeconfig, or a pod's service account, says who we are.

Owns the reading of both, the running of exec plug-ins and the refreshing of OIDC tokens. All of it blocks, so
all of it belongs on a thread: see `access`. Promises errors that name the file and say what to do, and that
no private key stays behind in a file. Nothing else of the package is used.
"""

import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from berth.kube.objects import parsed_time, text

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class AccessInvalid(Exception):
    """There is no way in as it is configured; the text says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found. `authorization` is a header's value, and ends at `until_us` of the wall clock."""

    server: str
    server_name: str | None
    namespace: str
    ca_pem: str | None
    verified: bool
    client_pem: bytes | None
    authorization: str | None
    until_us: int | None

    def __repr__(self) -> str:  # credentials are in it
        return f"Loaded(server={self.server!r}, namespace={self.namespace!r})"


class Source(Protocol):
    """Where access comes from. `lasting`: what it says is good until it expires or is refused."""

    lasting: bool

    def load(self) -> Loaded:
        """Blocks. Raises AccessInvalid."""
        ...


class InClusterSource:
    """The service account of the pod that this process runs in."""

    lasting = False

    def load(self) -> Loaded:
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException, load_incluster_config

        found = Configuration()
        try:
            load_incluster_config(client_configuration=found, try_refresh_token=False)
            ca_pem = Path(str(found.ssl_ca_cert)).read_text(encoding="ascii")
        except (ConfigException, OSError, ValueError) as fault:
            raise AccessInvalid(
                f"no access as a pod: {_said(fault)}; outside a cluster give a kubeconfig, inside one let "
                "the pod have its service account's token (automountServiceAccountToken)"
            ) from fault
        namespace = _read_text(NAMESPACE_FILE) or "default"
        header = _header(found.api_key.get("BearerToken"))
        return Loaded(found.host, None, namespace, ca_pem, True, None, header, None)


class KubeconfigSource:
    """One context of one kubeconfig or of several, which are read as one."""

    def __init__(self, paths: str, context: str | None) -> None:
        """`paths` as KUBECONFIG has them: separated by colons, the first to say a thing counts."""
        self._paths = paths
        self._context = context
        self._refreshing: Any = None
        self.lasting = False

    def load(self) -> Loaded:
        from kubernetes.config import ConfigException

        try:
            with tempfile.TemporaryDirectory(prefix="berth-") as folder:
                return self._load(folder)
        except AccessInvalid:
            raise
        except (ConfigException, OSError, ValueError) as fault:
            raise AccessInvalid(f"the kubeconfig {self._paths} cannot be used: {_said(fault)}") from fault
        except (TypeError, KeyError, AttributeError) as fault:
            raise AccessInvalid(
                f"the kubeconfig {self._paths} cannot be used: it is none, or not a whole one; "
                "check it with `kubectl config view`"
            ) from fault
        except Exception as fault:  # a YAML parser's, or what an OIDC client raises
            raise AccessInvalid(
                f"the kubeconfig {self._paths} cannot be used: {type(fault).__name__}; check it with "
                "`kubectl config view`, and log in again if it uses OIDC"
            ) from fault

    def _load(self, folder: str) -> Loaded:
        from kubernetes.client import Configuration

        loader, context, cluster, user = self._loader(folder)
        found = Configuration()
        plugin = user.get("exec")
        self.lasting = isinstance(plugin, dict)
        granted = self._run_plugin(plugin, cluster) if isinstance(plugin, dict) else None
        loader.load_and_set(found)
        if cluster.safe_get("proxy-url"):
            raise AccessInvalid(
                f"the kubeconfig {self._paths} wants a proxy (proxy-url), which berth does not go through; "
                "give it an address that can be reached directly"
            )
        header = _header(found.api_key.get("BearerToken") or _token_of(granted))
        return Loaded(
            server=found.host,
            server_name=found.tls_server_name,
            namespace=text(context.get("namespace")) or "default",
            ca_pem=_read_text(Path(str(found.ssl_ca_cert))) if found.ssl_ca_cert else None,
            verified=bool(found.verify_ssl),
            client_pem=_certificate_of(granted) or _pair(found.cert_file, found.key_file),
            authorization=header,
            until_us=parsed_time(granted.get("expirationTimestamp")) if granted else None,
        )

    def _loader(self, folder: str) -> tuple[Any, Mapping[str, Any], Any, dict[str, Any]]:
        """The package's loader, and the context, cluster and user that it is for."""
        from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

        merged = KubeConfigMerger(self._paths)
        if merged.config is None:
            raise AccessInvalid(f"there is no kubeconfig at {self._paths}; say where one is")
        active = self._context or _current_context(merged.config_files)
        if not active:
            raise AccessInvalid(
                f"the kubeconfig {self._paths} has no current-context; set one with "
                "`kubectl config use-context NAME`, or name the context to use"
            )
        config: Any = merged.config
        config.value["current-context"] = active
        context: Any = config["contexts"].get_with_name(active)["context"]
        cluster: Any = config["clusters"].get_with_name(context["cluster"])["cluster"]
        user = _user_of(config, context)
        if isinstance(user.get("auth-provider"), dict):
            return self._refreshing_loader(merged, user, folder), context.value, cluster, {}
        without_plugin = {key: value for key, value in user.items() if key != "exec"}
        _put_user(config, context, _token_file_first(without_plugin))
        loader = KubeConfigLoader(config, temp_file_path=folder, config_base_path=None)  # pyright: ignore[reportArgumentType]
        return loader, context.value, cluster, user

    def _refreshing_loader(self, merged: Any, user: dict[str, Any], folder: str) -> Any:
        """One loader for good: it knows the newest refresh token, which its file may not take."""
        from kubernetes.config.kube_config import KubeConfigLoader

        if self._refreshing is None:
            config = user["auth-provider"].setdefault("config", {})
            own_authority = {"idp-certificate-authority", "idp-certificate-authority-data"} & config.keys()
            if not own_authority:
                # Without one the package would not verify the identity provider's certificate at all.
                config["idp-certificate-authority"] = ssl.get_default_verify_paths().cafile

            def persist() -> None:
                saved = config if own_authority else {**config}
                if not own_authority:
                    del config["idp-certificate-authority"]
                try:
                    merged.save_changes()
                except OSError:
                    pass  # a mounted Secret cannot be written
                config.update(saved)

            self._refreshing = KubeConfigLoader(
                merged.config,
                temp_file_path=folder,
                config_base_path=None,  # pyright: ignore[reportArgumentType]
                config_persister=persist,
            )
        self._refreshing._temp_file_path = folder
        return self._refreshing

    def _run_plugin(self, plugin: dict[str, Any], cluster: Any) -> Mapping[str, Any]:
        from kubernetes.config import ConfigException
        from kubernetes.config.exec_provider import ExecProvider
        from kubernetes.config.kube_config import ConfigNode

        command = text(plugin.get("command"))
        folder = os.path.dirname(os.path.abspath(str(cluster.path)))
        if os.sep in command and not os.path.isabs(command):
            plugin = {**plugin, "command": os.path.join(folder, command)}
        try:
            return ExecProvider(ConfigNode("exec", plugin), folder, cluster).run()
        except FileNotFoundError as fault:
            hint = text(plugin.get("installHint")).strip()
            raise AccessInvalid(
                f"the exec plug-in {command} of the kubeconfig {self._paths} is not installed"
                + (f": {hint}" if hint else "; install it, or have it on PATH")
            ) from fault
        except (ConfigException, OSError, TypeError) as fault:
            raise AccessInvalid(
                f"the exec plug-in {command} of the kubeconfig {self._paths} gave no credential "
                f"({str(fault)[:300]}); run it by hand to see why"
            ) from fault


def _said(fault: Exception) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return f"{fault.strerror}: {fault.filename}" if fault.filename else fault.strerror
    return str(fault).rstrip(".") or type(fault).__name__


def _current_context(files: Mapping[str, Mapping[str, Any]]) -> str:
    """The first file that says one counts, as for kubectl; the package takes the last."""
    return next(filter(None, (text(file.get("current-context")) for file in files.values())), "")


def _user_of(config: Any, context: Any) -> dict[str, Any]:
    named = context.safe_get("user")
    node = config["users"].get_with_name(named, safe=True) if named and config.safe_get("users") else None
    if named and node is None:
        raise AccessInvalid(f"the kubeconfig has no user {named!r}, which its context names; add it")
    user = node.safe_get("user") if node is not None else None
    return user if isinstance(user, dict) else {}


def _put_user(config: Any, context: Any, user: dict[str, Any]) -> None:
    if context.safe_get("user"):
        config["users"].get_with_name(context["user"]).value["user"] = user


def _token_file_first(user: dict[str, Any]) -> dict[str, Any]:
    """A token file is written anew, a token is not; the package would take the token."""
    if user.get("tokenFile"):
        return {key: value for key, value in user.items() if key != "token"}
    return user


def _header(authorization: Any) -> str | None:
    """The package gives `Bearer TOKEN`, with whatever white space was in a file."""
    scheme, _, credential = text(authorization).strip().partition(" ")
    if not credential:
        return None
    return f"{'Bearer' if scheme.lower() == 'bearer' else scheme} {credential.strip()}"


def _token_of(granted: Mapping[str, Any] | None) -> str | None:
    token = text(granted.get("token")) if granted else ""
    return f"Bearer {token}" if token else None


def _certificate_of(granted: Mapping[str, Any] | None) -> bytes | None:
    if not granted or not granted.get("clientCertificateData"):
        return None
    key = text(granted.get("clientKeyData"))
    if not key:
        raise AccessInvalid("the exec plug-in gave a client certificate without its key (clientKeyData)")
    return f"{text(granted['clientCertificateData'])}\n{key}\n".encode()


def _pair(cert_file: Any, key_file: Any) -> bytes | None:
    if not cert_file:
        return None
    if not key_file:
        raise AccessInvalid("the kubeconfig has a client certificate without its key (client-key)")
    return Path(cert_file).read_bytes() + b"\n" + Path(key_file).read_bytes()


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""

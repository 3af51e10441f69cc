"""Access to one cluster: its server, whom we trust there, and by what we are known, kept fresh.

Owns the TLS context, and the Authorization header of the moment: read again before it expires, after it was
refused, and once a minute where it may change without a word (files, a pod's token). What blocks, plug-ins
above all, runs on a thread under a deadline. Promises that credentials that still hold outlive a failure to
get new ones. Makes no requests: see `api`.
"""

import os
import ssl

import trio

from berth.kube.access_config import AccessInvalid, InClusterSource, KubeconfigSource, Loaded, Source
from berth.runtime.clock import MICROSECONDS, Clock, SystemClock
from berth.runtime.log import Logger

__all__ = ["Access", "AccessInvalid", "access_by_kubeconfig", "access_in_cluster", "find_access"]

LOAD_SECONDS = 30.0
"""How long a plug-in may take: it may ask a cloud, and that an identity provider."""

LOOK_AGAIN_SECONDS = 60.0
EXPIRY_MARGIN_SECONDS = 60.0
RETRY_SECONDS = 10.0


class Access:
    """Made by `access_in_cluster`, `access_by_kubeconfig` or `find_access`."""

    def __init__(
        self, source: Source, loaded: Loaded, one: trio.CapacityLimiter, *, clock: Clock, logger: Logger
    ) -> None:
        self._source = source
        self._one = one
        self._clock = clock
        self._logger = logger
        self._lock = trio.Lock()
        self._refused: str | None = None
        self.server = loaded.server
        self.server_name = loaded.server_name
        self.namespace = loaded.namespace
        """The context's, or the pod's."""
        self.tls = _context(loaded)
        self._take(loaded)

    async def authorization(self) -> str | None:
        """The header's value, or None where a certificate speaks for us. Raises AccessInvalid."""
        if self._due():
            async with self._lock:
                if self._due():
                    await self._look_again()
        return self._loaded.authorization

    async def refused(self, authorization: str | None) -> bool:
        """What the server said of it: whether there is another to try now."""
        async with self._lock:
            if authorization == self._loaded.authorization and self._may_ask_again():
                self._refused = authorization
                await self._look_again()
        return authorization != self._loaded.authorization

    def _due(self) -> bool:
        if self._loaded.until_us is not None:
            left_us = self._loaded.until_us - self._clock.wall_us()
            return left_us < EXPIRY_MARGIN_SECONDS * MICROSECONDS and self._may_ask_again()
        return not self._source.lasting and self._age_seconds() >= LOOK_AGAIN_SECONDS

    def _may_ask_again(self) -> bool:
        return self._age_seconds() >= RETRY_SECONDS

    def _age_seconds(self) -> float:
        return (self._clock.boot_us() - self._asked_us) / MICROSECONDS

    async def _look_again(self) -> None:
        try:
            self._take(await _load(self._source, self._one))
        except AccessInvalid as fault:
            self._asked_us = self._clock.boot_us()
            if not self._holds():
                raise
            self._logger.warning("credentials cannot be refreshed, the old ones stay", error=str(fault))

    def _holds(self) -> bool:
        """Whether what we have may still do."""
        if self._refused is not None and self._refused == self._loaded.authorization:
            return False
        return self._loaded.until_us is None or self._clock.wall_us() < self._loaded.until_us

    def _take(self, loaded: Loaded) -> None:
        if loaded.client_pem:
            _load_certificate(self.tls, loaded.client_pem)
        self._loaded = loaded
        self._asked_us = self._clock.boot_us()


async def access_in_cluster(*, logger: Logger, clock: Clock | None = None) -> Access:
    """As the service account of the pod. Raises AccessInvalid."""
    return await _opened(InClusterSource(), clock, logger)


async def access_by_kubeconfig(
    paths: str, *, context: str | None = None, logger: Logger, clock: Clock | None = None
) -> Access:
    """By a kubeconfig, or several separated by colons; by its current context unless told.

    Raises AccessInvalid.
    """
    return await _opened(KubeconfigSource(paths, context), clock, logger)


async def find_access(*, context: str | None = None, logger: Logger, clock: Clock | None = None) -> Access:
    """By KUBECONFIG where it is set, as a pod inside a cluster, else by ~/.kube/config.

    Raises AccessInvalid.
    """
    named = os.environ.get("KUBECONFIG")
    if not named and os.environ.get("KUBERNETES_SERVICE_HOST") and context is None:
        return await access_in_cluster(logger=logger, clock=clock)
    return await access_by_kubeconfig(named or "~/.kube/config", context=context, logger=logger, clock=clock)


async def _opened(source: Source, clock: Clock | None, logger: Logger) -> Access:
    one = trio.CapacityLimiter(1)
    return Access(source, await _load(source, one), one, clock=clock or SystemClock(), logger=logger)


async def _load(source: Source, one: trio.CapacityLimiter) -> Loaded:
    """`one`: a plug-in that hangs keeps its thread, and no second one is started beside it."""
    with trio.move_on_after(LOAD_SECONDS):
        return await trio.to_thread.run_sync(source.load, abandon_on_cancel=True, limiter=one)
    raise AccessInvalid(
        f"no credentials after {LOAD_SECONDS:.0f} s; run the kubeconfig's exec plug-in by hand to see why"
    )


def _context(loaded: Loaded) -> ssl.SSLContext:
    """Trusts the cluster's own authority where one is given, and then no other."""
    try:
        context = ssl.create_default_context(cadata=loaded.ca_pem or None)
    except ssl.SSLError as fault:
        raise AccessInvalid(
            f"no CA certificate in PEM format is given for {loaded.server}; "
            "check certificate-authority(-data) in the kubeconfig"
        ) from fault
    # Clusters' own authorities lack extensions that this flag wants, and every other client does without.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not loaded.verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_certificate(context: ssl.SSLContext, pem: bytes) -> None:
    # ssl reads from a path only; this file exists in memory and nowhere else.
    descriptor = os.memfd_create("client", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_encrypted)
    except ssl.SSLError as fault:
        raise AccessInvalid(
            f"the client certificate or its key cannot be used: {fault.reason or fault}; "
            "check client-certificate and client-key in the kubeconfig"
        ) from fault
    finally:
        os.close(descriptor)


def _encrypted() -> str:
    raise AccessInvalid(
        "the kubeconfig's client key is encrypted; decrypt it (openssl pkey -in FILE -out FILE)"
    )

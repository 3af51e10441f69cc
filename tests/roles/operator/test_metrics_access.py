"""Who may see the metrics where they are secure: whoever the cluster lets get them, and nobody else."""

from http.client import HTTPException

import pytest
import trio

from tests.roles.operator.accounts import account_token, let_scrape
from tests.roles.operator.stage import Stage

SECURE = "--metrics-secure"


async def scraped(stage: Stage, token: str = "", path: str = "/metrics") -> int:
    return (await trio.to_thread.run_sync(stage.east.operator.scrape, token, path))[0]


async def comes_to(stage: Stage, token: str, status: int) -> None:
    async def so() -> bool:
        return await scraped(stage, token) == status

    await stage.until_asked(so)


async def test_the_cluster_says_who_may_see_them(stage: Stage) -> None:
    await stage.east.start(SECURE)
    assert await scraped(stage) == 401
    assert await scraped(stage, "nonsense") == 401
    token = await account_token(stage.east, "scraper")
    assert await scraped(stage, token) == 403
    await let_scrape(stage.east, "scraper")
    await comes_to(stage, token, 200)
    status, text = await trio.to_thread.run_sync(stage.east.operator.scrape, token)
    assert "berth_operator_leases" in text, status
    assert await scraped(stage, token, "/elsewhere") == 403
    assert await scraped(stage, await account_token(stage.east, "somebody")) == 403
    assert await scraped(stage, path="/healthz") == 200


async def test_nothing_is_shown_while_the_cluster_cannot_be_asked(stage: Stage) -> None:
    await stage.east.start(SECURE)
    token = await account_token(stage.east, "scraper")
    await let_scrape(stage.east, "scraper")
    await comes_to(stage, token, 200)
    stage.east.kube_link.reset()
    assert await scraped(stage, token) == 503
    assert await scraped(stage) == 401
    await stage.east.kube_link.mend()
    assert await scraped(stage, token) == 200


async def test_nothing_is_told_without_tls(stage: Stage) -> None:
    await stage.east.start(SECURE)
    with pytest.raises((HTTPException, OSError)):
        await trio.to_thread.run_sync(stage.east.operator.metrics)

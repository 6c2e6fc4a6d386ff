"""Visitors with real browsers: tabs of one headless Chromium, each a person of their own; see visitors.py."""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import Any

CHROMIUM = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking")
#: What is there when the profiler can be used, where its figures are, and what each choice shows.
READY, TILES = ".ckx-models .ckx-tiles dd", ".ckx-models .ckx-tiles"
SHOWN = {"mobilenet_v2": "301 MMAC", "resnet18": "1.81 GMAC"}
WAITING = 'meta[http-equiv="refresh"]'
PATIENCE_MS, ANSWER_MS = 900_000, 120_000


async def visit(browser: Any, url: str, cookies: dict[str, str], turns: int, seen: Any) -> None:
    """One tab, from the gallery to the closed page."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900}, base_url=url)
    try:
        await context.add_cookies([{"name": name, "value": text, "url": url} for name, text in cookies.items()])
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: seen.errors.append(str(error)[:300]))
        waits: set[int] = set()

        def answered(response: Any) -> None:
            if response.request.is_navigation_request() and "apps/" in response.url:
                seen.statuses[str(response.status)] += 1
                waits.update({response.status} - {200})
                if response.status == 200:
                    opened.append(time.perf_counter())
                elif response.status not in (429, 503) or "retry-after" not in response.headers:
                    seen.impolite += 1
            elif response.status >= 400:
                seen.errors.append(f"{response.status} {response.url.removeprefix(url)}"[:300])

        opened: list[float] = []
        page.on("response", answered)
        await page.goto("")
        began = time.perf_counter()
        await page.goto("apps/profiler", wait_until="commit")
        await page.wait_for_selector(READY)  # the waiting room loads the page again by itself
        now = time.perf_counter()
        seen.waited += bool(waits)
        seen.opened_s.append(now - opened[-1])
        seen.asked_s.append(now - began)
        network = page.locator(".ckx-source").get_by_label("Network", exact=True)
        for turn in range(1, turns + 1):
            chosen = [*SHOWN][turn % len(SHOWN)]
            began = time.perf_counter()
            await network.select_option(chosen)
            asked = "([at, words]) => document.querySelector(at)?.innerText.includes(words)"
            await page.wait_for_function(asked, arg=[TILES, SHOWN[chosen]], timeout=ANSWER_MS)
            seen.answered_s.append(time.perf_counter() - began)
        await page.goto("about:blank")  # as a reader who leaves: the page ends its kernel
    except Exception as error:  # the outermost edge of a visitor: it is counted, and the others go on
        seen.errors.append(f"{type(error).__name__}: {error}"[:300])
    finally:
        await context.close()


async def everybody(url: str, cookies: list[dict[str, str]], turns: int, seen: Any) -> None:
    """All tabs at once, in one Chromium."""
    from playwright.async_api import async_playwright

    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=shutil.which("chromium"), args=[*CHROMIUM])
        await asyncio.gather(*(visit(browser, url, one, turns, seen) for one in cookies))
        await browser.close()

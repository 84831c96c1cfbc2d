"""`singlepass engine status|stop`: the engine processes of this user."""

import asyncio

from rich.console import Console
from rich.table import Table
from singlepass_backends.client import engine_status, list_engines, stop_engine
from singlepass_backends.wire import StatusReply

from singlepass.core import report

console = Console(highlight=False)


def print_status() -> int:
    """List the running engines; returns the exit code."""
    statuses = asyncio.run(_statuses())
    if not statuses:
        console.print("No engine is running. The first request starts one.")
        return 0
    table = Table("pid", "model", "device", "context", "cached", "state", "memory", "up", "exits after idle")
    for status in statuses:
        info = status.info
        table.add_row(
            str(status.pid),
            info.name if info else "loading",
            info.device if info else "",
            f"{info.n_ctx:,}" if info else "",
            f"{status.n_cached:,} tokens",
            "busy" if status.busy else f"idle {status.idle_s:.0f} s",
            f"{status.rss_bytes / 2**20:,.0f} MiB",
            f"{status.uptime_s:.0f} s",
            f"{status.idle_exit_s:.0f} s",
        )
    console.print(table)
    return 0


async def _statuses() -> list[StatusReply]:
    asked = [await engine_status(paths) for paths in list_engines()]
    return [status for status in asked if status is not None]


def stop_all() -> int:
    """Stop every engine; returns the exit code."""
    n_stopped = asyncio.run(_stop_all())
    console.print(f"{report.count(n_stopped, 'engine')} stopped." if n_stopped else "No engine is running.")
    return 0


async def _stop_all() -> int:
    return sum([await stop_engine(paths) for paths in list_engines()])

"""`singlepass engine status|stop`: the engine processes of this user."""

import asyncio

from singlepass_backends.client import engine_status, list_engines, stop_engine
from singlepass_backends.wire import StatusReply

from singlepass.cli.output import make_console
from singlepass.core import report

console = make_console()


def print_status() -> int:
    """List the running engines; returns the exit code."""
    statuses = asyncio.run(_statuses())
    if not statuses:
        console.print("No engine is running. The first request starts one.")
        return 0
    for status in statuses:
        info = status.info
        parts = [
            f"pid {status.pid}",
            f"{info.name} on {info.device}" if info else "loading its model",
            f"{status.n_cached:,} of {info.n_ctx:,} tokens cached" if info else "",
            "busy" if status.busy else f"idle for {status.idle_s:.0f} s of {status.idle_exit_s:,.0f}",
            f"{status.rss_bytes / 2**20:,.0f} MiB",
            report.count(status.n_clients - 1, "client"),
        ]
        console.print(" · ".join(part for part in parts if part), soft_wrap=True)
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

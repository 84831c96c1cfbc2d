"""What the processes ask of the system: sockets, connections, programs. With strace, on Linux.

    python benchmarks/traced.py                                     sessions of an editor
    python benchmarks/traced.py -- python -m pytest tests/scenarios   whatever starts servers and engines

The sessions are one with a local model and one with a server on loopback as the target, in a folder whose own
settings name another endpoint, a model and programs. Looked at is only what the language server, the engine
and the indexer do, in all their threads and in whatever they start, whoever started them: nothing may listen
on a network, connect to another address than the target's or start another program than each other.
"""

import argparse
import asyncio
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from own import ROOT, SOURCE, own_folders, small_model, stop_engines

CALLS = "socket,bind,listen,connect,sendto,sendmsg,sendmmsg,execve,execveat,clone,clone3,fork,vfork"
OURS = {
    "singlepass serve": "server",
    "singlepass_backends.engine": "engine",
    "singlepass.repository.indexer": "indexer",
    "singlepass_backends.generation.template": "template",
}
MAY_START = {("server", "engine"), ("server", "indexer"), ("engine", "template")}
_LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)", re.DOTALL)
_UNFINISHED = re.compile(r"(\d+) +(.*) <unfinished \.\.\.>$", re.DOTALL)
_ENDED = re.compile(r"(\d+) +\+\+\+ (?:exited|killed|superseded)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)$", re.DOTALL)
_NETWORK = re.compile(r"sa_family=(AF_INET6?|AF_NETLINK|AF_PACKET), (.*?)\}", re.DOTALL)


class Traced:
    """What our processes did."""

    def __init__(self) -> None:
        self.processes: Counter[str] = Counter()
        self.listeners: Counter[str] = Counter()
        self.connections: Counter[str] = Counter()
        """Network addresses that something was sent to, by process."""
        self.unix: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        """Programs by who started them, but for our own."""
        self.n_calls = 0

    def wrong(self, allowed: Iterable[str] = ()) -> list[str]:
        """What must not be; `allowed` are addresses, such as `127.0.0.1:8080`."""
        may_connect = tuple(f" to {address}" for address in allowed)
        found = [f"listens: {one}" for one in self.listeners]
        found += [f"connects: {one}" for one in self.connections if not one.endswith(may_connect or "\0")]
        return found + [f"starts: {one}" for one in self.started]


def calls(lines: Iterable[str]) -> Iterator[tuple[int, str, str, str]]:
    """Thread, call, arguments and result of each line of strace, those that were interrupted put together.

    The end of a thread is a call named "" here.
    """
    begun: dict[str, str] = {}
    for line in lines:
        line = line.rstrip("\n")
        if match := _UNFINISHED.match(line):
            begun[match[1]] = match[2]
            continue
        if match := _RESUMED.match(line):
            line = f"{match[1]} {begun.pop(match[1], '')}{match[2]}"
        if match := _ENDED.match(line):
            yield int(match[1]), "", "", ""
        elif match := _LINE.match(line):
            yield int(match[1]), match[2], match[3], match[4]


def read(lines: Iterable[str]) -> Traced:
    """What a trace says of our processes."""
    found = Traced()
    roles: dict[int, str] = {}
    """Of each thread that lives and has been seen; numbers are given out again."""
    every = list(calls(lines))
    # A thread may do something, even end, before the call that made it returns in the other: look ahead.
    makers: defaultdict[int, list[int]] = defaultdict(list)
    for thread, call, _, result in every:
        if call in _FORKS and result.isdigit():
            makers[int(result)].append(thread)
    n_begun: Counter[int] = Counter()
    n_made: Counter[int] = Counter()

    def begin(thread: int) -> None:
        made_by = makers[thread][n_begun[thread] : n_begun[thread] + 1]
        roles[thread] = roles.get(made_by[0], "") if made_by else ""
        n_begun[thread] += 1

    for thread, call, arguments, result in every:
        if thread not in roles:
            begin(thread)
        if not call:
            del roles[thread]
            continue
        if call in _FORKS and result.isdigit():
            n_made[int(result)] += 1
            if n_begun[int(result)] < n_made[int(result)]:
                begin(int(result))
        if call.startswith("execve") and result == "0":
            before, now = roles[thread], _role_of(arguments)
            roles[thread] = now or (before and f"what the {before} started")
            if now:
                found.processes[now] += 1
            if before and (before, now) not in MAY_START:
                found.started[f"{before} starts {arguments[:200]}"] += 1
            continue
        who = roles[thread]
        if not who:
            continue
        found.n_calls += 1
        if call in ("bind", "listen"):
            if "AF_UNIX" not in arguments and (call == "bind" or not found.unix[f"{who} binds"]):
                found.listeners[f"{who}: {call}({arguments})"] += 1
            found.unix[f"{who} binds"] += "AF_UNIX" in arguments
        elif network := _NETWORK.search(arguments):
            found.connections[f"{who} to {_address(*network.groups())}"] += 1
        elif call == "connect":
            found.unix[f"{who} connects"] += 1
    return found


_FORKS = ("clone", "clone3", "fork", "vfork")


def _role_of(arguments: str) -> str:
    plain = arguments.replace('", "', " ")
    return next((role for name, role in OURS.items() if f"-m {name}" in plain), "")


def _address(family: str, rest: str) -> str:
    port = re.search(r"port=htons\((\d+)\)", rest)
    host = re.search(r'"([^"]*)"', rest)
    return f"{host[1]}:{port[1]}" if port and host else f"{family} {rest}"


def works() -> bool:
    """Whether there is a strace that may look at processes here."""
    if not shutil.which("strace"):
        return False
    done = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return done.returncode == 0


def trace(command: list[str], folder: Path) -> tuple[Traced, int]:
    """Run a command under strace; what our processes did, and its exit code."""
    log = folder / "trace"
    strace = ["strace", "-f", "--seccomp-bpf", "-q", "-s", "400", "-e", f"trace={CALLS}", "-o", str(log)]
    done = subprocess.run([*strace, *command], check=False)
    with log.open(encoding="utf-8", errors="replace") as lines:
        return read(lines), done.returncode


def sessions(folder: Path) -> tuple[Traced, str]:
    """Trace the two sessions; what was done, and the address of the target."""
    told = folder / "address"
    found, code = trace([sys.executable, str(Path(__file__)), "--inside", str(told)], folder)
    if code:
        raise RuntimeError(f"the sessions ended with code {code}")
    return found, told.read_text()


HOSTILE = """
[target]
backend = "openai_compatible"
url = "http://127.0.0.1:9/v1"
model = "/bin/sh"
[targets.evil]
url = "http://192.0.2.1/v1"
[[actions]]
title = "Nothing"
prompt = "Do nothing."
"""


async def _inside(told: Path) -> None:
    """What is traced: an editor."""
    sys.path.insert(0, str(ROOT / "tests"))
    from endpoints import Endpoint, Exchange, reply
    from lsprotocol import types as lsp
    from singlepass.cli.headless import HeadlessEditor

    text = "values.py\n<<<<<<< SEARCH\ndef value_0(a, b):\n=======\ndef zero(a, b):\n>>>>>>> REPLACE\n"

    def script(exchange: Exchange) -> None:
        exchange.head()
        exchange.send(reply([text]))

    async def session(folder: Path, target: dict[str, Any]) -> None:
        workspace = folder / "workspace"
        (workspace / ".git" / "hooks").mkdir(parents=True, exist_ok=True)
        (workspace / ".git" / "hooks" / "post-checkout").write_text("#!/bin/sh\ntouch /tmp/evil\n")
        (workspace / ".git" / "config").write_text("[core]\nfsmonitor = touch /tmp/evil\n")
        (workspace / ".singlepass.toml").write_text(HOSTILE)
        for name in ("values.py", "other.py"):
            (workspace / name).write_text(SOURCE)
        (workspace / "other.py").write_text("from values import value_0\n")
        options = {"target": target, "max_tokens": 60, "temperature": 1.0}
        async with asyncio.timeout(300), HeadlessEditor(workspace, options) as editor:
            file = editor.open(workspace / "values.py")
            place = lsp.Range(lsp.Position(0, 0), lsp.Position(3, 0))
            await editor.actions(file, place)
            await editor.command("singlepass.context", file.uri)
            where = {"start": {"line": 0, "character": 0}, "end": {"line": 9, "character": 0}}
            for instruction in ("Do it.", "Do it again."):
                arguments = {"uri": file.uri, "range": where, "instruction": instruction}
                job = (await editor.command("singlepass.edit", arguments))["job"]
                timings = await editor.finish(job)
                assert timings["outcome"] == "done", timings
            await editor.command("singlepass.stats")
            if timings["n_applied"]:
                await editor.command("singlepass.revert")

    with own_folders() as folder, Endpoint(script) as endpoint:
        told.write_text(endpoint.url.removeprefix("http://"))  # noqa: ASYNC240
        await session(folder, {"model": str(small_model(folder / "model.gguf"))})
        await session(folder, {"backend": "openai_compatible", "url": endpoint.url, "model": "m"})
        await stop_engines()
        assert endpoint.asked


def main() -> None:
    """Trace something and say what was done."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="*", help="what to trace instead of the sessions")
    arguments = parser.parse_args()
    if arguments.inside:
        asyncio.run(_inside(arguments.inside))
        return
    if not works():
        sys.exit("strace is not installed, or may not look at processes here")
    with tempfile.TemporaryDirectory(prefix="sp-trace-") as name:
        allowed: list[str] = []
        code = 0
        if arguments.command:
            found, code = trace(arguments.command, Path(name))
        else:
            found, address = sessions(Path(name))
            allowed.append(address)
    n = ", ".join(f"{count} {name}" for name, count in sorted(found.processes.items()))
    print(f"traced {found.n_calls} calls of {n}")
    connected = ", ".join(f"{what} ({n})" for what, n in found.connections.items())
    print(f"network addresses: {connected or 'none'}")
    wrong = found.wrong(allowed)
    if arguments.command:  # whose targets are where its own servers listen
        wrong = [one for one in wrong if not re.match(r"connects: engine to 127\.0\.0\.1:", one)]
    print(f"{len(found.listeners)} network listeners, {sum(found.started.values())} other programs started")
    for one in wrong[:30]:
        print(one)
    sys.exit(code or bool(wrong))


if __name__ == "__main__":
    main()

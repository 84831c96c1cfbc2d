"""Writes the stored results into the tables of the pages named in `DOCUMENTS`.

    python benchmarks/tables.py

`results/NAME.json` is what a benchmark printed with `--json`. Each `<!-- table: NAME -->` … `<!-- end -->` is
replaced by what the functions below make of it, so no figure is typed. A test checks that nothing is stale.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import drafting
import generations
import llama_server
import oracle
import overhead
import quality
import remote_overhead
import replay
import wakeups
from machine import describe

HERE = Path(__file__).parent
DOCUMENTS = (HERE.parent / "README.md", HERE.parent / "docs" / "measuring.md", HERE / "README.md")
REQUESTS = {
    "cold": "cold: an empty cache",
    "repeat": "the same again",
    "task": "the same document, another instruction",
    "other": "another document",
    "back": "back to the first",
    "edited": "a line in its middle changed",
    "loaded": "cold, after a restart",
}


def result(name: str) -> dict[str, Any]:
    """A stored result."""
    return json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8"))


def about(found: dict[str, Any]) -> str:
    """Machine, versions and command of a result."""
    return f"    {found['command']}\n\n{describe(found['machine'])}"


def prefill_table() -> str:
    """What the prefix cache saves."""
    found = result("prefill")
    cold_s = found["requests"]["cold"]["ttft_s"]
    rows = ["| request | cached | read | first token | ÷ cold |", "|---|---|---|---|---|"]
    for name, label in REQUESTS.items():
        one = found["requests"][name]
        rows.append(
            f"| {label} | {one['n_cached']:,} | {one['n_prefilled']:,} | {one['ttft_s']:.2f} s "
            f"| {one['ttft_s'] / cold_s:.4f} |"
        )
    equal = "are equal" if found["texts_equal"] else "are NOT equal"
    return "\n".join(
        [
            about(found),
            "",
            f"Model: {found['model']}; {found['threads']} threads; a prompt of "
            f"{found['requests']['cold']['n_prompt']:,} tokens.",
            "",
            *rows,
            "",
            f"Loading the shared segments from disk ({found['saved_bytes'] / 1e6:,.0f} MB) "
            f"took {found['load_s']:.2f} s, prefilling {found['prefill_of_the_same_s']:.1f} s: a ratio of "
            f"{found['load_to_prefill']:.4f}. The replies of the requests for the same prompt {equal}.",
        ]
    )


def replay_table() -> str:
    """What is read after the click, over real histories."""
    found = result("replay")
    names = ", ".join(
        f"{one['name']} ({one['n_actions']} actions on {one['n_commits']} commits)"
        for one in found["repositories"]
    )
    return "\n".join([f"    {found['command']}", "", f"{names}.", "", *replay.table(found["policies"])])


def pause_table() -> str:
    """The same where the user is faster than the engine."""
    found = result("replay-pause")
    return "\n".join([f"    {found['command']}", "", *replay.table(found["policies"])])


def confirm_table() -> str:
    """What a real model said to the counts."""
    found = result("confirm")
    labels = {
        "actions": "actions",
        "prewarms": "prewarms",
        "different_counts": "requests and prewarms with other counts than the counting driver's",
        "same_text": "replies equal to a cold run's",
        "near_ties": "replies that part from it where the top two logits lie within the noise",
        "different_text": "replies that part from it elsewhere",
        "noise": "largest difference between logits of the two",
    }
    rows = [f"| {label} | {found['found'][name]:,} |" for name, label in labels.items()]
    return "\n".join([f"    {found['command']}", "", "| | |", "|---|---|", *rows])


def generations_table() -> str:
    """What random weights wrote under the grammar."""
    found = result("generations")
    counts = generations.Counts(**{name: found[name] for name in generations.Counts.__struct_fields__})
    return "\n".join([about(found), "", generations.table(counts)])


def oracle_table() -> str:
    """Forward passes for each token of real edits."""
    found = result("oracle")
    return "\n".join([about(found), "", oracle.table(found)])


def passes_table() -> str:
    """For docs/measuring.md: forward passes for each token of an edit, and the time they take."""
    repositories, timed = result("oracle")["repositories"], result("drafting")
    together = repositories["all"]
    cells = " | ".join(f"{together['all'][way]:.2f}" for way in ("plain", "n-gram", "ours"))
    size, cores = timed["model"]["n_params"] / 1e9, timed["machine"]["cores"]
    return "\n".join(
        [
            "| | plain decoding | n-gram speculation | singlepass |",
            "|---|---|---|---|",
            f"| forward passes for each token of a reply, over {together['edits']} edits from the histories "
            f"of {len(repositories) - 1} repositories | {cells} |",
            f"| time to write a reply, over {timed['edits']} of these edits, a {size:.1f}B model on {cores} "
            f"cores, with drafts where they pay | 1.00 | | {1 / timed['ours, over all time']:.2f} |",
        ]
    )


def drafting_table() -> str:
    """What drafts save in time."""
    found = result("drafting")
    model = found["model"]
    tokens = (
        f"{found['edits']} edits of {found['tokens']:,} tokens, {model['n_params'] / 1e6:,.1f}M parameters, "
        f"{found['plain tokens a second']:.1f} tok/s plain"
    )
    return "\n".join([about(found), tokens, "", drafting.table(found)])


def overhead_table() -> str:
    """What our own code costs: the model's part and the server's are runs of their own."""
    return "\n\n".join(overhead.table(result(name)) for name in ("overhead-model", "overhead-server"))


def summary_table() -> str:
    """For the README: what is waited for, with and without."""
    counts = {one["policy"]: one for one in result("replay")["policies"]}
    timed = result("prefill")
    requests = timed["requests"]
    cold, warm = requests["cold"], requests["task"]
    n_actions, n_repositories = counts["d"]["actions"], len(result("replay")["repositories"])
    rows = [
        f"| prompt tokens read after the click, over {n_actions} edits replayed from the histories of "
        f"{n_repositories} repositories | {' | '.join(_after(counts[key]) for key in 'acd')} |",
    ]
    seconds = [
        f"| time to first token, {cold['n_prompt']:,} tokens, a 0.5B model on {timed['threads']} cores | "
        f"{cold['ttft_s']:.1f} s | | {warm['ttft_s']:.2f} s |",
        f"| the same after a restart | {cold['ttft_s']:.1f} s | | {requests['loaded']['ttft_s']:.1f} s |",
    ]
    return "\n".join(
        ["| | no cache | a prefix cache alone | singlepass |", "|---|---|---|---|", *rows, *seconds]
    )


def _after(one: dict[str, Any]) -> str:
    share = one["share"]
    return f"median {share['median']:.1%}, 95th percentile {share['p95']:.1%}"


STATED = [
    (
        "prefill and decode of an MLX model ÷ mlx-lm's own, without a GPU",
        "≥ 0.95",
        "1.16, 0.80, missed",
        "python benchmarks/mlx_overhead.py --shape small --tokens 512 --reply 32 --repetitions 5",
    ),
    (
        "rates of `singlepass bench` ÷ those of llama-bench, a 0.5B model",
        "0.97 to 1.03",
        "prefill 0.991, decode 0.977",
        "python benchmarks/llama_bench.py llama --model m05.gguf --no-repack --rounds 20 --depths 512 "
        "--reply 64",
    ),
    (
        "error of the time in a title: median, 9 of 10; tasks whose kind is known, a 0.5B model",
        "≤ 15%, ≤ 35%",
        "14.7%, 33.9%",
        "python benchmarks/estimates.py --held-out --model m05.gguf",
    ),
    (
        "the same for edits of commits, each asked for in words of its own",
        "≤ 15%, ≤ 35%",
        "22.0%, 58.1%, missed",
        "python benchmarks/estimates.py",
    ),
    (
        "edits applied wrongly where the model misquoted the lines, of each kind; lines of code lost",
        "≤ 1%, 0",
        "in the section below",
        "python benchmarks/misquotes.py",
    ),
]
"""Goals whose results are not stored: the sections below have the figures."""


def goals_table() -> str:
    """All goals, what was reached of them, and how to measure it again."""
    read = {one["policy"]: one for one in result("replay")["policies"]}["d"]["share"]
    cached, written, passes = result("prefill"), result("generations"), result("oracle")
    same, timed, remote = result("identity"), result("drafting"), result("remote-overhead")
    model, server = result("overhead-model"), result("overhead-server")
    ttft = {name: one["ttft_s"] for name, one in cached["requests"].items()}
    together = passes["repositories"]["all"]
    rates = [model["model"][name]["ratio"] for name in ("prefill", "free", "constrained", "edit")]
    waits = [server["code_action"][name]["ratio"] for name in ("prefill", "decode")]
    rows = [
        (
            "share of the prompt read after the click: median, 95th percentile",
            "≤ 1.5%, ≤ 10%",
            f"{read['median']:.1%}, {read['p95']:.1%}",
            result("replay")["command"],
        ),
        (
            "time to first token, warm ÷ cold",
            "≤ 0.03",
            f"{ttft['task'] / ttft['cold']:.3f}",
            cached["command"],
        ),
        (
            "loading saved segments ÷ reading them",
            "≤ 0.1",
            f"{cached['load_to_prefill']:.4f}",
            cached["command"],
        ),
        (
            "finished blocks of random weights that apply under the grammar",
            "all",
            f"{written['applied']:,} of {written['finished_hunks']:,}",
            written["command"],
        ),
        (
            "greedy replies with drafts that differ from those without, but for ties within rounding",
            "0",
            f"{same['other']} of {same['generations']:,} (and {same['near_ties']} such ties)",
            same["command"],
        ),
        (
            "forward passes for each token of an edit, the edit in the middle",
            "≤ 0.15",
            f"{together['median']['ours']:.3f}",
            passes["command"],
        ),
        (
            "forward passes ÷ those of n-gram speculation, over all tokens",
            "≤ 0.5",
            f"{together['all']['ours'] / together['all']['n-gram']:.2f}",
            passes["command"],
        ),
        (
            "speed of writing an edit ÷ plain decoding, two cores; the slowest edit",
            "≥ 1.3, ≥ 0.98",
            f"{timed['ours, over all time']:.2f}, {timed['ours, the worst']:.2f}",
            timed["command"],
        ),
        ("the same on an accelerator", "≥ 3", "not measured yet", "the same"),
        (
            "prefill through the engine ÷ a bare loop over `llama_decode`",
            "≥ 0.97",
            f"{rates[0]:.3f}",
            model["command"],
        ),
        (
            "decode ÷ a bare loop: unconstrained, any text, edit grammar",
            "≥ 0.95",
            ", ".join(f"{rate:.3f}" for rate in rates[1:]),
            model["command"],
        ),
        (
            "process start to `initialize` ÷ an empty pygls server",
            "≤ 1.2",
            f"{server['startup']['ratio']:.2f}",
            server["command"],
        ),
        (
            "99th percentile of code actions during prefill and decode ÷ at rest",
            "≤ 2",
            ", ".join(f"{wait:.1f}" for wait in waits) + _missed(max(waits) <= 2),
            server["command"],
        ),
        (
            "the remote backend's rate ÷ bare httpx, on `llama_cpp.server`",
            "≥ 0.95",
            f"{remote['llama_cpp.server']['ratio']:.3f}",
            remote["command"],
        ),
        *STATED,
    ]
    lines = [
        f"| {what} | {goal} | {reached} | {_as_code(command)} |" for what, goal, reached, command in rows
    ]
    return "\n".join(["| what | goal | reached | command |", "|---|---|---|---|", *lines])


def _missed(is_reached: bool) -> str:
    return "" if is_reached else ", missed"


def _as_code(command: str) -> str:
    return f"`{command}`" if command.startswith("python") else command


def remote_table() -> str:
    """What the remote backend costs over HTTP."""
    found = result("remote-overhead")
    loads = f"{found['load_before']:.1f} and {found['load_after']:.1f} runnable processes before and after"
    return "\n".join([about(found), "", f"{loads}.", "", remote_overhead.table(found)])


def llama_server_table() -> str:
    """What the contract tests saw of llama-server."""
    found = result("llama-server")
    return "\n".join([about(found), "", llama_server.table(found)])


def quality_table() -> str:
    """How often the edits of real models are right."""
    parts: list[str] = []
    for size in ("0.5b", "1.5b"):
        found = result(f"quality-{size}")
        n = f"all {found['n']}" if found["n"] == found["tasks"] else f"a sample of {found['n']}"
        which = f"{found['model']}, temperature 0; {n} of the {found['tasks']} tasks."
        parts += [about(found), which, quality.table(found), quality.groups_table(found, "by_kind")]
    return "\n\n".join(parts)


TABLES = {
    "quality": quality_table,
    "goals": goals_table,
    "remote": remote_table,
    "llama-server": llama_server_table,
    "summary": summary_table,
    "prefill": prefill_table,
    "replay": replay_table,
    "replay-pause": pause_table,
    "confirm": confirm_table,
    "generations": generations_table,
    "oracle": oracle_table,
    "passes": passes_table,
    "drafting": drafting_table,
    "overhead": overhead_table,
    "wakeups": lambda: wakeups.table(result("wakeups")),
}


def rendered(text: str) -> str:
    """A document with its tables made anew."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}{TABLES[match[2]]()}\n{match[3]}"

    return re.sub(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", table, text, flags=re.DOTALL)


def check() -> None:
    """Exit with a message where a table is not what the stored results say."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        if rendered(text) != text:
            sys.exit(f"{path} is stale: run python benchmarks/tables.py")


def main() -> None:
    """Rewrite the documents."""
    for path in DOCUMENTS:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()

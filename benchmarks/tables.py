"""Writes the stored results into the tables of README.md and benchmarks/README.md.

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
DOCUMENTS = (HERE.parent / "README.md", HERE / "README.md")
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
    """The README's own: forward passes for each token of an edit, and the time they take."""
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
    """The README's own: what is waited for, with and without."""
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
    """How often a real model's edit is right."""
    found = result("quality")
    n = f"all {found['n']}" if found["n"] == found["tasks"] else f"a sample of {found['n']}"
    which = f"{found['model']}, temperature 0; {n} of the tasks."
    return "\n\n".join([about(found), which, quality.tables(found)])


TABLES = {
    "quality": quality_table,
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

"""How many forward passes an edit takes, exactly and without a model.

    python benchmarks/oracle.py REPOSITORY… [--held-out] --vocab GGUF [--edits 250] [--rewrite] [--json]

Each edit is what a commit changed in one file, as the reply that makes it: blocks whose old lines are the
changed ones, with as many around them as make the place unique. A driver that always wants the true next
token runs it through the engine's own loop, grammar and drafts; what is counted is forward passes for each
token of the reply, the pass that reads the prompt left out:

- *plain*: every token takes a pass;
- *n-gram*: what the libraries do: what followed the last two tokens where they stood last, 10 tokens of it,
  without a grammar;
- *forced*: the grammar alone;
- *path*: the grammar and drafts without branches, as with MLX, as long as on a device where a larger pass
  costs nothing;
- *tree*: drafts with branches, up to 96 tokens of a pass, as with llama.cpp there;
- *ours*: the same, with the draft corpus: files near the edited one that are not in the prompt.

Half of the edits are asked for with a selection, which holds the changed lines and up to eight more at each
end; for the others there is a cursor. The prompt is the system text, the file and the task. `new` is the
share of tokens that no draft can know: with the one before them they stand nowhere in the prompt or earlier
in the reply.

`--held-out` counts the tasks that the demo model is judged by too, with the replies they should get.

`--rewrite` counts another thing: what a format would take whose reply is the selection's new text alone,
without quoted lines, the selection as the draft and no grammar, against ours on the same edits.
"""

import argparse
import itertools
import json
import random
import statistics
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from counting import NothingSaved, Tokenizer
from editing import Git, Hunk, replayable
from machine import command, describe, machine
from numpy.typing import NDArray
from singlepass.config import Settings
from singlepass.core.context import Context, SourceFile
from singlepass.core.grammar import edit_grammar, marker_size, unique_runs
from singlepass.core.lines import visible_lines
from singlepass.core.prompt import Task, expect_reply, render_prompt
from singlepass.engines.contexts import DRAFT_CORPUS_CHARS
from singlepass.repository.client import MORE_NEAR
from singlepass.repository.neighbours import Graph, neighbours
from singlepass.repository.outline import Outline
from singlepass.repository.parsing import outline
from singlepass_backends.base import (
    Draft,
    Finished,
    GenerateRequest,
    Interrupt,
    ModelInfo,
    PrewarmRequest,
    TextChunk,
    Timings,
)
from singlepass_backends.generation.loop import InProcessBackend
from singlepass_backends.generation.prompt import PromptBuilder
from unlimited import Unlimited

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # the tasks that the demo model is judged by
from evaluate import held_out
from examples import answer

N_CTX = 65_536
N_BRANCHES = 16
"""Of a tree of drafted tokens, as with llama.cpp."""
N_NEAR = Settings().max_neighbours + MORE_NEAR
MAX_TOKENS = 1500
"""Of a reply."""


@dataclass(frozen=True)
class Edit:
    """A request and the reply it should get."""

    context: Context
    task: Task
    size: int
    reply: str
    selected: str = ""
    """The lines of the selection, and what becomes of them; empty without one."""
    rewritten: str = ""
    corpus: tuple[str, ...] = ()
    """Near files that are not in the prompt, as the server finds them."""
    action: str = ""
    """What kind of task it is; empty for words of the user's own."""


def edits(git: Git, seed: int) -> Iterator[Edit]:
    """What each commit changed in each file, in an order that the seed decides."""
    history = git.history()
    random.Random(seed).shuffle(history)
    for id, parent, subject in history:
        commit = replayable(git, id, parent, subject)
        files = git.source_files(parent) if commit else {}
        outlines = {path: found for path, text in files.items() if (found := _outline(path, text))}
        graph = Graph(files, outlines)
        for path, hunks in commit.hunks.items() if commit else ():
            text = git.text(parent, path)
            assert text is not None
            edit = _edit(path, text, hunks, subject, random.Random(f"{seed} {id} {path}"))
            if edit is not None:
                yield replace(edit, corpus=_corpus(files, neighbours(path, outlines, graph, N_NEAR)))


@lru_cache(maxsize=4096)
def _outline(path: str, text: str) -> Outline | None:
    return outline(path, text.encode())


def held_out_edits() -> Iterator[Edit]:
    """The tasks that the demo model is judged by, and what it should say; see `models/`."""
    for case in held_out(1000):
        yield Edit(case.context, case.task, marker_size(case.files.values()), answer(case), action=case.kind)


def _corpus(files: Mapping[str, str], near: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    room = DRAFT_CORPUS_CHARS
    for path in near:
        if len(files[path]) <= room:
            found.append(files[path])
            room -= len(files[path])
    return tuple(found)


def _edit(path: str, text: str, hunks: Sequence[Hunk], subject: str, chance: random.Random) -> Edit | None:
    lines, size = visible_lines(text), marker_size([text])
    blocks = _blocks(lines, hunks)
    if blocks is None:
        return None
    parts: list[str] = []
    for old, new in blocks:
        texts = ["".join(f"{line}\n" for line in part) for part in (old, new)]
        parts.append(f"{path}\n{'<' * size} SEARCH\n{texts[0]}{'=' * size}\n{texts[1]}{'>' * size} REPLACE\n")
    first, end = hunks[0].start, hunks[-1].start + len(hunks[-1].old)
    if chance.random() < 0.5:
        first, end = max(0, first - chance.randint(0, 8)), min(len(lines), end + chance.randint(1, 8))
    else:
        end = first
    new, at = list[str](), first
    for hunk in hunks if end > first else ():
        new += [*lines[at : hunk.start], *(line.rstrip("\n") for line in hunk.new)]
        at = hunk.start + len(hunk.old)
    new += lines[at:end]
    selected, rewritten = ("".join(f"{line}\n" for line in part) for part in (lines[first:end], new))
    context = Context(SourceFile(path, text))
    return Edit(context, Task(subject, path, first, end), size, "".join(parts), selected, rewritten)


def _blocks(lines: list[str], hunks: Sequence[Hunk]) -> list[tuple[list[str], list[str]]] | None:
    """Old and new lines of each block, the old ones a run that occurs once; hunks that meet share a block."""
    ends = unique_runs(lines)
    spans: list[tuple[int, int, list[str]]] = []
    for hunk in hunks:
        new = [line.rstrip("\n") for line in hunk.new]
        start, end = hunk.start, hunk.start + len(hunk.old)
        if start == end:  # an insertion quotes the line before, or after
            if start:
                start, new = start - 1, [lines[start - 1], *new]
            elif lines:
                end, new = 1, [*new, lines[0]]
        while start > 0 and ends[start] is None:
            start -= 1
            new.insert(0, lines[start])
        unique = ends[start] if start < len(lines) else None
        if unique is None:
            return None
        new += lines[end:unique]
        end = max(end, unique)
        if spans and start < spans[-1][1]:
            before = spans[-1]
            if hunk.start < before[1]:
                return None
            new = new[before[1] - start :]
            start, new = before[0], [*before[2], *new]
            spans.pop()
        spans.append((start, end, new))
    return [(lines[start:end], new) for start, end, new in spans]


class Oracle(NothingSaved):
    """A driver whose model always wants the true next token; see `generation.driver.Driver`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.info = ModelInfo(backend="oracle", name="oracle", n_ctx=N_CTX, n_vocab=tokenizer.n_vocab)
        self.n_ctx, self.n_vocab, self.n_batch, self.n_sequences = N_CTX, tokenizer.n_vocab, 512, 2
        self.n_branches = N_BRANCHES
        self._tree: Sequence[int] = ()
        self.eog_tokens, self.control_tokens = tokenizer.eog_tokens, tokenizer.eog_tokens
        self.bos_tokens, self.special_texts = tokenizer.bos_tokens, dict[str, str]()
        self.chat_template, self.state_key = tokenizer.chat_template, ""
        self._tokenizer = tokenizer
        self._held: list[int] = []
        self._end = min(tokenizer.eog_tokens)
        self._reply = b""
        self._starts: list[int] = []
        self._next: list[int] = []
        self._n_prompt: int | None = None
        self._logits = np.zeros((self.n_batch, self.n_vocab), np.float32)
        self._set: list[int] = []

    def want(self, reply: str) -> list[int]:
        """After the prompt to come, say this; its tokens."""
        self._reply, self._n_prompt = reply.encode(), None
        self._next = self.tokenize(self._reply, special=False)
        sizes = [len(self.piece(token)) for token in self._next]
        self._starts = [sum(sizes[:n]) for n in range(len(sizes))]
        return self._next

    def piece(self, token: int) -> bytes:
        """See `Driver`."""
        return self._tokenizer.pieces[token]

    def tokenize(self, text: bytes, *, special: bool) -> list[int]:
        """See `Driver`."""
        return list(self._tokenizer.remembered(text, special))

    def forward(self, tokens: Sequence[int], position: int, *, n_logits: int) -> NDArray[np.float32] | None:
        """See `Driver`."""
        assert position == len(self._held)
        self._held += tokens
        if not n_logits:
            return None
        if self._n_prompt is None:
            self._n_prompt = len(self._held) - n_logits + 1  # how it may begin can follow
        said = self._held[self._n_prompt : len(self._held) - n_logits + 1]
        return self._answers(said, self._held[len(self._held) - n_logits + 1 :], range(-1, n_logits - 2))

    def branch(self, tokens: Sequence[int], position: int, parents: Sequence[int]) -> NDArray[np.float32]:
        """See `Driver`."""
        assert position == len(self._held)
        n = len(tokens) - len(parents)
        self._held += tokens[:n]
        if self._n_prompt is None:
            self._n_prompt = len(self._held)
        self._tree = tokens[n:]
        return self._answers(self._held[self._n_prompt :], self._tree, parents)

    def keep(self, position: int, nodes: Sequence[int]) -> None:
        """See `Driver`."""
        assert position == len(self._held)
        self._held += [self._tree[node] for node in nodes]

    def _answers(
        self, said: Sequence[int], tokens: Sequence[int], parents: Sequence[int]
    ) -> NDArray[np.float32]:
        """The logits after what was said, and after each of the tokens."""
        self._logits[: len(self._set), self._set] = 0.0
        texts = [b"".join(map(self.piece, said))]
        for token, parent in zip(tokens, parents, strict=True):
            texts.append(texts[parent + 1] + self.piece(token))
        self._set = [*map(self._after, texts)]
        self._logits[range(len(texts)), self._set] = 1.0
        return self._logits[: len(texts)]

    def _after(self, text: bytes) -> int:
        """The token to say after this much of the reply."""
        if not self._reply.startswith(text) or text == self._reply:
            return self._end
        # The grammar's tokens may end where those of the whole reply do not.
        at = bisect_right(self._starts, len(text)) - 1
        if self._starts[at] == len(text):
            return self._next[at]
        return self.tokenize(self._reply[len(text) :], special=False)[0]

    def watch(self, interrupt: Interrupt) -> bool:
        """See `Driver`."""
        return False

    def clear(self) -> None:
        """See `Driver`."""
        self._held = []

    def trim(self, n_keep: int, sequence: int = 0) -> bool:
        """See `Driver`."""
        if sequence == 0:
            del self._held[n_keep:]
        return True

    def copy(self, source: int, destination: int, n: int) -> None:
        """See `Driver`; one sequence is enough here."""
        raise NotImplementedError

    def close(self) -> None:
        """See `Driver`."""


def run(backend: InProcessBackend, edit: Edit, *, grammar: str | None, draft: Draft | None) -> Timings | None:
    """One reply; None where the grammar does not admit the one that is wanted."""
    request = GenerateRequest(render_prompt(edit.context, edit.task, edit.size), grammar, draft=draft)
    said: list[str] = []
    finished: Finished | None = None
    for event in backend.generate(request, lambda: False):
        match event:
            case TextChunk(text=text):
                said.append(text)
            case Finished():
                finished = event
            case _:
                pass
    assert finished is not None
    return finished.timings if "".join(said) == edit.reply else None


def libraries(prompt: Sequence[int], reply: Sequence[int], n_gram: int = 2, n_draft: int = 10) -> int:
    """Passes with the libraries' n-gram speculation."""
    seen: dict[tuple[int, ...], int] = {}
    text = list(prompt)
    for end in range(n_gram, len(text)):
        seen[tuple(text[end - n_gram : end])] = end
    n_said = n_passes = 0
    while n_said < len(reply):
        draft: Sequence[int] = ()
        if n_said:  # the first token comes with the prompt
            at = seen.get(tuple(text[-n_gram:]))
            draft = text[at : at + n_draft] if at else ()
            n_passes += 1
        n_right = 0
        while n_right < len(draft) and reply[n_said : n_said + 1] == [draft[n_right]]:
            n_right += 1
            n_said += 1
        for token in reply[n_said - n_right : n_said + 1]:
            seen[tuple(text[-n_gram:])] = len(text)
            text.append(token)
        n_said += 1
    return n_passes


def share_new(prompt: Sequence[int], reply: Sequence[int]) -> float:
    """The share of tokens that, with the one before, stand nowhere before."""
    text = [*prompt, *reply]
    seen = set(itertools.pairwise(prompt))
    n_new = 0
    for pair in zip(text[len(prompt) - 1 :], reply, strict=False):
        n_new += pair not in seen
        seen.add(pair)
    return n_new / len(reply)


WAYS = ("plain", "n-gram", "forced", "path", "tree", "ours")


Rows = list[tuple[int, int, int, int, int]]


@dataclass
class Counts:
    """Of one repository: for each edit its tokens, and its passes in each way."""

    n_tokens: list[int]
    n_passes: dict[str, list[int]]
    new: list[float]
    n_left_out: int = 0

    def over_all(self, way: str) -> float:
        """Passes per token, over all tokens."""
        return sum(self.n_passes[way]) / sum(self.n_tokens)

    def at_median(self, way: str) -> float:
        """Passes per token, of the edit in the middle."""
        rates = (n / tokens for n, tokens in zip(self.n_passes[way], self.n_tokens, strict=True))
        return statistics.median(rates)


def count(driver: Oracle, backend: InProcessBackend, edits: Iterable[Edit], n_edits: int) -> Counts:
    """Replay so many edits."""
    found = Counts([], {way: [] for way in WAYS}, [])
    prompts = PromptBuilder(driver)
    for edit in edits:
        if len(found.n_tokens) == n_edits:
            break
        reply = driver.want(edit.reply)
        grammar = edit_grammar(edit.context.editable, edit.size)
        forced = run(backend, edit, grammar=grammar, draft=None) if len(reply) <= MAX_TOKENS else None
        if forced is None:
            found.n_left_out += 1
            continue
        ours: list[int] = []
        segments = render_prompt(edit.context, edit.task, edit.size)
        for driver.n_branches, corpus in ((1, ()), (N_BRANCHES, ()), (N_BRANCHES, edit.corpus)):
            list(backend.prewarm(PrewarmRequest(segments[:-1], corpus=corpus), lambda: False))
            driver.want(edit.reply)
            draft = expect_reply(edit.context, edit.task, edit.size, corpus)
            timings = run(backend, edit, grammar=grammar, draft=draft)
            assert timings is not None, "a draft changes no reply"
            ours.append(timings.n_forward)
        prompt = prompts.build(segments).tokens
        found.n_tokens.append(len(reply))
        for way, n in zip(
            WAYS,
            (len(reply) - 1, libraries(prompt, reply), forced.n_forward, *ours),
            strict=True,
        ):
            found.n_passes[way].append(n)
        found.new.append(share_new(prompt, reply))
    return found


LIMITS = (3, 5, 10, 20, 40)
"""Lines of a selection."""


def rewrites(driver: Oracle, backend: InProcessBackend, repository: Path, n_edits: int, seed: int) -> Rows:
    """For edits with a small selection: its lines, and tokens and passes of both formats."""
    rows: Rows = []
    for edit in edits(Git(repository), seed):
        n_lines = edit.task.end_line - edit.task.first_line
        if len(rows) == n_edits:
            break
        if not 0 < n_lines <= LIMITS[-1] or not edit.rewritten:
            continue
        if len(driver.want(edit.reply)) > MAX_TOKENS:
            continue
        grammar = edit_grammar(edit.context.editable, edit.size)
        draft = expect_reply(edit.context, edit.task, edit.size)
        ours = run(backend, edit, grammar=grammar, draft=draft)
        if ours is None:
            continue
        driver.want(edit.rewritten)
        # No line of a file holds the marks, so everything is the opening, which the reply follows.
        alone = Draft(edit.selected, "\0", "\0", "\0")
        theirs = run(backend, replace(edit, reply=edit.rewritten), grammar=None, draft=alone)
        assert theirs is not None, "nothing constrains it"
        rows.append((n_lines, ours.n_decoded, ours.n_forward, theirs.n_decoded, theirs.n_forward))
    return rows


def rewrite_table(result: dict[str, Any]) -> str:
    """Both formats side by side, by how large the selection may be, as Markdown."""
    lines = [
        "| selection of at most | edits | tokens, search/replace | rewrite | passes, search/replace "
        "| rewrite | saved |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    every = [row for rows in result["rows"].values() for row in rows]
    for limit in LIMITS:
        rows = [row for row in every if row[0] <= limit]
        if rows:
            means = [statistics.mean(row[at] for row in rows) for at in (1, 3, 2, 4)]
            cells = " | ".join(f"{mean:.1f}" for mean in means)
            lines.append(f"| {limit} lines | {len(rows)} | {cells} | {1 - means[3] / means[2]:.1%} |")
    return "\n".join(lines)


def report(counts: dict[str, Counts]) -> dict[str, Any]:
    """Everything as plain values."""
    together = Counts([], {way: [] for way in WAYS}, [])
    for one in counts.values():
        together.n_tokens += one.n_tokens
        together.new += one.new
        together.n_left_out += one.n_left_out
        for way in WAYS:
            together.n_passes[way] += one.n_passes[way]
    return {
        name: {
            "edits": len(one.n_tokens),
            "left out": one.n_left_out,
            "tokens": sum(one.n_tokens),
            "new": sum(map(lambda share, n: share * n, one.new, one.n_tokens)) / sum(one.n_tokens),
            "median": {way: one.at_median(way) for way in WAYS},
            "all": {way: one.over_all(way) for way in WAYS},
        }
        for name, one in {**counts, "all": together}.items()
    }


def table(result: dict[str, Any]) -> str:
    """The counts for people, as Markdown."""
    ways = list(result["repositories"]["all"]["all"])
    rows = ["| passes per token | edits | tokens | new | " + " | ".join(ways) + " |"]
    rows.append("|---|---:|---:|---:|" + "---:|" * len(ways))
    for name, one in result["repositories"].items():
        for what in ("median", "all"):
            cells = " | ".join(f"{one[what][way]:.3f}" for way in ways)
            label = f"{name}, {'the edit in the middle' if what == 'median' else 'over all tokens'}"
            rows.append(f"| {label} | {one['edits']} | {one['tokens']:,} | {one['new']:.1%} | {cells} |")
    return "\n".join(rows)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description="Count the forward passes of real edits.")
    parser.add_argument("repositories", nargs="*", type=Path)
    parser.add_argument("--held-out", action="store_true", help="count held-out tasks of the demo model too")
    parser.add_argument("--vocab", type=Path, required=True, metavar="GGUF")
    parser.add_argument("--edits", type=int, default=250, help="of each repository")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rewrite", action="store_true", help="count another format, see above")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    driver = Oracle(Tokenizer(asked.vocab))
    backend = InProcessBackend(driver, pace=Unlimited())
    if asked.rewrite:
        rows = {
            path.name: rewrites(driver, backend, path, asked.edits, asked.seed) for path in asked.repositories
        }
        result = {"command": command(sys.argv), "machine": machine(), "rows": rows}
        print(json.dumps(result) if asked.json else rewrite_table(result))
        return
    sources = {path.name: edits(Git(path), asked.seed) for path in asked.repositories}
    if asked.held_out:
        sources["held-out tasks"] = held_out_edits()
    counts = {name: count(driver, backend, source, asked.edits) for name, source in sources.items()}
    found = machine()
    result = {"command": command(sys.argv), "machine": found, "repositories": report(counts)}
    if asked.json:
        print(json.dumps(result, indent=2))
        return
    print(describe(found))
    print(table(result))


if __name__ == "__main__":
    main()

"""Replies of models that no grammar constrains, from the text to the files: a table for each kind of mistake.

A table says what the files are then. Whatever is not done has to be told.
"""

from collections.abc import Mapping

import pytest
from misquotes import run

A, B = "import os\nx = 1\n", "import os\ny = 1\n"
FILES = {"a.py": A, "b.py": B}
A2, B2 = A.replace("x = 1", "x = 2"), B.replace("y = 1", "y = 2")
BODY = "def total(rows):\n    amounts = rows.amounts()\n    result = sum(amounts)\n    return result\n"
JS = "function close(order) {\n  check(order);\n  pay(order);\n  ship(order);\n}\n"


def block(old: str, new: str, path: str = "a.py") -> str:
    return f"{path}\n" * bool(path) + f"<<<<<<< SEARCH\n{old}=======\n{new}>>>>>>> REPLACE\n"


A_BLOCK, B_BLOCK = block("x = 1\n", "x = 2\n"), block("y = 1\n", "y = 2\n", "b.py")
NO_PATH = A_BLOCK.removeprefix("a.py\n")


def check(
    reply: str,
    wanted: Mapping[str, str],
    files: Mapping[str, str] = FILES,
    selection: tuple[str, int, int] | None = None,
) -> None:
    """The files become these, those that are not named stay; what was not done is told, nothing else."""
    after, told = run(reply, files, selection)
    assert after == {**files, **wanted}
    assert bool(told) == (not wanted), told


REFUSED: dict[str, str] = {}


@pytest.mark.parametrize(
    "reply",
    [
        f'<file path="a.py">\n{A2}<file path="b.py">\n{B2}</file>\n',
        f'<file path="a.py">\n{A2}\nI changed the number.\n',
        f'<file path="a.py">\n{A2}\nThen:\n```python\n{B2}```\n',
        f"a.py\n```python\n{A2}\nb.py\n```python\n{B2}```\n",
        f"a.py\n```python\n{A2}\nb.py\n```\n{B2}```\n",
        f"```python a.py\n{A2}\n```python b.py\n{B2}```\n",
        *(
            f"{A_BLOCK.partition('>')[0]}\nb.py\n<<<<<<< {word}\ny = 1\n=======\ny = 2\n>>>>>>> END\n"
            for word in ("ORIGINAL", "HEAD", "OLD", "BEFORE", "", "b.py")
        ),
    ],
)
def test_the_next_file_is_never_written_into_one_that_was_not_closed(reply: str) -> None:
    check(reply, REFUSED)


def test_a_file_may_hold_what_opens_elements_fences_and_blocks() -> None:
    page = '<video>\n  <source src="old.mp4">\n</video>\n'
    changed = page.replace("old", "new")
    check(f'<file path="a.html">\n{changed}</file>\n', {"a.html": changed}, {"a.html": page})
    code = 'def f():\n    """Adds.\n\n    ```python\n    f()\n    ```\n    """\n    return 1\n'
    changed = code.replace("return 1", "return 2")
    check(f"```python\n{changed}```\n", {"a.py": changed}, {"a.py": code})
    text = "# How\n\n```sh\nrun\n```\n\nold\n"
    changed = text.replace("old", "new")
    check(f"````markdown\n{changed}````\n", {"a.md": changed}, {"a.md": text})
    conflict = "a\n<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> branch\nb\n"
    check(
        "a.txt\n<<<<<<<< SEARCH\n" + conflict + "========\na\nours\nb\n>>>>>>>> REPLACE\n",
        {"a.txt": "a\nours\nb\n"},
        {"a.txt": conflict},
    )
    check(f'<file path="a.py">\n```python\n{A2}```\n', {"a.py": A2})
    listed = "".join(f"   {line}\n" for line in changed.splitlines())
    check(f"1. Change it:\n   ````text\n{listed}   ````\n", {"a.md": changed}, {"a.md": text})


@pytest.mark.parametrize("begin", [f'<file path="b.py">\n{B2}\n', f"b.py\n```python\n{B2}\n"])
def test_a_text_that_is_not_closed_before_a_block_is_told(begin: str) -> None:
    after, told = run(f"{begin}\n{A_BLOCK}", FILES)
    assert (after, len(told)) == ({**FILES, "a.py": A2}, 1)


@pytest.mark.parametrize(
    "new",
    [
        "x = 2\n```\nThis changes the number.\n",
        "x = 2\n```\n\n```python\nimport json\n",
        "x = 2\n=====\n",
        "=====\nx = 2\n",
        "x = 2\n========\n",
        "x = 2\n======= END\n",
        "x = 2\n<<<<<<< REPLACE\n",
        "<<<<<<< REPLACE\nx = 2\n",
        "x = 2\n>>>>>>>> \n",
        "x = 2\n>>>>>\n",
        "x = 2\n>>>>>>>> UPDATED\n",
        "x = 2<|endoftext|>\n",
        "x = 2\n<|im_end|>\n",
        "x = 2\n<|im_start|>assistant\n",
        "x = 2</s>\n",
        "x = 2\n</file>\n",
        "x = 2\n</search_replace>\n",
        '<file path="a.py">\nx = 2\n',
        "x = 2\nREPLACE\n",
        "# b.py\nx = 2\n",
        "# a.py\n",
        "x = 2\n||||||| BASE\nx = 1\n",
        "<think>\nhm\n</think>\nx = 2\n",
        "x = 2\n\n**Explanation:** it is larger now.\n",
        "x = 2\n\nThis makes it larger.\n",
        "Here is the new code:\n\nx = 2\n",
        "x = 2\nNote: it is larger.\n",
        "<replace>\nx = 2\n</replace>\n",
        "x = 2\n]]>\n",
        "x = 2\n====\n",
        "-------\nx = 2\n",
        ">>>\nx = 2\n",
        "@@ -1 +1 @@\nx = 2\n",
        "x = 2\n*** End Patch\n",
        "--- a/a.py\n+++ b/a.py\nx = 2\n",
        "x = 2\n[REPLACE]\n",
        "REPLACE:\nx = 2\n",
        "x = 2\n\nb.py\ny = 2\n",
        "x = 2\n### `b.py`\n",
    ],
)
def test_what_is_no_code_is_not_written(new: str) -> None:
    check(block("x = 1\n", new), REFUSED)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1\n", 'TOKENS = ["<|im_end|>", "</s>"]\n'),
        ("x = 1\n", 'x = """\nTitle\n=====\n\nParameters\n----------\n"""\n'),
        ("x = 1\n", "MODES = {\n    SEARCH,\n    REPLACE\n}\n"),
        ("x = 1\n", 'x = """\n```python\nf()\n```\n"""\n'),
        ("x = 1\n", "# see b.py\nx = 2\n"),
        ("x = 1\n", "x = 1 << 2 >> 3\n"),
        ("x = 1\n", 'x = """\n\nThis makes it larger.\n"""\n'),
        ("x = 1\n", "x = f(\n\n**options)\n"),
        ("x = 1\n", 'x = """\nTitle\n~~~~~\n"""\n'),
        ("x = 1\n", '"""Existing rows, and the rest."""\nx = 2\n'),
    ],
)
def test_code_that_resembles_it_is_written(old: str, new: str) -> None:
    check(block(old, new), {"a.py": A.replace(old, new)})


def test_what_belongs_to_the_document_stays() -> None:
    chat = "<|im_start|>user\n{{ text }}<|im_end|>\n"
    changed = "<|im_start|>system\n{{ rules }}<|im_end|>\n" + chat
    check(block(chat, changed, "chat.jinja"), {"chat.jinja": changed}, {"chat.jinja": chat})
    for text, changed in (("Old\n===\n\ntext\n", "Newer\n=====\n\ntext\n"), ("## Old\n", "Newest\n======\n")):
        check(block(text, changed, "a.md"), {"a.md": changed}, {"a.md": text})
    check(block("x = 1\n", "# a.py\nx = 2\n"), {"a.py": A2})
    check(block("# a.py\nx = 1\n", "# a.py\nx = 2\n"), {"a.py": A2})
    check(block("x = 1\n", "a.py\nx = 2\n"), {"a.py": A2})
    check(block("x = 1\n", "# path/to/file.py\nx = 2\n"), {"a.py": A2})
    query = "select 1\n"
    check(block(query, "----\nselect 2\n", "a.sql"), {"a.sql": "----\nselect 2\n"}, {"a.sql": query})
    page = "let page = <p>\n</p>;\n"
    check(block("<p>\n", "<div>\n", "a.tsx"), REFUSED, {"a.tsx": page})
    check(block("</p>;\n", "</p>;\n<div>\n", "a.tsx"), {"a.tsx": page + "<div>\n"}, {"a.tsx": page})
    names = "a.py\n"
    check(block(names, names + "b.py\n", "files.txt"), {"files.txt": "a.py\nb.py\n"}, {"files.txt": names})
    titled = "# a.py\n" + A
    check(block(titled, "# a.py\n" + A2), {"a.py": "# a.py\n" + A2}, {"a.py": titled})


@pytest.mark.parametrize(
    "line",
    [
        "# --- existing code ---",
        "# <existing code>",
        "... existing code ...",
        "[existing code]",
        "pass  # existing code",
        "# existing code continues",
        "# existing code below",
        "# existing steps",
        "# remaining steps...",
        "# rest of the body stays the same as before",
        "# TODO: rest of the implementation",
        "# continue with the rest of the function",
        "# same code as above",
        "# same as original",
        "# as above",
        "# same",
        "(rest of the function unchanged)",
        "# ... second, third, fourth",
        "# .. existing code ..",
        "# etc.",
        "# and so on",
        "# (20 more lines)",
        "# previous logic",
        "# your code here",
        "... # rest",
        "return  # the same as before",
        "# everything else stays as is",
        "# keep the remaining lines",
        "#existing code",
        "<rest of the function>",
        "{ ... }",
        "# sums up the rows (unchanged)",
        "# same as it was, with a start",
        "# 其余代码保持不变",
        "# Rest bleibt gleich",
        "# le reste du code est inchangé",
        "# el resto queda igual",
    ],
)
def test_a_placeholder_in_place_of_code_is_not_written(line: str) -> None:
    check(block(BODY, f"def total(rows, start=0):\n    {line}\n"), REFUSED, {"a.py": BODY})
    check(f"```python\ndef total(rows, start=0):\n    {line}\n```\n", REFUSED, {"a.py": BODY}, ("a.py", 0, 4))


@pytest.mark.parametrize(
    "line",
    [
        "// ... other props",
        "{/* rest of JSX */}",
        "// other cases remain",
        "// existing handlers here",
        "// (rest of the switch)",
        "// the same handlers",
        "/* previous statements */",
        "// ...",
        "…",
        "} // ... rest of the function",
    ],
)
def test_a_placeholder_in_javascript(line: str) -> None:
    new = JS.replace("  check(order);\n  pay(order);\n  ship(order);\n", f"  {line}\n").replace(
        "order", "one"
    )
    check(block(JS, new, "a.js"), REFUSED, {"a.js": JS})


@pytest.mark.parametrize(
    "line",
    [
        "# same order as above",
        "# as above",
        "# existing rows win",
        "# other rows are ignored",
        "# remaining rows, columns, etc.",
        "# The rest is summed up below.",
        "# ... or else",
        "# Previously a list",
        "# TODO: handle this...",
        "pass  # nothing more to do",
        "(rest, other)",
        "[previous]",
    ],
)
def test_words_beside_code_are_no_placeholder(line: str) -> None:
    changed = BODY.replace("    result", f"    {line}\n    result", 1)
    check(block(BODY, changed), {"a.py": changed}, {"a.py": BODY})
    new = f"    {line}\n    result = fsum(amounts)\n"
    changed = BODY.replace("    result = sum(amounts)\n", new)
    check(block("    result = sum(amounts)\n", new), {"a.py": changed}, {"a.py": BODY})


@pytest.mark.parametrize(
    "line", ["[Rest of the README is unchanged]", "...", "(existing sections below)", "…"]
)
def test_a_placeholder_in_prose(line: str) -> None:
    text = "# Shop\n\nA small shop.\n\n## Install\n\nRun pip.\n\n## Use\n\nRun it.\n"
    check(block(text, f"# Shop\n\nA big shop.\n\n{line}\n", "a.md"), REFUSED, {"a.md": text})
    changed = text.replace("Run it.", f"{line}\n\nRun it.")
    check(block(text, changed, "a.md"), {"a.md": changed}, {"a.md": text})


def test_code_may_become_less() -> None:
    new = "def total(rows):\n    # other rows are not counted\n    return sum(row.amount for row in rows)\n"
    check(block(BODY, new), {"a.py": new}, {"a.py": BODY})
    loop = "for other in rows:\n    check(other)\n    count(other)\n"
    new = "".join(f"# {line}\n" for line in loop.splitlines())
    check(block(loop, new), {"a.py": new}, {"a.py": loop})


def test_a_comment_may_take_the_place_of_a_comment() -> None:
    check(
        block("# in order\n", "# same order as above\n"),
        {"a.py": "# same order as above\n"},
        {"a.py": "# in order\n"},
    )


@pytest.mark.parametrize(
    ("rest", "begins"),
    [
        (f"b.py\n```python\n{B2}```\n", "import os"),
        (f"```python\n{A2}```\n", "import os"),
        (f'<file path="b.py">\n{B2}</file>\n', "<file"),
        ("```diff\n-y = 1\n+y = 2\n```\n", "-y = 1"),
        ("--- a/b.py\n+++ b/b.py\n@@ -2 +2 @@\n-y = 1\n+y = 2\n", "--- a/b.py"),
        ("=======\ny = 2\n>>>>>>> REPLACE\n", "======="),
        (f'<file path="b.py">\n{B2}\n', "import os"),
    ],
)
def test_what_was_not_read_beside_a_block_is_told_once(rest: str, begins: str) -> None:
    after, told = run(A_BLOCK + "\n" + rest, FILES)
    assert after == {**FILES, "a.py": A2}
    assert len(told) == 1
    assert "was not read" in told[0]


def test_a_message_that_the_model_made_up_is_no_task() -> None:
    for turn in (
        "<|im_start|>user",
        "<start_of_turn>user",
        "[INST] And",
        "<|start_header_id|>user<|end_header_id|>",
    ):
        after, told = run(f"{A_BLOCK}<|im_end|>\n{turn}\nAnd b.py\n<|im_start|>assistant\n{B_BLOCK}", FILES)
        assert (after, len(told)) == ({**FILES, "a.py": A2}, 1)


def test_what_belongs_to_a_block_or_to_no_file_is_not_told() -> None:
    check(f"Here:\n\n```python\n{A_BLOCK}```\n\nRun it:\n\n```sh\npython a.py\n```\nDone.\n", {"a.py": A2})
    check(f"```\na.py\n```\n\n```\n{NO_PATH}```\n", {"a.py": A2})


@pytest.mark.parametrize("begin", ["<think>", "<reasoning>", "[THINK]", "<thinking>Well"])
def test_a_thought_that_never_ends_hides_no_block(begin: str) -> None:
    check(f"{begin}\nThe number is wrong.\n\n{A_BLOCK}", {"a.py": A2})
    check(f"{B_BLOCK}\n{begin}\nThe number too.\n\n{A_BLOCK}", {"a.py": A2, "b.py": B2})


def test_code_in_a_thought_that_never_ends_is_no_answer() -> None:
    check(f"<think>\nPerhaps\n```python\n{A2}```\n", REFUSED)


def test_thoughts_are_cut_outside_of_texts_only() -> None:
    text = 'PROMPT = """\n<think>\nstep by step\n</think>\n"""\nx = 1\n'
    changed = text.replace("x = 1", "x = 2")
    for reply in (
        f"```python\n{changed}```\n",
        f'<file path="a.py">\n{changed}</file>\n',
        f"<think>\nhm\n</think>\n```python\n{changed}```\n",
        block(text, changed),
        f"<think>hm</thinking>\n{block(text, changed)}",
    ):
        check(reply, {"a.py": changed}, {"a.py": text})
    # Between blocks, too.
    check(f"{B_BLOCK}<think>\n{A_BLOCK.replace('2', '3')}</think>\n{A_BLOCK}", {"a.py": A2, "b.py": B2})


@pytest.mark.parametrize(
    ("before", "wanted"),
    [
        ("a.py\n\nNow y, like in b.py:\n", "a.py"),
        ("### `a.py`\nJust as b.py has it:\n", "a.py"),
        ("1. a.py\n2. b.py\n\nFirst, in a.py:\n", "a.py"),
        ("### b.py\nNothing to do.\n\n### a.py\nLike b.py:\n", "a.py"),
        ("In a.py:\n", "a.py"),
    ],
)
def test_a_line_that_is_a_path_beats_a_sentence(before: str, wanted: str) -> None:
    reply = before + block("x = 1\n", "x = 2\n", "")
    check(reply, {wanted: A2}, FILES, ("b.py", 0, 1))
    both = before + block("import os\n", "import json\n", "")
    after, told = run(both, FILES, ("b.py", 0, 1))
    if "ike" in before or "ust" in before:
        assert (after, len(told)) == (FILES, 1)
    else:
        assert after == {**FILES, wanted: A.replace("os", "json")}


@pytest.mark.parametrize(
    "reply",
    [
        f"Change `b.py`.\n\nThe number is 2 then.\n\n```python\n{B2}```\n",
        f"```python\n# b.py\n{B2}```\n",
        f"```python\n# b.py\n\n{B2}```\n",
        f"Like a.py:\n```python\n# File: b.py\n{B2}```\n",
        f"b.py\n```python\n# b.py\n{B2}```\n",
        f'<file path="b.py">\n# b.py\n{B2}</file>\n',
        f"This reads settings.json.\nIn b.py:\n```python\n{B2}```\n",
    ],
)
def test_new_text_is_of_the_file_that_was_named_last(reply: str) -> None:
    check(reply, {"b.py": B2}, FILES, ("a.py", 0, 2))


def test_new_text_is_of_the_path_above_it_and_not_of_one_that_is_mentioned() -> None:
    changed = BODY.replace("sum(", "fsum(")
    reply = f"### b.py\n\nNearly as in a.py:\n\n```python\n{changed}```\n"
    check(reply, {"b.py": changed}, {"a.py": A, "b.py": BODY})
    check(reply, REFUSED, {"a.py": BODY, "b.py": BODY})


@pytest.mark.parametrize(
    "reply",
    [
        f"a.py\n```python\n# b.py\n{B2}```\n",
        f"```python\n# helpers.py\n{A2}```\n",
        f"Change `helpers.py`:\n```python\n{A2}```\n",
    ],
)
def test_new_text_of_another_file_is_refused(reply: str) -> None:
    check(reply, REFUSED, FILES, ("a.py", 0, 2))


def test_a_comment_that_the_file_has_names_nothing() -> None:
    text = "// src/old.ts\nlet x = 1;\n"
    changed = text.replace("1", "2")
    check(f"```ts\n{changed}```\n", {"src/b.ts": changed}, {"src/b.ts": text})
    plain = "let x = 1;\n"
    check(
        f"```ts\n// src/b.ts\n{plain.replace('1', '2')}```\n",
        {"src/b.ts": "let x = 2;\n"},
        {"src/b.ts": plain},
    )
    script = "#!/bin/sh\necho 1\n"
    check(f"```sh\n{script.replace('1', '2')}```\n", {"run.sh": "#!/bin/sh\necho 2\n"}, {"run.sh": script})


@pytest.mark.parametrize(
    "reply",
    [
        A_BLOCK.rstrip() + "<|im_end|>",
        A_BLOCK.rstrip() + " <|endoftext|>\n",
        A_BLOCK + "<|im_end|>\n",
        A_BLOCK.replace("SEARCH", "SEARCH<|x|>"),
        f"```python\n{A_BLOCK}```<|im_end|>",
        f"a.py\n```python\n{A2}```<|im_end|>",
        f"<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{A_BLOCK}",
        A_BLOCK.replace("=======", "-------"),
        A_BLOCK.replace("=======", "=========="),
        A_BLOCK.replace("=======", "====="),
    ],
)
def test_what_is_clear_is_read(reply: str) -> None:
    check(reply, {"a.py": A2})


@pytest.mark.parametrize(
    "reply",
    [
        "a.py\n<<<<<<< SEARCH\nx = 1\n-------\nx = 2\n-------\nx = 3\n>>>>>>> REPLACE\n",
        "a.py\n<<<<<<< SEARCH\nx = 1\n-------\nx = 2\n=======\nx = 3\n>>>>>>> REPLACE\n",
        "a.py\n<<<<<<< SEARCH\nx = 1\n==========\nx = 2\n==========\n>>>>>>> REPLACE\n",
        "a.py\n<<<<<<< SEARCH\nx = 1\n>>>>>>> REPLACE\n",
    ],
)
def test_two_lines_that_may_be_the_separator_are_none(reply: str) -> None:
    check(reply, REFUSED)


def test_a_rule_of_the_file_is_no_separator() -> None:
    text = "Title\n-------\n\nold\n"
    changed = text.replace("old", "new")
    check(block(text, changed, "a.md"), {"a.md": changed}, {"a.md": text})
    check(block(text, changed, "a.md").replace("=======", "-------"), REFUSED, {"a.md": text})
    added = text + "\nMore\n----\n\n-----\n"
    check(block("old\n", "old\n\nMore\n----\n\n-----\n", "a.md"), {"a.md": added}, {"a.md": text})


def test_a_code_block_for_an_empty_file() -> None:
    for text in ("", "\n"):
        check(f"```python\n{A}```\n", {"a.py": A}, {"a.py": text})
        check("```sh\npip install x\n```\n", REFUSED, {"a.py": text})


HUGE = 50_000


@pytest.mark.parametrize(
    "line",
    [
        " " * HUGE + "x",
        "#" + " " * HUGE + "x",
        "# ..." + " " * HUGE + "x",
        "x" + " " * HUGE + "#" + " " * HUGE,
        "." * HUGE + "x",
        "/" * HUGE + " x",
        "a/" * HUGE + " x",
        "“" * HUGE,
        "`" * HUGE + "'",
        "- " * HUGE + "x",
        "./" * HUGE + "x",
        "(" * HUGE,
        "in " * HUGE + "x",
        "existing " * HUGE,
        "<file " + 'path="a" ' * HUGE,
        "<|a|>" * HUGE + "x",
        "<|a|>" * HUGE,
        ">>>>>>> " + " " * HUGE + '"',
        "<" * HUGE + "x",
        ":" * HUGE + "x",
        "a:" * HUGE + "x y",
        "`" * 3 + " " * HUGE + "`",
        "# " + ": " * HUGE + "\x0c",
        '"""' * HUGE + "x",
    ],
)
def test_long_lines_take_no_longer_than_others(line: str) -> None:
    """With anything quadratic in it this would take minutes."""
    run(f"{line}\n{NO_PATH.replace('x = 2', line)}\n{line}\n", FILES)
    run(f"```python\n{line}\n{A2}```\n{line}\n", FILES)


def test_many_odd_lines_take_no_longer_than_others() -> None:
    for line in (
        "# same",
        "...",
        "```",
        "pass  # existing code",
        "</s>",
        "<think>",
        "=====",
        '<file path="a.py">',
    ):
        many = f"{line}\n" * 5_000
        run(block("x = 1\n", many), {"a.py": A})
        run(block("x = 1\n", f"{line}\n{many}"), {"a.py": A + f"{line}\n"})
        run(many + block("x = 1\n", "x = 2\n"), {"a.py": A})

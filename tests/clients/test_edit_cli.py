"""`singlepass edit` as a user runs it: a real command, server and engine, and a model behind an endpoint that
replies as each test says, after what happens to the files while it writes."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoints import Endpoint, Exchange, reply
from singlepass.cli.edit import parse_lines
from singlepass.cli.headless import OpenFile
from singlepass.editor.workspace import UserError
from terminal import run_in_terminal

SOURCE = "".join(f"value_{n} = {n}\n" for n in range(8))
Done = subprocess.CompletedProcess[bytes]


def block(number: int, name: str = "values.py") -> str:
    """What makes `value_N = N` ten times as much."""
    return (
        f"{name}\n<<<<<<< SEARCH\nvalue_{number} = {number}\n=======\nvalue_{number} = {number}0\n"
        ">>>>>>> REPLACE\n"
    )


def edited(*numbers: int, source: str = SOURCE) -> str:
    for number in numbers:
        source = source.replace(f"value_{number} = {number}\n", f"value_{number} = {number}0\n")
    return source


class Model:
    """A model behind an endpoint."""

    def __init__(self, folder: Path) -> None:
        self.texts: tuple[str, ...] = ()
        self.meanwhile: Callable[[], object] = lambda: None
        self.finish = "stop"
        self.config = folder
        self.endpoint = Endpoint(self._answer)
        url = self.endpoint.url
        (folder / "singlepass.toml").write_text(
            f'[target]\nbackend = "openai_compatible"\nurl = "{url}"\nmodel = "m"\n', encoding="utf-8"
        )

    def _answer(self, exchange: Exchange) -> None:
        self.meanwhile()
        exchange.head()
        exchange.send(reply(self.texts, self.finish))

    def replies(
        self, *texts: str, meanwhile: Callable[[], object] = lambda: None, finish: str = "stop"
    ) -> None:
        self.texts, self.meanwhile, self.finish = texts, meanwhile, finish


@pytest.fixture(scope="module")
def shared_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = Model(tmp_path_factory.mktemp("config"))
    yield model
    model.endpoint.close()


@pytest.fixture
def model(shared_model: Model) -> Model:
    shared_model.replies(block(3))
    return shared_model


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    subprocess.run(["git", "init", "-q", folder], check=True)
    (folder / "values.py").write_text(SOURCE, encoding="utf-8")
    return folder


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "singlepass", "edit", "-i", "Do it.", *map(str, arguments)]


def edit(repository: Path, model: Model, *arguments: str | Path, **more: object) -> Done:
    """The command in the repository; by default all that it prints is kept."""
    environment = {**os.environ, "SINGLEPASS_CONFIG_DIR": str(model.config), **more.pop("env", {})}  # type: ignore[dict-item]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run(  # type: ignore[call-overload]
        command(*arguments), cwd=repository, env=environment, check=False, timeout=120, **streams
    )


def said(done: Done) -> str:
    """All that was printed, in one line, and no traceback."""
    text = ((done.stdout or b"") + b"\n" + (done.stderr or b"")).decode("utf-8", "replace")
    assert "Traceback" not in text, text
    assert "Exception ignored" not in text, text
    return " ".join(text.split())


# Files, before anything starts.


def loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkfifo, "is a named pipe; only a regular file can be edited"),
        (loop, "Too many levels of symbolic links"),
        (Path.mkdir, "is a folder; name a file"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device; only a regular file can be edited"),
        (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
        (lambda path: path.write_bytes(b"# caf\xe9\n"), "is not UTF-8 text: byte 5 is 0xe9"),
        (lambda path: path.write_bytes(b"\0\0"), "holds NUL bytes"),
    ],
)
def test_what_is_no_text_file_is_refused_at_once(
    make: Callable[[Path], object], why: str, repository: Path, model: Model
) -> None:
    make(repository / "odd.py")
    n_asked = len(model.endpoint.asked)
    done = edit(repository, model, "values.py", "--also", "odd.py", "--apply")
    assert done.returncode == 2
    assert "odd.py" in said(done) or "zero" in said(done) or "nowhere" in said(done)
    assert why in said(done)
    assert len(model.endpoint.asked) == n_asked


@pytest.mark.parametrize("name", ["x" * 300, "", "values.py/a.py"])
def test_a_name_that_names_nothing(name: str, repository: Path, model: Model) -> None:
    done = edit(repository, model, name)
    assert done.returncode == 2
    assert len(said(done)) > 10


def test_a_model_that_is_a_pipe_is_refused_at_once(repository: Path, model: Model) -> None:
    os.mkfifo(repository / "pipe.gguf")
    done = edit(repository, model, "values.py", "--model", "pipe.gguf")
    assert done.returncode == 2
    assert "is a named pipe; only a regular file can be a model" in said(done)
    done = edit(repository, model, "values.py", "--model", "~nobody-of-this-name/m.gguf")
    assert done.returncode == 2
    assert "there is no such user" in said(done)


@pytest.mark.parametrize("other", ["./values.py", "link.py", "hard.py"])
def test_two_names_of_one_file_are_one_file(other: str, repository: Path, model: Model) -> None:
    (repository / "link.py").symlink_to("values.py")
    (repository / "hard.py").hardlink_to(repository / "values.py")
    done = edit(repository, model, "values.py", "--also", other, "--apply")
    assert done.returncode == 0, said(done)
    assert (repository / "values.py").read_text() == edited(3)
    assert (repository / "link.py").is_symlink()


@pytest.mark.parametrize(
    "name",
    [
        "-x.py",
        "a b.py",
        'quo"te.py',
        "back\\slash.py",
        "line\nfeed.py",
        "tab\there.py",
        "caf\u00e9.py",
        "[red]x[b].py",
    ],
)
def test_names_that_programs_trip_over(name: str, repository: Path, model: Model) -> None:
    """The diff is one that git takes, and what is said keeps to its line."""
    path = repository / name
    path.write_text(SOURCE, encoding="utf-8")
    model.replies(block(3).removeprefix("values.py\n"))
    done = edit(repository, model, "--diff", "--", name)
    assert done.returncode == 0, said(done)
    subprocess.run(["git", "apply", "-"], input=done.stdout, cwd=repository, check=True)
    assert path.read_text(encoding="utf-8") == edited(3)
    path.write_text(SOURCE, encoding="utf-8")
    done = edit(repository, model, "--apply", "--", name)
    assert done.returncode == 0, said(done)
    assert path.read_text(encoding="utf-8") == edited(3)
    last = done.stdout.decode().splitlines()[-1]
    assert last.startswith("written: ")
    assert name in last or "␊" in last or "␉" in last


def test_a_name_that_is_not_utf_8(repository: Path, model: Model) -> None:
    name = os.fsdecode(b"caf\xe9.py")
    (repository / name).write_text(SOURCE, encoding="utf-8")
    model.replies(block(3).removeprefix("values.py\n"))
    done = edit(repository, model, name, "--diff")
    assert b'"a/caf\\351.py"' in done.stdout
    subprocess.run(["git", "apply", "-"], input=done.stdout, cwd=repository, check=True)
    assert (repository / name).read_text(encoding="utf-8") == edited(3)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_the_bytes_that_were_not_edited_stay(mark: bytes, eol: str, repository: Path, model: Model) -> None:
    """The mark at its start, line ends, and a last line without one; in the file and by the diff."""
    path = repository / "values.py"
    source, expected = (mark + text[:-1].replace("\n", eol).encode() for text in (SOURCE, edited(0, 7)))
    model.replies(block(0), block(7))
    path.write_bytes(source)
    diff = edit(repository, model, "values.py", "--diff").stdout
    assert edit(repository, model, "values.py", "--apply").returncode == 0
    assert path.read_bytes() == expected
    path.write_bytes(source)
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], input=diff, cwd=repository, check=True)
    assert path.read_bytes() == expected


# Files, while the model writes.


def test_what_the_user_saves_meanwhile_is_kept(repository: Path, model: Model) -> None:
    path = repository / "values.py"
    model.replies(block(3), meanwhile=lambda: path.write_text("# mine\n" + SOURCE))
    done = edit(repository, model, "values.py", "--apply", "--diff")
    assert done.returncode == 0, said(done)
    assert path.read_text() == "# mine\n" + edited(3)
    # The diff is what was done to what was there.
    path.write_text("# mine\n" + SOURCE)
    subprocess.run(["git", "apply", "-"], input=done.stdout, cwd=repository, check=True)
    assert path.read_text() == "# mine\n" + edited(3)
    path.write_text(SOURCE)
    done = edit(repository, model, "values.py", "--apply")
    assert said(done).endswith(f"written: {path} (merged with changes that were saved meanwhile)")


def test_a_line_that_the_user_changes_too_is_theirs(repository: Path, model: Model) -> None:
    (repository / "other.py").write_text(SOURCE)
    theirs = SOURCE.replace("value_3 = 3", "value_3 = 'mine'")
    model.replies(
        block(3), block(3, "other.py"), meanwhile=lambda: (repository / "other.py").write_text(theirs)
    )
    for option in ("", "--diff", "--json"):
        (repository / "other.py").write_text(SOURCE)
        done = edit(repository, model, "values.py", "--also", "other.py", "--apply", *filter(None, [option]))
        assert done.returncode == 1
        assert (repository / "other.py").read_text() == theirs
        assert (repository / "values.py").read_text() == SOURCE
        names = f"{repository / 'values.py'} or {repository / 'other.py'}"
        assert f"Nothing was written to {names}: " in said(done)
        assert "other.py was saved meanwhile with conflicting changes in line 4" in said(done)
        assert b"+value_3 = 30" in done.stdout  # what the model wrote is there to be had


def test_a_file_that_vanishes_and_one_that_becomes_a_link(repository: Path, model: Model) -> None:
    path, private = repository / "values.py", repository / "private.txt"
    private.write_text(SOURCE)
    model.replies(block(3), meanwhile=path.unlink)
    done = edit(repository, model, "values.py", "--apply")
    assert done.returncode == 1
    assert "values.py was deleted" in said(done)
    assert not path.exists()
    path.write_text(SOURCE)

    def link() -> None:
        path.unlink()
        path.symlink_to("private.txt")

    model.replies(block(3), meanwhile=link)
    done = edit(repository, model, "values.py", "--apply")
    assert done.returncode == 1
    assert "was replaced by a link" in said(done)
    assert (path.is_symlink(), private.read_text()) == (True, SOURCE)


def test_a_link_stays_one_and_a_read_only_file_too(repository: Path, model: Model) -> None:
    path = repository / "values.py"
    (repository / "link.py").symlink_to("values.py")
    path.chmod(0o755)
    done = edit(repository, model, "link.py", "--apply")
    assert done.returncode == 0, said(done)
    assert (repository / "link.py").is_symlink()
    assert (path.read_text(), path.stat().st_mode & 0o777) == (edited(3), 0o755)
    path.write_text(SOURCE)
    path.chmod(0o444)
    done = edit(repository, model, "link.py", "--apply")
    assert done.returncode == 1
    assert f"Nothing was written to {path}: {path} is read-only." in said(done)
    assert path.read_text() == SOURCE


@pytest.mark.parametrize(("named", "real"), [("plain.txt", ".envrc"), (".envrc", "plain.txt")])
def test_a_link_to_what_runs_and_one_by_which_it_runs(
    named: str, real: str, repository: Path, model: Model
) -> None:
    (repository / real).write_text(SOURCE)
    (repository / named).symlink_to(real)
    model.replies(block(3, real))
    done = edit(repository, model, named, "--apply")
    assert done.returncode == 1
    assert "--protected writes it too" in said(done)
    assert (repository / real).read_text() == SOURCE
    assert edit(repository, model, named, "--apply", "--protected").returncode == 0
    assert (repository / real).read_text() == edited(3)


def test_a_full_disk_leaves_every_file_whole(repository: Path, model: Model) -> None:
    """Files may become so large and no larger, for the command and all that it starts."""
    large = "".join(f"# {n} {'x' * 60}\n" for n in range(20_000)) + SOURCE
    (repository / "large.py").write_text(large)
    assert edit(repository, model, "values.py").returncode == 0  # the engine runs already
    model.replies(block(3), block(3, "large.py"))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    named = ("values.py", "--also", "large.py", "--range", "1:8")
    done = edit(repository, model, *named, "--apply", preexec_fn=limit)
    assert done.returncode == 1
    assert "Nothing was written to" in said(done)
    assert "large.py: a new file beside it cannot be written (File too large)" in said(done)
    assert (repository / "large.py").read_text() == large
    assert (repository / "values.py").read_text() == SOURCE
    assert sorted(path.name for path in repository.iterdir()) == [".git", "large.py", "values.py"]


def test_json_says_what_was_written(repository: Path, model: Model) -> None:
    done = edit(repository, model, "values.py", "--json")
    assert "written" not in json.loads(done.stdout)
    done = edit(repository, model, "values.py", "--json", "--apply")
    told = json.loads(done.stdout)
    assert told["written"] == [str(repository / "values.py")]
    assert told["message"] == f"written: {repository / 'values.py'}"


# Lines.


@pytest.mark.parametrize(
    ("lines", "first", "end"),
    [
        ("", 0, 8),
        ("5", 4, 5),
        ("2:4", 1, 4),
        ("2-4", 1, 4),
        ("2,4", 1, 4),
        ("2..4", 1, 4),
        (" 2 : 4 ", 1, 4),
        (":4", 0, 4),
        ("6:", 5, 8),
        (":", 0, 8),
        ("8", 7, 8),
        ("1:8", 0, 8),
        ("008", 7, 8),
    ],
)
def test_lines_as_people_write_them(lines: str, first: int, end: int) -> None:
    for text in (SOURCE, SOURCE[:-1], SOURCE.replace("\n", "\r\n")):
        found = parse_lines(lines, OpenFile("file:///a.py", Path("/a.py"), text))
        assert (found["start"]["line"], found["end"]["line"]) == (first, end)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("9", "goes past the end: values.py has 8 lines"),
        ("9:", "goes past the end: values.py has 8 lines"),
        ("5:99", "goes past the end: values.py has 8 lines"),
        (":999999999", "goes past the end: values.py has 8 lines"),
        ("0", "lines are numbered from 1, and the last must not come before the first"),
        (":0", "lines are numbered from 1, and the last must not come before the first"),
        ("4:2", "lines are numbered from 1, and the last must not come before the first"),
        ("4-2", "lines are numbered from 1, and the last must not come before the first"),
        ("-3", "--range takes lines as FIRST:LAST, FIRST:, :LAST or one number"),
        ("3-", "--range takes lines as FIRST:LAST, FIRST:, :LAST or one number"),
        ("1:2:3", "--range takes lines as FIRST:LAST, FIRST:, :LAST or one number"),
        ("1e3", "--range takes lines as FIRST:LAST, FIRST:, :LAST or one number"),
        ("²", "--range takes lines as FIRST:LAST, FIRST:, :LAST or one number"),
        ("٣", "--range takes lines as FIRST:LAST, FIRST:, :LAST or one number"),
        ("9" * 5000, "--range takes lines as FIRST:LAST, FIRST:, :LAST or one number"),
    ],
)
def test_lines_that_are_none(lines: str, why: str) -> None:
    for text in (SOURCE, SOURCE[:-1]):
        with pytest.raises(UserError) as raised:
            parse_lines(lines, OpenFile("file:///values.py", Path("/values.py"), text))
        assert why in str(raised.value)


@pytest.mark.parametrize("lines", ["9:", "-3"])
def test_wrong_lines_are_a_wrong_command(lines: str, repository: Path, model: Model) -> None:
    done = edit(repository, model, "values.py", "--range", lines)
    assert done.returncode == 2
    assert f"--range {'9: goes past the end' if lines == '9:' else 'takes lines as'}" in said(done)


def test_an_empty_file_has_no_lines(repository: Path, model: Model) -> None:
    (repository / "empty.py").write_text("")
    model.replies("empty.py\n<<<<<<< SEARCH\n=======\nx = 1\n>>>>>>> REPLACE\n")
    done = edit(repository, model, "empty.py", "--range", "1")
    assert done.returncode == 2
    assert "empty.py has 0 lines" in said(done)
    done = edit(repository, model, "empty.py", "--apply")
    assert done.returncode == 0, said(done)
    assert (repository / "empty.py").read_text() == "x = 1\n"


# What the exit code says.

MISQUOTED = "values.py\n<<<<<<< SEARCH\nnothing like it\n=======\nvalue_9 = 9\n>>>>>>> REPLACE\n"
SAME = "values.py\n<<<<<<< SEARCH\nvalue_5 = 5\n=======\nvalue_5 = 5\n>>>>>>> REPLACE\n"


@pytest.mark.parametrize(
    ("texts", "finish", "code"),
    [
        ((block(3),), "stop", 0),
        ((), "stop", 0),  # nothing to be done
        (("I would rather not change this file.",), "stop", 1),
        (("```python\nvalue_3 = 30\n```\nand so on",), "stop", 1),
        ((MISQUOTED,), "stop", 1),
        ((block(3), MISQUOTED), "stop", 1),
        ((SAME,), "stop", 1),
        ((block(3),), "length", 1),
        ((block(3), "values.py\n<<<<<<< SEARCH\nvalue_5 = 5\n"), "length", 1),
        ((block(3), SAME), "stop", 0),
    ],
)
def test_zero_means_that_the_reply_is_the_edit(
    texts: tuple[str, ...], finish: str, code: int, repository: Path, model: Model
) -> None:
    model.replies(*texts, finish=finish)
    done = edit(repository, model, "values.py", "--diff")
    assert done.returncode == code, said(done)


def test_what_was_not_applied_is_shown_in_full(repository: Path, model: Model) -> None:
    model.replies(block(3), MISQUOTED)
    done = edit(repository, model, "values.py", "--apply")
    assert done.returncode == 1
    assert (repository / "values.py").read_text() == edited(3)
    printed = done.stdout.decode().splitlines()
    assert {"-nothing like it", "+value_9 = 9"} <= set(printed)
    done = edit(repository, model, "values.py", "--diff")
    assert b"nothing like it" not in done.stdout
    assert b"+value_9 = 9" in done.stderr


# What is printed.


def test_without_apply_it_says_that_nothing_was_written(repository: Path, model: Model) -> None:
    done = edit(repository, model, "values.py")
    assert "Nothing was written; --apply writes the result to the files." in said(done)
    assert "Nothing was written" not in said(edit(repository, model, "values.py", "--apply"))


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_characters_that_the_terminal_lacks_are_replaced(
    environment: dict[str, str], repository: Path, model: Model
) -> None:
    (repository / "ünï.py").write_text("# → „ß“ 🙂\n" + SOURCE, encoding="utf-8")
    model.replies("ünï.py\n" + block(0).removeprefix("values.py\n"))
    done = edit(repository, model, "ünï.py", "--apply", env=environment)
    assert done.returncode == 0, said(done)
    assert "value_0 = 00" in said(done)
    done = edit(repository, model, "no→where.py", env=environment)
    assert done.returncode == 2
    assert "No such file" in said(done)


@pytest.mark.parametrize("option", ["", "--diff", "--json"])
def test_an_output_that_takes_nothing_is_told_in_a_sentence(
    option: str, repository: Path, model: Model
) -> None:
    with Path("/dev/full").open("wb") as full:
        options = [option] if option else []
        done = edit(repository, model, "values.py", *options, stdout=full)
        assert done.returncode == 1
        assert said(done).endswith("The output cannot be written: No space left on device.")
        # The edit does not depend on who reads about it, and what was written is said.
        done = edit(repository, model, "values.py", "--apply", *options, stdout=full)
    assert done.returncode == 1
    assert f"No space left on device. written: {repository / 'values.py'}" in said(done)
    assert (repository / "values.py").read_text() == edited(3)


@pytest.mark.parametrize("option", ["", "--diff", "--json"])
def test_a_reader_that_went_away_ends_it_quietly(option: str, repository: Path, model: Model) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:  # noqa: PTH123
        done = edit(repository, model, "values.py", "--apply", *filter(None, [option]), stdout=pipe)
    assert "written" not in said(done) or option
    assert "cannot be written" not in said(done)
    assert (repository / "values.py").read_text() == edited(3)


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_streams_that_are_closed(closed: tuple[int, ...], repository: Path, model: Model) -> None:
    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    done = edit(repository, model, "values.py", "--apply", preexec_fn=close)
    assert done.returncode == 0, said(done)
    assert (repository / "values.py").read_text() == edited(3)


def test_ctrl_c_while_the_model_writes_says_that_nothing_was_written(repository: Path, model: Model) -> None:
    process: list[subprocess.Popen[bytes]] = []
    model.replies(block(3), meanwhile=lambda: process[0].send_signal(signal.SIGINT))
    environment = {**os.environ, "SINGLEPASS_CONFIG_DIR": str(model.config)}
    process.append(
        subprocess.Popen(
            command("values.py", "--apply"),
            cwd=repository,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    )
    output, errors = process[0].communicate(timeout=60)
    assert process[0].returncode == 2
    assert b"Cancelled; nothing was written" in output
    assert b"Traceback" not in errors
    assert (repository / "values.py").read_text() == SOURCE


# On a terminal.


@pytest.mark.parametrize(("n_rows", "n_columns"), [(8, 60), (5, 24), (2, 40), (30, 1)])
def test_a_diff_that_is_taller_than_the_terminal_is_printed_whole_and_once(
    n_rows: int, n_columns: int, repository: Path, model: Model
) -> None:
    """Nothing of the drawing is left, whatever scrolled out while it grew."""
    source = "".join(f"value_{n} = {n}\n" for n in range(40))
    (repository / "values.py").write_text(source)
    long = "  # " + "a long line that is wrapped, " * 5
    blocks = [block(n).replace(f"= {n}0\n", f"= {n}0{long if n % 5 != 1 else ''}\n") for n in range(40)]
    model.replies(*blocks)
    plain = edit(repository, model, "values.py", "--diff").stdout.decode()
    environment = {**os.environ, "SINGLEPASS_CONFIG_DIR": str(model.config)}
    code, rows = run_in_terminal(command("values.py"), n_rows, n_columns, cwd=repository, env=environment)
    assert code == 0
    shown, _, rest = "".join(row.ljust(n_columns)[:n_columns] for row in rows).partition(
        "Nothing was written"
    )
    wrapped = [
        line[start : start + n_columns].ljust(n_columns)
        for line in plain.splitlines()
        for start in range(0, max(1, len(line)), n_columns)
    ]
    assert shown.rstrip() == "".join(wrapped).rstrip()
    assert "40 hunks applied" in rest

"""Lines that are not part of a file: they belong to the format of a reply, or address its reader.

Some are recognized anywhere (`of_a_format`). Others look like code, and are recognized only as the first or
last line of a text, where code does not have such lines (`at_a_border`).
"""

import re

from singlepass.core.grammar import SMALLEST_MARKER
from singlepass.core.replies.end_tokens import last_token
from singlepass.core.replies.paths import is_source
from singlepass.core.replies.sections import element_path

PROSE = (".md", ".markdown", ".mdx", ".rst", ".adoc", ".txt", ".qmd", ".rmd", ".tex", ".org")
"""Extensions of text files, in which fences and dots are ordinary text."""
_MARKUP = (
    *(
        ".html",
        ".htm",
        ".xml",
        ".svg",
        ".xhtml",
        ".vue",
        ".svelte",
        ".csproj",
        ".xaml",
        ".plist",
        ".php",
        ".erb",
    ),
    *(".ejs", ".hbs", ".jinja", ".jinja2", ".j2", ".njk", ".liquid", ".astro", ".twig", ".cshtml", ".razor"),
)
_TAGS_IN_CODE = (".js", ".jsx", ".mjs", ".ts", ".tsx", ".dart", ".kt", ".scala", ".cs")
_DATA = (".yml", ".yaml", ".json", ".toml", ".ini", ".cfg", ".erl")
_DASHES_ARE_COMMENTS = (".sql", ".lua", ".hs", ".elm")

_CLOSING_TAG = re.compile(
    r"</(file|document|source|search|replace|edit|answer|response|code|think|thinking|thought|reasoning|"
    r"tool_call|function_call|diff|patch|content|old|new|output|search_replace|instructions?)>"
)
_THOUGHT = re.compile(r"</?(?:think(?:ing)?|thought|reasoning)>")
_MARKER = re.compile(r"(?:<{5,}|>{5,}|\|{5,})(?:\s|$)")
_PATCH = re.compile(r"@@ -\d+|\*\*\* (?:Begin|End|Update|Add|Delete)\b|(?:---|\+\+\+) [ab]/\S")
_MARKER_WORD = re.compile(
    r"[\[<*=+\- ]*(?:SEARCH|REPLACE|DIVIDER|UPDATED|ORIGINAL)(?:[/ ](?:SEARCH|REPLACE|BLOCK))*[\]>*=+\-: ]*"
)
_RUN = re.compile(r"([=*~+_<>-])\1{2,}")
_END_WORD = re.compile(r"(?:END|EOF|BEGIN|START)(?:[ _]?OF[ _]?(?:FILE|CODE|BLOCK|EDIT))?")
_NEVER_END = (
    *(".py", ".pyi", ".js", ".jsx", ".mjs", ".ts", ".tsx", ".go", ".rs", ".c", ".h", ".cc", ".cpp", ".hpp"),
    *(".java", ".kt", ".cs", ".swift", ".css", ".scss", ".json"),
)
"""Extensions of languages in which no file ends with a word such as `END`."""
_LONE_TAG = re.compile(r"</?[A-Za-z_]+>|<!--.*-->|\]\]>")
_SENTENCE = re.compile(r"\*\*[A-Z][\w ]*:?\*\*|[A-Z`][\w'’`]*[:,]? [\w'’`.,;:()/ -]*[.!:]$")


def of_a_format(line: str, path: str) -> str:
    """A description of a line that is not part of a file, for messages; empty for other lines."""
    bare = line.strip()
    if token_in(line):
        return "a token that ends a message"
    if _CLOSING_TAG.fullmatch(bare):
        return "a tag of another format"
    if bare.startswith("<") and not path.casefold().endswith(_MARKUP) and element_path(bare):
        return "a tag of another format"
    if _THOUGHT.match(bare):
        return "a thought of the model"
    if _PATCH.match(line):
        return "a part of a diff"
    if line[0] == bare[0] and _MARKER_WORD.fullmatch(bare):
        return "a part of a marker"
    is_prose = path.casefold().endswith(PROSE)
    if _MARKER.match(bare) and not (is_prose and len(bare) - len(bare.lstrip("<>|")) < SMALLEST_MARKER):
        return "a marker"
    return ""


def at_a_border(line: str, path: str) -> str:
    """What a first or last line is with which code neither begins nor ends, in words; empty if it is none."""
    bare, ending = line.strip(), path.casefold()
    if _END_WORD.fullmatch(bare) and ending.endswith(_NEVER_END):
        return "a marker"
    if line[0] != bare[0] or not is_source(path) or ending.endswith((*PROSE, *_MARKUP, *_DATA)):
        return ""
    if _RUN.fullmatch(bare) and not (bare[0] == "-" and ending.endswith(_DASHES_ARE_COMMENTS)):
        return "a marker"
    if _LONE_TAG.fullmatch(bare) and not ending.endswith(_TAGS_IN_CODE):
        return "a tag of another format"
    return "a sentence for the reader" if is_sentence(line) else ""


def token_in(line: str) -> str:
    """The special token with which the line begins or ends; empty if there is none."""
    bare = line.strip()
    token = last_token(line)
    if token:
        return "" if token == "</s>" and "<s" in line else token
    head, end, _ = bare[:_MOST_CHARS].partition("|>")
    return head + end if end and head.startswith("<|") else ""


_MOST_CHARS = 40


def is_sentence(line: str) -> bool:
    """Whether an unindented line is a sentence of at least three words, or begins with bold text as in
    Markdown."""
    return len(line) < _MOST_SENTENCE and _SENTENCE.match(line) is not None and len(line.split()) > 2


_MOST_SENTENCE = 400

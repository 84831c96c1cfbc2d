"""Hypothesis strategies for texts that tend to break line handling."""

from hypothesis import strategies as st

EOLS = ("\n", "\r\n", "\r")

line_contents = st.text(alphabet="ab \t=<é\u2028\x0c\x85\U0001f600\ud800", max_size=4)
plain_lines = st.sampled_from(["a", "b", "a b", "", "  a", "\tb", "é", "\U0001f600", "x\u2028y", "\x0c"])


@st.composite
def texts(draw: st.DrawFn, contents: st.SearchStrategy[str] = line_contents, max_lines: int = 8) -> str:
    """Documents with any line ends, mixed or not, with and without a byte order mark and a final line end."""
    eols = draw(st.sampled_from([*((eol,) for eol in EOLS), EOLS]))
    lines = draw(st.lists(st.tuples(contents, st.sampled_from(eols)), max_size=max_lines))
    text = "".join(content + eol for content, eol in lines) + draw(contents | st.just(""))
    return draw(st.sampled_from(["", "", "\ufeff"])) + text

"""Addresses as people write them: each mistake is named with what was meant, and no secret is repeated."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from singlepass_backends import address
from singlepass_backends.base import BackendError, Target
from singlepass_backends.drivers.remote.servers import api_base
from singlepass_backends.opening import check_target

SECRET = "hunter2-0123456789"


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("localhost", "http://localhost"),
        ("localhost:11434", "http://localhost:11434"),
        ("  localhost:11434/ ", "http://localhost:11434/"),
        ("127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"),
        ("gpu_box:8080", "http://gpu_box:8080"),
        ("api.example.com/v1", "https://api.example.com/v1"),
        ("192.168.1.5:8080", "http://192.168.1.5:8080"),
        ("//localhost:1234", "http://localhost:1234"),
        (":11434", "http://localhost:11434"),
        ("11434", "http://localhost:11434"),
        ("::1:8080", "http://[::1]:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("fe80::1", "http://[fe80::1]"),
        ("htp://localhost:8080", "http://localhost:8080"),
        ("htps:/api.example.com", "https://api.example.com"),
        ("http:/localhost:8080", "http://localhost:8080"),
        ("http:localhost:8080", "http://localhost:8080"),
        ("http//localhost:8080", "http://localhost:8080"),
        ("http;//localhost:8080", "http://localhost:8080"),
        ("http:\\\\localhost:8080", "http://localhost:8080"),
        ("ws://localhost:8080", "http://localhost:8080"),
        ("ftp://host", "http://host"),
        ("file:///models/m.gguf", address.EXAMPLE),
    ],
)
def test_what_lacks_http_is_told_so_with_the_address_that_was_meant(url: str, meant: str) -> None:
    told = address.fault(url)
    assert "needs http:// or https:// in front" in told
    assert told.endswith(f"as in {meant}")
    assert not address.fault(meant)


@pytest.mark.parametrize(
    ("url", "reason", "meant"),
    [
        ("http://", "the name of a server", address.EXAMPLE),
        ("http://.", "the name of a server", address.EXAMPLE),
        ("http://:8080", "the name of a server", "http://localhost:8080"),
        ("http://one,two", "the name of a server", address.EXAMPLE),
        ("http://local host:8080", "without spaces", address.EXAMPLE),
        ("http:// localhost:8080", "without spaces", "http://localhost:8080"),
        ("http://local\nhost", "without spaces", address.EXAMPLE),
        ("http://{host}", "without spaces", address.EXAMPLE),
        ("http://http://localhost", "only once", "http://localhost"),
        ("http://::1:8080", "in brackets", "http://[::1]:8080"),
        ("http://2001:db8::1:80", "in brackets", "http://[2001:db8::1:80]"),
        ("http://[::1", "in brackets", address.EXAMPLE),
        ("http://[::1]x:80", "in brackets", address.EXAMPLE),
        ("http://[one]:80", "between the brackets", address.EXAMPLE),
        ("http://h:1:2", "one port at most", address.EXAMPLE),
        ("http://h:0", "from 1 to 65535", address.EXAMPLE),
        ("http://h:99999", "from 1 to 65535", address.EXAMPLE),
        ("http://h:port", "from 1 to 65535", address.EXAMPLE),
    ],
)
def test_other_mistakes_are_named(url: str, reason: str, meant: str) -> None:
    told = address.fault(url)
    assert reason in told
    assert told.endswith(f"as in {meant}")


@pytest.mark.parametrize(
    "url",
    [
        *("http://localhost:11434", "HTTP://LOCALHOST", " http://h ", "http://h:", "http://h/@cf/m"),
        *("https://api.example.com/v1", "http://[::1]:8080/", "http://[fe80::1%eth0]:80", "http://bücher.de"),
    ],
)
def test_what_can_be_used(url: str) -> None:
    assert not address.fault(url)
    check_target(Target(backend="openai_compatible", url=url))


@pytest.mark.parametrize(
    "url",
    [
        *(f"http://user:{SECRET}@h/v1", f"user:{SECRET}@h:8080", f"{SECRET}@h", f"http://u:{SECRET}/x@h"),
        *(f"https://h/v1?key={SECRET}", f"h:8080#{SECRET}", f"htp://h?{SECRET}"),
    ],
)
def test_no_secret_is_repeated(url: str) -> None:
    told = address.fault(url)
    assert told
    assert SECRET not in told


@given(st.text(alphabet="htps:/\\[]@?#.0123456789abl \n%,", max_size=24) | st.text(max_size=12))
def test_any_text_is_judged(url: str) -> None:
    """What passes has a server's name, and is the same however it is spelled."""
    if not address.fault(url):
        assert address.host(url)
        assert address.plain(address.plain(url)) == address.plain(url)
        assert not address.fault(address.plain(url))
        assert address.plain(api_base(url)[0]) == address.plain(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://H",
        "http://h/",
        "http://h:80/v1",
        "http://h/v1/",
        "HTTP://h/v1/chat/completions",
        " http://h: ",
    ],
)
def test_one_spelling_for_all_that_mean_the_same(url: str) -> None:
    assert address.plain(url) == "http://h/v1"
    assert address.plain(api_base(url)[0]) == "http://h/v1"


@pytest.mark.parametrize(
    ("target", "code", "message"),
    [
        (Target(backend="openai_compatible", url="  "), "no_model", "No server is set"),
        (Target(url="http://localhost:11434"), "no_model", 'set `backend = "openai_compatible"` too'),
        (Target(url="http://h", model="/no/such"), "model_missing", 'set `backend = "openai_compatible"`'),
    ],
)
def test_a_server_that_is_half_named(target: Target, code: str, message: str) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        check_target(target)
    assert caught.value.code == code

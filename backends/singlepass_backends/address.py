"""Server addresses as users write them: validation with advice, and normalization (sans-IO)."""

import ipaddress
import re
from urllib.parse import urlsplit

EXAMPLE = "http://localhost:11434"

_MAX_QUOTED = 200

_SCHEME = re.compile(r"https?://", re.IGNORECASE)
_ALMOST = re.compile(r"[a-z][\w+.-]*[:;][/\\]+|h?t+ps?[:;/\\]+|[/\\]+", re.IGNORECASE)
"""A misspelled scheme, or one other than http and https."""
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^\[\]:]*)(?::(?P<port>.*))?")
_NO_ADDRESS = re.compile(r"[\s<>\"{}|\\^`\x00-\x1f\x7f]")
_NO_NAME = re.compile(r"[%,;*!'()&$=+]")
_PORT = re.compile(r"[0-9]{1,5}")


def fault(url: str) -> str:
    """What is wrong with a server's address, as the predicate of a sentence; empty if it is valid. Parts that
    may contain a secret are not quoted."""
    url = url.strip()
    authority = _ALMOST.sub("", url, count=1).partition("/")[0]
    if "@" in authority:
        return (
            "holds a user or a password. Take them out, put the key into an environment variable and name "
            "that in `api_key_env`"
        )
    if "?" in url or "#" in url:  # some services take the API key there
        return (
            "has a part behind `?` or `#`. Take it out; if it is the key, put it into an environment "
            "variable and name that in `api_key_env`"
        )
    reason = _reason(url)
    if not reason:
        return ""
    quoted = "" if "@" in url else f"{url[:_MAX_QUOTED]!r}, which is "
    suggested = _suggested(url)
    example = suggested if suggested and not _reason(suggested) else EXAMPLE
    return f"is {quoted}not the address of a server: it {reason}, as in {example}"


def host(url: str) -> str:
    """The server's host name, in lower case; empty if there is none."""
    try:
        return urlsplit(url.strip()).hostname or ""
    except ValueError:
        return ""


def plain(url: str) -> str:
    """The address in a normal form, the same for all spellings of one API base
    (`drivers.remote.servers.api_base`): scheme and name in lower case, without the default port and without
    the path that is added anyway."""
    parts = urlsplit(url.strip().rstrip("/").removesuffix("/chat/completions"))
    port = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    authority = parts.netloc.lower().removesuffix(":")
    authority = authority.removesuffix(port) if port else authority
    return parts._replace(netloc=authority, path=parts.path or "/v1").geturl()


def _reason(url: str) -> str:
    """What an address without secrets needs, as a predicate; empty if it is valid."""
    if not _SCHEME.match(url):
        return "needs http:// or https:// in front"
    if _NO_ADDRESS.search(url):
        return "needs http:// or https:// and a name, without spaces or other characters that no address has"
    rest = _SCHEME.sub("", url, count=1)
    authority, _, path = rest.partition("/")
    if not authority.strip(".:"):
        return "needs the name of a server behind http:// or https://"
    if authority.rstrip(":").lower() in ("http", "https") and path.startswith("/"):
        return "needs http:// or https:// in front only once"
    found = _AUTHORITY.fullmatch(authority)
    if found is None or (":" in (found["port"] or "") and not found["host"].startswith("[")):
        return "needs an IPv6 address in brackets behind http:// or https://, and one port at most"
    name, port = found["host"], found["port"]
    if name.startswith("["):
        if not _is_ip(name[1:-1]):
            return "needs an IPv6 address between the brackets"
    elif not name.strip(".") or _NO_NAME.search(name):
        return "needs the name of a server behind http:// or https://"
    if port and not (_PORT.fullmatch(port) and 0 < int(port) < 65_536):
        return "needs a port from 1 to 65535, or none"
    return ""


def _suggested(url: str) -> str:
    """The address that was probably meant; may be invalid as well."""
    rest = url
    while found := _ALMOST.match(rest):
        rest = rest[found.end() :]
    rest = rest.strip()
    if not rest or url.lower().startswith(("file:", "unix:")):
        return ""
    if rest.lstrip(":").isdecimal():
        rest = f"localhost:{rest.lstrip(':')}"
    authority, slash, path = rest.partition("/")
    if authority.count(":") > 1 and "[" not in authority:
        authority = _bracketed(authority)
    name = authority.partition(":")[0]
    is_near = "." not in name or _is_ip(name)  # local servers mostly have no TLS
    scheme = "https" if url.lower().startswith(("https", "htps")) or not is_near else "http"
    return f"{scheme}://{authority}{slash}{path}"


def _bracketed(address: str) -> str:
    """An IPv6 address, possibly with a port, in the form for URLs."""
    before, _, last = address.rpartition(":")
    # `::1:8080` is ambiguous. Four or five digits at the end are mostly meant as a port.
    if _is_ip(before) and _PORT.fullmatch(last) and (len(last) >= 4 or not _is_ip(address)):
        return f"[{before}]:{last}"
    return f"[{address}]"


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True

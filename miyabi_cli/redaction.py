"""Secret values that are known, and taking them out of what is logged, shown or sent to a model."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote

T = TypeVar("T")
Secret = tuple[str, str]  # its name, and the value

SHORTEST = 8  # characters; a shorter value may be a word that means no secret elsewhere
SURELY_RANDOM = 16  # a value of so many is taken for a secret whatever it is made of
WHOLE_BELOW = 24  # of a longer value a half is taken out too: it is what is left where a text was cut

SECRET_NAME = re.compile(  # of a variable, in upper case
    r"(?:^|_|API|ACCESS|SECRET|PRIVATE|AUTH|MASTER)KEYS?$|TOKEN|SECRET|PASSWO?R?D|PASSWD|PASSPHRASE|CREDENTIAL"
    r"|_PASS$|_PWD$|_PAT$|_AUTH$|^AUTH_|AUTHORI[SZ]ATION|COOKIE"
)
# A name like these tells where a secret is, or how long it may be, and not what it is.
_NO_NAME = re.compile(r"_(?:FILE|PATH|DIR|ID|NAME|URL|URI|ENDPOINT|LIMIT|TTL|COUNT|TYPE|COMMAND|CMD|SOCK)$|^PATH$")
_IN_URL = re.compile(r"://([^/\s:@]*):([^/\s@]+)@|://([^/\s:@]{16,})@")
_ODD = re.compile(r"[^A-Za-z0-9_.*@ -]")


@dataclass(frozen=True, slots=True)
class _Form:
    """One way in which a secret is written; `head` and `tail` are what it is looked for by."""

    name: str
    text: str
    head: str
    tail: str


@dataclass(frozen=True, slots=True)
class Redactor:
    """Takes known values out of text: plain, URL-encoded, in JSON and in base64, each for `[secret: NAME]`.

    Where a long value was cut, the half that is left goes too. Where nothing is found it costs one search for each
    form: 18 ms for a megabyte and ten keys.
    """

    forms: tuple[_Form, ...] = ()

    def redact(self, text: str) -> str:
        """Return the text without the values; the text itself where it holds none."""
        spans = list(self._spans(text))
        return _without(text, spans) if spans else text

    def names_in(self, text: str) -> tuple[str, ...]:
        """Return the names of the secrets that a text holds."""
        return tuple(dict.fromkeys(name for _, _, name in self._spans(text)))

    def redact_data(self, data: T) -> T:
        """Return data (records, maps, lists, texts) with each of its texts redacted, keys too."""
        return self._redacted(data) if self.forms else data

    def _redacted(self, data: Any) -> Any:
        if isinstance(data, str):
            return self.redact(data)
        if isinstance(data, tuple | list):
            return type(data)(map(self._redacted, data))
        if isinstance(data, dict):
            return {self._redacted(key): self._redacted(value) for key, value in data.items()}
        if dataclasses.is_dataclass(data) and not isinstance(data, type):
            old = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
            new = {name: self._redacted(value) for name, value in old.items()}
            changed = {name: value for name, value in new.items() if value is not old[name] and value != old[name]}
            return dataclasses.replace(data, **changed) if changed else data
        return data

    def _spans(self, text: str) -> Iterator[tuple[int, int, str]]:
        for form in self.forms:
            at = text.find(form.head)
            while at >= 0:
                end = at + _alike(text[at : at + len(form.text)], form.text)
                yield at, end, form.name
                at = text.find(form.head, end)
            at = text.find(form.tail) if form.tail != form.head else -1
            while at >= 0:
                end = at + len(form.tail)
                start = max(0, end - len(form.text))
                yield end - _alike(text[start:end][::-1], form.text[::-1]), end, form.name
                at = text.find(form.tail, end)


NO_SECRETS = Redactor()


def redactor_of(*sources: Iterable[Secret]) -> Redactor:
    """Return a redactor; what is too short or too common to be a secret is left out."""
    named: dict[str, str] = {}
    for name, value in (secret for source in sources for secret in source):
        if _is_telling(value) and not _is_place(value):
            for text in (value, *_long_lines(value)):
                named.setdefault(text, _ODD.sub("_", name))
    forms = {form.text: form for value, name in named.items() for form in reversed(tuple(_forms(name, value)))}
    return Redactor(tuple(sorted(forms.values(), key=lambda form: -len(form.text))))


def secrets_in_environment(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the values of variables whose names say that they are secret, and the passwords in URLs."""
    named = [(name, value.strip()) for name, value in environ.items() if _is_secret_name(name) and "://" not in value]
    in_urls = [(name, secret) for name, value in environ.items() for secret in secrets_in_url(value)]
    return (*named, *in_urls)


def _is_secret_name(name: str) -> bool:
    return bool(SECRET_NAME.search(name.upper())) and not _NO_NAME.search(name.upper())


def secrets_in_url(text: str) -> tuple[str, ...]:
    """Return the passwords and tokens that stand before the host of URLs, as they are written and as they are meant."""
    found = [match[2] or match[3] for match in _IN_URL.finditer(text)]
    return tuple(dict.fromkeys(form for secret in found for form in (unquote(secret), secret)))


def secrets_in_header(header: str) -> tuple[str, ...]:
    """Return what a header's line carries behind its scheme, and what is the password in that of `basic` (RFC 7617)."""
    *before, given = header.split() or [""]
    if not before or before[-1].lower() != "basic":
        return (given,)
    try:
        password = base64.b64decode(given, validate=True).decode().partition(":")[2]
    except ValueError:
        password = ""
    return (given, password) if password else (given,)


def _long_lines(value: str) -> Iterator[str]:
    """Yield the lines of a value of several, a private key's say, each of which may be shown alone."""
    lines = value.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line) >= WHOLE_BELOW and len(line.split()) == 1)


def _is_telling(value: str) -> bool:
    """Say whether a value is so unlike a word that taking it out everywhere does no harm."""
    if len(value) < SHORTEST or len(set(value)) < SHORTEST // 2:
        return False
    if len(value) >= SURELY_RANDOM:
        return True
    return any(letter.isdigit() for letter in value) and not value.isdigit()


def _is_place(value: str) -> bool:
    """Say whether a value names a file that is there: of a key, say, whose path is no secret."""
    if not value.startswith(("/", "~", ".")) or len(value) > 4096:
        return False
    try:
        return Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _forms(name: str, value: str) -> Iterator[_Form]:
    """Yield a value as it is, and as URLs, JSON and base64 write it."""
    escaped = json.dumps(value)[1:-1]
    encoded = quote(value, safe="")
    texts = [value, escaped, escaped.replace("/", "\\/"), encoded, re.sub("%..", lambda code: code[0].lower(), encoded)]
    texts += [json.dumps(value, ensure_ascii=False)[1:-1], value.replace("\n", "\\n"), *_in_base64(value)]
    for text in dict.fromkeys(texts):
        if len(text) >= SHORTEST:
            part = len(text) if len(text) < WHOLE_BELOW else len(text) // 2
            yield _Form(name, text, text[:part], text[-part:])


def _in_base64(value: str) -> Iterator[str]:
    """Yield what base64 makes of a value wherever it stands in the encoded text: at three offsets, in two alphabets.

    The letters at either end that depend on the neighbours are left out (RFC 4648, sections 4 and 5).
    """
    data = value.encode("utf-8", "replace")
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + data).decode()
        inner = text[-(-offset * 8 // 6) : (offset + len(data)) * 8 // 6]
        yield inner
        yield inner.replace("+", "-").replace("/", "_")


def _alike(text: str, other: str) -> int:
    """Return the length of the beginning that two texts share."""
    for position, (letter, its) in enumerate(zip(text, other, strict=False)):
        if letter != its:
            return position
    return min(len(text), len(other))


def _without(text: str, spans: list[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    done = 0
    for start, end, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        if end <= done:
            continue
        if start >= done:
            parts += [text[done:start], f"[secret: {name}]"]
        done = end
    return "".join([*parts, text[done:]])

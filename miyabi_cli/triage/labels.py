"""The labels that triage may give: the built-in scheme, a file's or a repository's, matched by text, not emoji."""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from miyabi_cli.errors import MachineError, SettingsError
from miyabi_cli.github.issues import Label

LARGEST_FILE = 1 << 20  # bytes
MOST_LABELS = 1_000
MOST_OFFERED = 60  # that a model may choose from, beside those that say the type, the severity and so on
LONGEST_NAME = 100  # GitHub takes 50
SEVERITIES = ("Sev.1", "Sev.2", "Sev.3", "Sev.4", "Sev.5")
PRIORITIES = ("P0", "P1", "P2", "P3")
TYPES = ("bug", "feature", "refactor", "docs", "test", "deployment", "question")

# Of the built-in scheme triage gives these categories, and of the others these labels by their text.
GIVEN_CATEGORIES = frozenset({"type", "severity", "priority", "community"})
GIVEN_LABELS = frozenset({"security", "duplicate", "state pending"})
_LEADS = frozenset({"type", "kind", "t", "severity", "priority", "state", "status", "category", "community", "triage"})

# What a label that means something may be called, by its text (`text_of`): with or without the word that leads it.
_SAME: Mapping[str, tuple[str, ...]] = {
    "bug": ("bug", "defect", "bug report"),
    "feature": ("feature", "enhancement", "feature request", "new feature", "improvement"),
    "refactor": ("refactor", "refactoring", "cleanup", "tech debt", "technical debt", "chore"),
    "docs": ("docs", "documentation", "doc"),
    "test": ("test", "tests", "testing"),
    "deployment": ("deployment", "ci", "ci cd", "infrastructure", "infra", "build", "release"),
    "question": ("question", "support", "help", "usage question"),
    "Sev.1": ("sev 1 critical", "sev 1", "sev1", "s1", "severity critical", "blocker"),
    "Sev.2": ("sev 2 high", "sev 2", "sev2", "s2", "severity high", "severity major"),
    "Sev.3": ("sev 3 medium", "sev 3", "sev3", "s3", "severity medium", "severity moderate"),
    "Sev.4": ("sev 4 low", "sev 4", "sev4", "s4", "severity low", "severity minor"),
    "Sev.5": ("sev 5 trivial", "sev 5", "sev5", "s5", "severity trivial"),
    "P0": ("p0 critical", "p0", "priority critical", "priority urgent"),
    "P1": ("p1 high", "p1", "priority high"),
    "P2": ("p2 medium", "p2", "priority medium", "priority normal"),
    "P3": ("p3 low", "p3", "priority low"),
    "security": ("security", "vulnerability"),
    "duplicate": ("duplicate", "duplicated"),
    "pending": ("state pending", "needs triage", "triage", "untriaged", "status needs triage", "pending"),
}


def text_of(name: str) -> str:
    """Return a label's text: small letters and digits, one space for all that stands between them; no emoji."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in folded).split())


def _bare(name: str) -> str:
    """Return a label's name without the emoji that lead it."""
    start = next((at for at, letter in enumerate(name) if letter.isalnum()), 0)
    return name[start:].strip()


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The labels that may be given, by their text."""

    labels: Mapping[str, Label]
    meanings: Mapping[str, str] = field(default_factory=dict)

    def meaning(self, what: str) -> str | None:
        """Return the name of the label for a type, a severity, a priority, security, duplicate or pending."""
        if what == "Sev.5" and what not in self.meanings:
            # the lowest of a scale; one label alone is none
            scale = [one for one in SEVERITIES if one in self.meanings]
            what = scale[-1] if len(scale) > 1 else what
        return self.meanings.get(what)

    def find(self, text: str) -> str | None:
        """Return the name of the label that a text means, whatever emoji stand in either."""
        found = self.labels.get(text_of(text))
        return found.name if found else None

    @property
    def others(self) -> list[str]:
        """Return the labels that a model may choose from, without emoji: those that no field of the result says."""
        said = set(self.meanings.values())
        return [_bare(label.name) for label in self.labels.values() if label.name not in said][:MOST_OFFERED]


def vocabulary_of(labels: Iterable[Label]) -> Vocabulary:
    """Return what may be given of labels: never what starts agents (`trigger:`), and of a state only that of waiting.

    Labels of the built-in scheme that triage does not give are left out by their text, whoever has them.
    """
    kept: dict[str, Label] = {}
    for label in labels:
        text = text_of(label.name)
        if text and text not in kept and len(kept) < MOST_LABELS and _may_be_given(text) and _is_plain(label.name):
            kept[text] = label
    found = {what: name for what in _SAME if (name := _meant(what, kept))}
    return Vocabulary(kept, found)


def _may_be_given(text: str) -> bool:
    return text.split()[0] != "trigger" and text not in _withheld()


@functools.cache
def _withheld() -> frozenset[str]:
    """Return the texts of the scheme's labels that triage does not give."""
    return frozenset(
        text
        for entry in scheme_entries()
        if entry["category"] not in GIVEN_CATEGORIES and (text := text_of(entry["name"])) not in GIVEN_LABELS
    )


def _meant(what: str, labels: Mapping[str, Label]) -> str | None:
    for wanted in _SAME[what]:
        for text, label in labels.items():
            lead, _, rest = text.partition(" ")
            if text == wanted or (lead in _LEADS and rest == wanted):
                return label.name
    return None


def read_vocabulary(path: Path | None) -> Vocabulary:
    """Return the labels of a file, of the built-in scheme for None. Raises SettingsError, MachineError."""
    return vocabulary_of(scheme_labels() if path is None else labels_in(path))


@functools.cache
def scheme_entries() -> tuple[dict[str, str], ...]:
    """Return the built-in scheme's 57 labels: name, color, description and category each."""
    import yaml

    text = resources.files("miyabi_cli.triage").joinpath("labels.yml").read_text("utf-8")
    return tuple(yaml.safe_load(text))


def scheme_labels() -> list[Label]:
    """Return the labels of the built-in scheme."""
    return [Label(entry["name"], entry["color"], entry["description"]) for entry in scheme_entries()]


def labels_in(path: Path) -> list[Label]:
    """Return the labels of a YAML or JSON file: names, or objects with a name. Raises SettingsError, MachineError."""
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise MachineError(f"can't read {path}: {error.strerror}", hint="--labels FILE") from None
    hint = 'a list of names, or of objects such as {"name": "bug", "color": "d73a4a", "description": "…"}'
    if len(data) > LARGEST_FILE:
        raise SettingsError(f"{path} is larger than {LARGEST_FILE:,} bytes", hint=hint)
    try:
        text = data.decode("utf-8-sig")
        # YAML does not put the two halves of an escaped emoji together, as JSON writes it
        found = json.loads(text) if text.lstrip()[:1] in ("[", "{") and _is_json(text) else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise SettingsError(f"{path} is neither YAML nor JSON", hint=hint) from None
    if isinstance(found, dict):
        found = found.get("labels")
    labels = [_label(entry) for entry in found] if isinstance(found, list) else []
    if not labels or None in labels:
        raise SettingsError(f"{path} is no list of labels", hint=hint)
    return [label for label in labels if label]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _label(entry: Any) -> Label | None:
    if isinstance(entry, str):
        entry = {"name": entry}
    name = entry.get("name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not text_of(name) or not _is_plain(name):
        return None
    color = str(entry.get("color") or "").removeprefix("#")
    is_color = re.fullmatch("[0-9A-Fa-f]{6}", color) is not None
    return Label(name, color if is_color else "", str(entry.get("description") or ""))


def _is_plain(name: str) -> bool:
    """Say whether a name is short and has no controls; what joins and picks emoji is none."""
    return len(name) <= LONGEST_NAME and all(letter.isprintable() or letter in "\u200d\ufe0f" for letter in name)

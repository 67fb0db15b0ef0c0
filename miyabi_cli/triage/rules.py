"""Triage by rules alone: learnt words for bug, feature and question, and phrases for all else; deterministic."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from miyabi_cli.triage.features import features_of, prose_of
from miyabi_cli.triage.issue import TriageIssue
from miyabi_cli.triage.learning import Weights, shares_of
from miyabi_cli.triage.quotes import line_around
from miyabi_cli.triage.row import TYPES, Evidence, Impact, IssueType, Owner, Priority, Severity

MOST_EVIDENCE = 3
SCANNED = 20_000  # characters of a body
LEAST_QUOTE = 6  # letters of a word with its lead

_IMPACTS: Mapping[Severity, Impact] = {
    "Sev.1": "critical", "Sev.2": "high", "Sev.3": "medium", "Sev.4": "low", "Sev.5": "low",
}  # fmt: skip
_PRIORITIES: Mapping[Severity, Priority] = {"Sev.1": "P0", "Sev.2": "P1", "Sev.3": "P2", "Sev.4": "P3", "Sev.5": "P3"}
_SEVERITIES: Mapping[IssueType, Severity] = {
    "bug": "Sev.3", "deployment": "Sev.3", "feature": "Sev.4", "refactor": "Sev.4", "test": "Sev.4", "docs": "Sev.4",
    "question": "Sev.5",
}  # fmt: skip
_OWNERS: Mapping[IssueType, Owner] = {"feature": "PO", "refactor": "TechLead", "deployment": "DevOps"}
_MINUTES: Mapping[IssueType, int] = {
    "bug": 60, "feature": 120, "refactor": 90, "docs": 30, "test": 45, "deployment": 60, "question": 15,
}  # fmt: skip
_DEPENDS = re.compile(
    r"(?i)\b(?:depends on|blocked by|requires|waits for|after)[: ]{1,3}((?:#\d{1,9}(?:, ?| and )?){1,10})"
)
_STEPS = re.compile(r"(?i)\b(?:steps|reproduc\w{1,8}|repro|example|snippet|```)")
_VERSION = re.compile(r"(?i)\bversion|\bv?\d{1,4}\.\d{1,4}")
_EXPECTED = re.compile(r"(?i)\bexpect\w{0,8}|\bshould\b|\binstead\b")


@dataclass(frozen=True, slots=True)
class Phrases:
    """Phrases, and what each adds: `title` and `body` in logarithms of odds, or to which level it lifts."""

    pattern: re.Pattern[str]
    title: float
    body: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Weights for what was learnt; phrases for the other types, for severities and for security."""

    weights: Weights
    types: Mapping[IssueType, Phrases]
    severities: Mapping[Severity, re.Pattern[str]]
    security: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What rules say of an issue. `shares` are the probabilities of its types, the most probable first."""

    shares: Mapping[IssueType, float]
    severity: Severity
    security: bool
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()
    dependencies: tuple[int, ...] = field(default=())

    @property
    def type(self) -> IssueType:
        """Return the most probable type."""
        return next(iter(self.shares))


@functools.cache
def shipped_rules() -> Rules:
    """Return the rules that come with miyabi: `weights.json`, which is learnt, and `phrases.yml`, which is not."""
    data = json.loads(resources.files("miyabi_cli.triage").joinpath("weights.json").read_text("utf-8"))
    words = {name: tuple(weights) for name, weights in data["weights"].items()}
    return rules_of(Weights(tuple(data["classes"]), tuple(data["bias"]), words, data["temperature"]), shipped_phrases())


def shipped_phrases() -> Mapping[str, Any]:
    """Return what `phrases.yml` holds."""
    import yaml

    phrases: Mapping[str, Any] = yaml.safe_load(
        resources.files("miyabi_cli.triage").joinpath("phrases.yml").read_text("utf-8")
    )
    return phrases


def rules_of(weights: Weights, phrases: Mapping[str, Any]) -> Rules:
    """Return rules of weights and of phrases, as `phrases.yml` has them."""
    types = {
        name: Phrases(_any_of(one["phrases"]), float(one["title"]), float(one["body"]))
        for name, one in phrases["types"].items()
    }
    severities = {name: _any_of(found) for name, found in phrases["severities"].items()}
    return Rules(weights, types, severities, _any_of(phrases["security"]))


def _any_of(phrases: Iterable[object]) -> re.Pattern[str]:
    """Return a pattern for whole words and phrases; a `*` at a word's end stands for any end."""
    forms = (re.escape(str(one)).replace(r"\*", r"\w{0,12}").replace(r"\ ", r"[\s-]{1,3}") for one in phrases)
    return re.compile(rf"(?i)(?<!\w)(?:{'|'.join(forms)})(?!\w)")


def judge(issue: TriageIssue, rules: Rules, among: Collection[IssueType] | None = None) -> Judgement:
    """Return what rules say of an issue; `among`: no other types are asked for."""
    prose = prose_of(issue.body)
    shares = _shares(issue, prose, rules, among)
    kind = next(iter(shares))
    security = _match(rules.security, issue, prose)
    severity, shown = _severity(kind, issue, prose, rules)
    evidence = [found for found in (type_evidence(kind, issue, rules), shown, security) if found]
    return Judgement(
        shares,
        severity,
        security is not None,
        tuple(dict.fromkeys(evidence))[:MOST_EVIDENCE],
        tuple(_missing(kind, issue.body[:SCANNED])),
        dependencies_of(issue),
    )


def _shares(
    issue: TriageIssue, prose: str, rules: Rules, among: Collection[IssueType] | None
) -> dict[IssueType, float]:
    """Return the probability of each type; those that were not learnt have their odds of phrases alone."""
    learnt = rules.weights.scores(features_of(issue.title, issue.body))
    scores = {name: score for name, score in zip(rules.weights.classes, learnt, strict=True) if name in TYPES}
    for name, phrases in rules.types.items():
        found_title, found_body = phrases.pattern.search(issue.title), phrases.pattern.search(prose)
        score = -4.0 + (phrases.title if found_title else 0) + (phrases.body if found_body else 0)
        scores[name] = max(scores.get(name, score), score)
    wanted = [name for name in scores if among is None or name in among] or list(scores)
    shares = shares_of([scores[name] for name in wanted])
    found = sorted(zip(wanted, shares, strict=True), key=lambda pair: -pair[1])
    return dict(found)


def _severity(kind: IssueType, issue: TriageIssue, prose: str, rules: Rules) -> tuple[Severity, Evidence | None]:
    """Return the gravest severity of which a phrase speaks, where the issue is of a fault; else that of its type."""
    for name, pattern in rules.severities.items() if kind in ("bug", "deployment") else ():
        if found := _match(pattern, issue, prose):
            return name, found
    return severity_of(kind), None


def _match(pattern: re.Pattern[str], issue: TriageIssue, prose: str) -> Evidence | None:
    if found := pattern.search(issue.title):
        return Evidence("title", line_around(issue.title, *found.span()))
    if (found := pattern.search(prose)) and (start := issue.body.find(found[0])) >= 0:
        return Evidence("body", line_around(issue.body, start, start + len(found[0])))
    return None


def type_evidence(kind: IssueType, issue: TriageIssue, rules: Rules) -> Evidence | None:
    """Return the words that speak most for a type: of its phrases, else of what was learnt."""
    if (phrases := rules.types.get(kind)) and (found := _match(phrases.pattern, issue, issue.body[:SCANNED])):
        return found
    if kind not in rules.weights.classes:
        return None
    place = rules.weights.classes.index(kind)
    weights = rules.weights.weights
    known = [name for name in features_of(issue.title, issue.body) if name in weights]
    words = [name for name in known if name[0] in "tb" and len(name) >= LEAST_QUOTE]
    for name in sorted(words, key=lambda name: (-weights[name][place] * (3 if name[0] == "t" else 1), name))[:20]:
        where = "title" if name[0] == "t" else "body"
        pattern = r"[^\w\n]{1,3}".join(map(re.escape, name[2:].split(" ")))
        if weights[name][place] > 0 and (seen := re.search(rf"(?i)\b{pattern}\b", issue.text_of(where)[:SCANNED])):
            return Evidence("title" if where == "title" else "body", line_around(issue.text_of(where), *seen.span()))
    return None


def _missing(kind: IssueType, body: str) -> Iterable[str]:
    if not body.strip():
        yield "a description"
        return
    for pattern, what in ((_STEPS, "steps to reproduce"), (_VERSION, "version"), (_EXPECTED, "expected behaviour")):
        if kind == "bug" and not pattern.search(body):
            yield what


def dependencies_of(issue: TriageIssue) -> tuple[int, ...]:
    """Return the numbers of the issues on which this one says that it depends."""
    found = [int(number) for group in _DEPENDS.findall(issue.body[:SCANNED]) for number in re.findall(r"\d+", group)]
    return tuple(number for number in dict.fromkeys(found) if number not in (0, issue.number))[:20]


def severity_of(kind: IssueType) -> Severity:
    """Return the severity of an issue of which nothing else is known."""
    return _SEVERITIES[kind]


def impact_of(severity: Severity) -> Impact:
    return _IMPACTS[severity]


def priority_of(severity: Severity) -> Priority:
    return _PRIORITIES[severity]


def owner_of(kind: IssueType, severity: Severity, *, security: bool) -> Owner:
    """Return the role that an issue is for; what is grave or touches security goes to those who answer for it."""
    if security:
        return "CISO"
    return "TechLead" if severity == "Sev.1" else _OWNERS.get(kind, "Developer")


def minutes_of(kind: IssueType, severity: Severity) -> int:
    """Return a first estimate of the work, in minutes."""
    return _MINUTES[kind] * (2 if severity in ("Sev.1", "Sev.2") else 1)

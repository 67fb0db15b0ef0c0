"""One issue's row: by the model and checked, else by rules; with the labels that follow from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from miyabi_cli.errors import MiyabiError, ProviderError
from miyabi_cli.llm.calling import call_at_cost
from miyabi_cli.llm.provider import Provider
from miyabi_cli.messages import Effort
from miyabi_cli.triage.asking import SMALL_WINDOW, Example, messages_of, sampling_of, triage_function
from miyabi_cli.triage.issue import TriageIssue
from miyabi_cli.triage.labels import Vocabulary
from miyabi_cli.triage.likeness import Like, Likeness
from miyabi_cli.triage.quotes import checked_evidence
from miyabi_cli.triage.row import TYPES, Duplicate, IssueType, Row
from miyabi_cli.triage.rules import (
    Judgement,
    Rules,
    impact_of,
    judge,
    minutes_of,
    owner_of,
    priority_of,
    severity_of,
    type_evidence,
)
from miyabi_cli.triage.texts import error_data, line_of, summary_of
from miyabi_cli.triage.weighing import with_examples, with_word

MOST_DUPLICATES = 5
CANDIDATE = 0.3  # likeness from which a model is asked whether it is the same issue
LISTED = 0.5  # likeness from which rules name it
SAME = 0.8  # likeness from which it is said to be the same
EXAMPLES = 4  # that a model is shown
NEIGHBOURS = 9  # whose labels count
# How often a model names the type rightly. The first is a guess, between the rules (0.62) and what is published for
# trained models; a small one's word, 24 of 60 times right on three types, is a witness beside the rules.
MODEL_ACCURACY = 0.7
SMALL_MODEL_ACCURACY = 0.4
# What is no single issue's failure: so many in a row, and the model is not asked any more.
COMMON = frozenset({"provider_unreachable", "provider_refused", "provider_overloaded", "budget"})
MOST_IN_A_ROW = 3


@dataclass(slots=True)
class Triager:
    """What an issue is triaged with. Without a `provider` rules do it, and `failure` says why if it was asked for.

    `among`: the types that may be said. `index` holds the issues that one may be a duplicate of.
    """

    rules: Rules
    vocabulary: Vocabulary
    threshold: float
    provider: Provider | None = None
    failure: MiyabiError | None = None
    effort: Effort | None = None
    index: Likeness | None = None
    examples: Likeness | None = None
    among: Sequence[IssueType] = TYPES
    _in_a_row: int = field(default=0, init=False)

    async def triage(self, issue: TriageIssue) -> Row:
        """Return an issue's row, always. What a provider's failure costs is in its usage."""
        judgement = judge(issue, self.rules, self.among)
        similar = self.examples.find(issue, NEIGHBOURS) if self.examples else []
        judgement = replace(judgement, shares=with_examples(judgement.shares, [one.label for one in similar]))
        likes = self.index.find(issue, MOST_DUPLICATES, least=CANDIDATE) if self.index else []
        by_rules = self._by_rules(issue, judgement, likes)
        if self.provider is None or self._in_a_row >= MOST_IN_A_ROW:
            return by_rules if self.failure is None else replace(by_rules, error=error_data(self.failure))
        try:
            row = await self._by_model(issue, judgement, likes, similar, by_rules, self.provider)
        except ProviderError as error:
            self._note(error)
            return replace(by_rules, error=error_data(error), usage=error.usage)
        self._in_a_row = 0
        return row

    def _note(self, error: ProviderError) -> None:
        self._in_a_row = self._in_a_row + 1 if error.kind in COMMON else 0
        if self._in_a_row >= MOST_IN_A_ROW:
            self.failure = error

    def _by_rules(self, issue: TriageIssue, judgement: Judgement, likes: Sequence[Like]) -> Row:
        kind, severity = judgement.type, judgement.severity
        row = Row(
            number=issue.number,
            type=kind,
            severity=severity,
            impact=impact_of(severity),
            priority=priority_of(severity),
            labels=(),
            confidence=judgement.shares[kind],
            abstained=False,
            evidence=judgement.evidence,
            duplicates=tuple(Duplicate(like.number, like.score) for like in likes if like.score >= LISTED),
            owner=owner_of(kind, severity, security=judgement.security),
            estimate_minutes=minutes_of(kind, severity),
            missing=judgement.missing,
            dependencies=judgement.dependencies,
            summary=summary_of(issue),
            source="rules",
        )
        return self._labelled(row, judgement.security, ())

    async def _by_model(
        self,
        issue: TriageIssue,
        judgement: Judgement,
        likes: Sequence[Like],
        similar: Sequence[Like],
        by_rules: Row,
        provider: Provider,
    ) -> Row:
        small = provider.max_tokens < SMALL_WINDOW
        function = triage_function(self.vocabulary, self.among, candidates=bool(likes), brief=small)
        shown = [
            Example(one.title, one.body, one.label) for one in reversed(similar[:EXAMPLES])
        ]  # the most alike stands last
        candidates = [] if small else [(like.number, like.title) for like in likes]
        messages = messages_of(issue, shown, candidates, small=small)
        sampling = sampling_of(self.effort, thinks=provider.profile.thinks)
        called = await call_at_cost(provider, function, messages, sampling, in_part=True)
        said = called.arguments
        shares, kind = judgement.shares, judgement.type
        if "type" in said:
            shares = with_word(shares, said["type"], SMALL_MODEL_ACCURACY if small else MODEL_ACCURACY)
            kind = next(iter(shares)) if small else said["type"]
        # what rules say of an issue of another type says nothing of this one
        severity_left, missing_left = by_rules.severity, by_rules.missing
        if kind != by_rules.type:
            severity_left, missing_left = severity_of(kind), ()
        severity = said.get("severity", severity_left)
        security = bool(said.get("security", judgement.security))
        owner = said.get("owner", owner_of(kind, severity, security=security))
        evidence = checked_evidence(said.get("evidence", ()), issue)
        if not evidence:
            own = type_evidence(kind, issue, self.rules)
            evidence = (own,) if own else ()
        row = replace(
            by_rules,
            type=kind,
            severity=severity,
            impact=said.get("impact", impact_of(severity)),
            priority=said.get("priority", priority_of(severity)),
            confidence=shares[kind],
            evidence=evidence,
            duplicates=_confirmed(said, likes, by_rules.duplicates),
            owner="CISO" if security else "TechLead" if severity == "Sev.1" else owner,
            estimate_minutes=said.get("estimate_minutes", minutes_of(kind, severity)),
            missing=tuple(filter(None, map(line_of, said["missing"]))) if "missing" in said else missing_left,
            dependencies=_dependencies(said, issue) or by_rules.dependencies,
            summary=line_of(said.get("summary", "")) or by_rules.summary,
            source="llm",
            usage=called.usage,
        )
        return self._labelled(row, security, said.get("labels", ()))

    def _labelled(self, row: Row, security: bool, others: Collection[str]) -> Row:
        abstained = row.confidence < self.threshold
        meaning = self.vocabulary.meaning
        if abstained:
            wanted = [meaning("pending")]
        else:
            is_duplicate = any(one.score >= SAME and one.number < row.number for one in row.duplicates)
            wanted = [meaning(row.type), meaning(row.severity), meaning(row.priority)]
            wanted += [meaning("security")] if security else []
            wanted += [meaning("duplicate")] if is_duplicate else []
            wanted += [self.vocabulary.find(text) for text in others]
        return replace(row, labels=tuple(dict.fromkeys(filter(None, wanted))), abstained=abstained)


def _confirmed(
    said: Mapping[str, Any], likes: Sequence[Like], by_rules: tuple[Duplicate, ...]
) -> tuple[Duplicate, ...]:
    """Return the duplicates: of those that are alike the ones that the model confirms, which it had to be asked."""
    if "duplicates" not in said:
        return by_rules
    numbers = set(said["duplicates"])
    return tuple(Duplicate(like.number, max(like.score, SAME)) for like in likes if like.number in numbers)


def _dependencies(said: Mapping[str, Any], issue: TriageIssue) -> tuple[int, ...]:
    """Return the numbers that the model names and that stand in the issue."""
    text = f"{issue.title} {issue.body}"
    named = [number for number in said.get("dependencies", ()) if f"#{number}" in text and number != issue.number]
    return tuple(dict.fromkeys(named))

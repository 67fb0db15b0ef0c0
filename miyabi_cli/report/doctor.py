"""What `doctor` found, as text and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

from miyabi_cli.doctor.report import Diagnosis, ProviderReport
from miyabi_cli.observations import Level, Observation
from miyabi_cli.report.display import counted, plain_text

VERSION = 1
WORDS: dict[Level, str] = {"ok": "ok", "warn": "warn", "fail": "FAIL", "skip": "-"}
COLORS: dict[Level, str] = {"ok": "32", "warn": "33", "fail": "31", "skip": "2"}
SUBJECT = 12
LEAD = " " * 6


def write_json(diagnosis: Diagnosis, output: TextIO) -> None:
    """Write one object, as schemas/doctor.json describes it."""
    code = int(diagnosis.exit_code)
    data = {"version": VERSION, "works": code == 0, "exit_code": code, **dataclasses.asdict(diagnosis)}
    output.write(json.dumps(data, indent=2) + "\n")


def write_text(diagnosis: Diagnosis, output: TextIO, *, colored: bool) -> None:
    """Write a line for each thing, its state first; below a problem, what to do about it."""
    for provider in diagnosis.providers:
        _write(_heading(provider), provider.findings, output, colored=colored)
    if diagnosis.choice.findings:
        _write("auto, in its order", diagnosis.choice.findings, output, colored=colored)
    if diagnosis.repository is not None:
        _write("repository", diagnosis.repository, output, colored=colored)
    _write("machine", diagnosis.machine, output, colored=colored)
    output.write(f"{verdict(diagnosis)}\n")


def verdict(diagnosis: Diagnosis) -> str:
    """Return the last line: whether miyabi works here, and with which provider."""
    everything = [finding for provider in diagnosis.providers if provider.is_chosen for finding in provider.findings]
    everything += [*diagnosis.machine, *(diagnosis.repository or ())]
    failed = sum(finding.level == "fail" for finding in everything)
    warned = sum(finding.level == "warn" for finding in everything)
    choice = diagnosis.choice
    if choice.provider is None:
        return f"{WORDS['fail']}  {choice.reason}"
    name = f"{choice.provider} ({choice.reason})"
    warnings = f", with {counted(warned, 'warning')}" if warned else ""
    if diagnosis.exit_code == 0:
        return f"{WORDS['ok']}    miyabi works here with {plain_text(name)}{warnings}"
    return f"{WORDS['fail']}  miyabi does not work here with {plain_text(name)}: {counted(failed, 'failure')}{warnings}"


def _heading(provider: ProviderReport) -> str:
    chosen = ", chosen" if provider.is_chosen else ""
    model = f": {provider.model}" if provider.model and provider.state != "not set up" else ""
    then = ""
    if provider.probed_at is not None:
        then = f", asked {datetime.fromtimestamp(provider.probed_at, UTC):%Y-%m-%d %H:%M} UTC (--refresh asks again)"
    return f"{provider.name}{model} ({provider.state}{chosen}{then})"


def _write(heading: str, findings: Iterable[Observation], output: TextIO, *, colored: bool) -> None:
    output.write(plain_text(heading) + "\n")
    for finding in findings:
        word = f"{WORDS[finding.level]:<6}"
        shown = f"\x1b[{COLORS[finding.level]}m{word}\x1b[0m" if colored else word
        output.write(f"{shown}{plain_text(finding.subject):<{SUBJECT}}{plain_text(finding.message)}\n")
        if finding.hint:
            output.write(f"{LEAD}{'':<{SUBJECT}}-> {plain_text(finding.hint)}\n")
    output.write("\n")

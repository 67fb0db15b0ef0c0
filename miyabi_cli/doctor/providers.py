"""One provider looked at: reached, inspected, asked, and judged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from miyabi_cli.doctor.judging import judge_model, judge_price, judge_window, most_cost, price_of, rates_of, tell_cost
from miyabi_cli.doctor.probing import Clock, Probed, probe
from miyabi_cli.doctor.report import ProviderReport, State
from miyabi_cli.errors import BrokenReply, MiyabiError, ProviderRefused
from miyabi_cli.llm.choosing import FORBIDDEN, is_allowed, is_local
from miyabi_cli.llm.failures import UNCONNECTED
from miyabi_cli.llm.inspecting.remembering import Abilities, Remembered, forget, recall, remember
from miyabi_cli.llm.inspecting.served import Advice, Served
from miyabi_cli.llm.inspecting.table import SECONDS, advice_on, inspect
from miyabi_cli.llm.metering import Account
from miyabi_cli.llm.provider import Provider
from miyabi_cli.llm.retry import Retries
from miyabi_cli.llm.table import open_provider
from miyabi_cli.observations import Observation, failure
from miyabi_cli.redaction import Redactor
from miyabi_cli.settings.schema import Settings

ONCE = Retries(attempts=1)  # what goes wrong is to be seen

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Means:
    """What looking at providers needs.

    `seconds`: the most that one question to a server may take. `clock` measures speeds, `now` gives the Unix time.
    `account`: makes the account that requests are put to. `asks`: whether models are asked for replies at all;
    `is_fresh`: also where a look of the last day is remembered. `redactor`: what no server is to see.
    """

    settings: Settings
    tell: Tell
    account: Callable[[Tell], Account]
    redactor: Redactor
    clock: Clock
    now: Callable[[], float]
    seconds: float = 60.0
    asks: bool = True
    is_fresh: bool = False


async def examine(name: str, means: Means, *, is_chosen: bool) -> ProviderReport:
    """Return what is found of one provider. Whatever is wrong with it is in the findings; no error leaves it."""
    settings = means.settings
    section = getattr(settings.llm, name)
    model = str(getattr(section, "model", None) or getattr(section, "file", None) or "")
    report = ProviderReport(name, model, getattr(section, "endpoint", ""), is_chosen, "works", ())
    if not is_allowed(settings, name):
        hint = "choose a server on this machine, or set llm.local_only to false"
        finding = Observation("reachable", "fail" if is_chosen else "skip", FORBIDDEN, hint if is_chosen else None)
        return replace(report, state="broken" if is_chosen else "not asked", findings=(finding,))
    lacks = _lacks(settings, name)
    if lacks and not is_chosen:
        finding = Observation("reachable", "skip", lacks, advice_on(name).set_up)
        return replace(report, state="not set up", findings=(finding,))
    means.tell(f"{name}: looking")
    advice = advice_on(name)
    served, findings = await _reached(name, means, advice, model)
    if served is None:
        if _is_named(settings, name, is_chosen=is_chosen):
            return replace(report, state="broken", findings=findings)
        skipped = Observation("reachable", "skip", f"{findings[0].message}", advice.set_up)
        return replace(report, state="not set up", findings=(skipped,))
    report = replace(report, version=served.version, findings=findings)
    if any(finding.level == "fail" for finding in findings):
        return replace(report, state="broken")
    return await _asked(report, served, advice, means)


def _lacks(settings: Settings, name: str) -> str:
    """Return what somebody has yet to set before a provider is worth a look; nothing where it may be there as it is."""
    section = getattr(settings.llm, name)
    if getattr(section, "model", "") is None:
        return "no model is named"
    if getattr(section, "file", "") is None:
        return "no recording is named"
    untouched = section == type(section)()
    return "no key is set" if untouched and not is_local(settings, name) else ""


async def _reached(
    name: str, means: Means, advice: Advice, model: str
) -> tuple[Served | None, tuple[Observation, ...]]:
    """Return what a server says of itself, and that it is there."""
    seconds = min(means.seconds, SECONDS)
    try:
        served = await inspect(means.settings, name, seconds=seconds)
    except TimeoutError:
        said = f"nothing came within {seconds:g} s: it hangs, or it is no such server"
        return None, (Observation("reachable", "fail", said, "look at the server's log and load, or raise --timeout"),)
    except ProviderRefused as error:
        subject = "key" if error.status in (401, 403) else "reachable"
        return None, (failure(subject, error, advice.set_up),)
    except BrokenReply as error:
        return None, (failure("reachable", error, "is the endpoint the address of such a server?"),)
    except MiyabiError as error:
        found = failure("reachable", error, advice.set_up)
        if error.hint == UNCONNECTED:
            found = replace(found, hint=f"{UNCONNECTED} {advice.set_up}")
        return None, (found,)
    endpoint = getattr(getattr(means.settings.llm, name), "endpoint", "")
    findings = [Observation("reachable", "ok", endpoint or "on this machine")]
    if served.version:
        findings.append(Observation("version", "ok", served.version))
    if name != "replay":  # the recording is its own model
        findings += judge_model(served, model, advice)
    return served, (*findings, *served.findings)


async def _asked(report: ProviderReport, served: Served, advice: Advice, means: Means) -> ProviderReport:
    """Return the report with what the model itself did, now or within the last day."""
    name = report.name
    if not means.asks or not _is_worth_asking(report, means.settings):
        how = "run doctor without --no-probe" if not means.asks else f"miyabi doctor -p {name} asks it"
        findings = (*report.findings, Observation("answers", "skip", f"the model was not asked: {how}"))
        return _judged(replace(report, findings=findings), served, Abilities(window=served.window), advice, means)
    remembered = None if means.is_fresh else recall(means.settings, name, means.now(), served.version)
    if remembered is None or not remembered.works:
        probed = await _probed(name, served, advice, means)
        found = Remembered(probed.abilities, probed.findings, means.now())
        if probed.is_usable:
            remember(means.settings, name, served.version, found)
        else:
            forget(means.settings, name)
    else:
        found = remembered
        report = replace(report, probed_at=remembered.at)
    report = replace(report, findings=(*report.findings, *found.findings))
    return _judged(report, served, found.abilities, advice, means)


def _is_worth_asking(report: ProviderReport, settings: Settings) -> bool:
    """Say whether a model is asked: the embedded engine takes gigabytes, and is not started for a look alone."""
    return report.name != "embedded" or report.is_chosen or report.name in settings.llm.fallback


async def _probed(name: str, served: Served, advice: Advice, means: Means) -> Probed:
    """Open a provider and ask it. Requests go to the ledger, and its caps hold."""
    notes: list[str] = []
    llm = means.settings.llm.model_copy(update={"provider": name, "fallback": ()})
    try:
        async with asyncio.timeout(means.seconds):
            settings = means.settings.model_copy(update={"llm": llm})
            provider = await open_provider(settings, means.tell, notes.append, means.account(notes.append))
    except (MiyabiError, TimeoutError) as error:
        if isinstance(error, MiyabiError):
            found = failure("answers", error, advice.set_up)
        else:
            hint = "run again, or give it longer by --timeout"
            found = Observation("answers", "fail", f"it did not start within {means.seconds:g} s", hint)
        return Probed(Abilities(), (found,), is_usable=False)
    async with provider:
        provider.redactor, provider.retries = means.redactor, ONCE
        if name == "replay":
            said = Observation("answers", "skip", "it plays a recording, and is not asked")
            return Probed(Abilities(window=provider.max_tokens), (said,), is_usable=True)
        cost = most_cost(price_of(name, means.settings), is_local=is_local(means.settings, name))
        means.tell(f"{name}: asking {provider.model_name} for two short replies{cost}")
        probed = await probe(provider, advice, clock=means.clock, seconds=means.seconds)
        window = loaded_window(served, provider)
    same = f"{window:,} tokens"  # what is told of the window is said with it
    told = tuple(Observation("note", "warn", note, advice.note) for note in notes if same not in note)
    abilities = replace(probed.abilities, window=window)
    return Probed(abilities, (*probed.findings, *told), probed.is_usable)


def loaded_window(served: Served, provider: Provider) -> int:
    """Return the window in tokens as far as server and replies have told it, else the model's own."""
    learned = provider.max_tokens
    if served.window is None:
        return learned
    return served.window if learned == provider.profile.window else min(served.window, learned)


def _judged(
    report: ProviderReport, served: Served, abilities: Abilities, advice: Advice, means: Means
) -> ProviderReport:
    """Return the report with its window, price and state."""
    settings, findings = means.settings, list(report.findings)
    local, price = is_local(settings, report.name), price_of(report.name, settings)
    if abilities.window is not None and (served.window or abilities.first_token is not None):
        asked = getattr(getattr(settings.llm, report.name), "num_ctx", None)
        findings.append(judge_window(report.model, abilities.window, asked, served, advice))
    findings.append(judge_price(price, is_local=local))
    if report.probed_at is None:
        findings += tell_cost(abilities.spent_usd, is_local=local)
    broken = any(finding.level == "fail" for finding in findings)
    state: State = "broken" if broken else "works"
    return replace(
        report, state=state, findings=tuple(findings), abilities=abilities, rates=rates_of(price) if price else None
    )


def _is_named(settings: Settings, name: str, *, is_chosen: bool) -> bool:
    """Say whether somebody has set a provider up, so that it ought to be there."""
    section = getattr(settings.llm, name)
    return is_chosen or name in settings.llm.fallback or section != type(section)()

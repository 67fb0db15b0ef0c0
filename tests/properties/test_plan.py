"""Each reader of what others write, and where its properties are."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from tests.conftest import ROOT

PLAN = {
    "miyabi_cli.llm.harmony.parsing": ("properties/test_harmony.py", "test_harmony_parsing.py"),
    "miyabi_cli.llm.harmony.tokens": ("properties/test_harmony.py",),
    "miyabi_cli.llm.harmony.rendering": ("properties/test_harmony.py", "test_harmony_rendering.py"),
    "miyabi_cli.llm.harmony.collecting": ("test_vllm_wire.py",),
    "miyabi_cli.llm.sse": ("properties/test_streams.py", "test_sse.py"),
    "miyabi_cli.llm.native.ndjson": ("properties/test_streams.py",),
    "miyabi_cli.llm.native.reading": ("test_ollama.py",),
    "miyabi_cli.llm.chat.collecting": ("test_chat_quirks.py",),
    "miyabi_cli.llm.chat.failed_generation": ("test_groq.py",),
    "miyabi_cli.llm.pacing": ("test_pacing.py",),
    "miyabi_cli.llm.objects.mending": ("properties/test_growth.py", "test_mending.py"),
    "miyabi_cli.llm.objects.validating": ("test_validating.py",),
    "miyabi_cli.llm.objects.fitting": ("test_fitting.py",),
    "miyabi_cli.agent.languages.lexing": ("properties/test_growth.py", "test_brace_languages.py"),
    "miyabi_cli.agent.arguments": ("test_arguments.py",),
    "miyabi_cli.workspace.patch_parsing": ("properties/test_patches.py", "properties/test_growth.py"),
    "miyabi_cli.workspace.patches": ("properties/test_patches.py", "test_patches.py"),
    "miyabi_cli.workspace.paths": ("test_paths.py",),
    "miyabi_cli.workspace.diffs": ("properties/test_git_output.py", "properties/test_growth.py"),
    "miyabi_cli.workspace.trees": ("properties/test_git_output.py",),
    "miyabi_cli.workspace.runners.junit": ("properties/test_growth.py", "test_junit.py"),
    "miyabi_cli.workspace.runners.unittest_output": ("properties/test_growth.py", "test_unittest_output.py"),
    "miyabi_cli.workspace.linters.sarif": ("test_review_parts.py",),
    "miyabi_cli.workspace.linters.bandit": ("test_review_parts.py",),
    "miyabi_cli.workspace.linters.staticcheck": ("test_review_parts.py",),
    "miyabi_cli.bench.tasks": ("test_bench_codegen.py",),
    "miyabi_cli.settings.files": ("properties/test_settings.py", "properties/test_growth.py", "test_settings_files.py"),
    "miyabi_cli.settings.variables": ("properties/test_settings.py",),
    "miyabi_cli.settings.trust": ("properties/test_settings.py",),
    "miyabi_cli.settings.endpoints": ("test_endpoints.py",),
    "miyabi_cli.bench.load.server_metrics": ("test_bench_serve.py",),
    "miyabi_cli.bench.load.traces": ("test_bench_serve.py",),
    "miyabi_cli.runs": ("properties/test_event_logs.py",),
    "miyabi_cli.redaction": ("properties/test_growth.py", "test_redaction.py"),
    "miyabi_cli.fences": ("properties/test_growth.py", "test_untrusted_text.py"),
    "miyabi_cli.report.display": ("properties/test_growth.py", "test_untrusted_text.py"),
}


@pytest.mark.parametrize("reader", PLAN)
def test_a_reader_has_its_properties(reader: str) -> None:
    assert find_spec(reader)
    for name in PLAN[reader]:
        text = (ROOT / "tests" / name).read_text()
        assert f"from {reader} import " in text, name
        assert "@given(" in text or name.endswith("test_growth.py"), name


def test_no_module_of_properties_is_left_out() -> None:
    planned = {name for names in PLAN.values() for name in names}
    here = {f"properties/{path.name}" for path in (ROOT / "tests/properties").glob("test_*.py")}
    assert here - planned == {"properties/test_plan.py"}

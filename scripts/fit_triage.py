"""Fits the triage rules' weights to a CSV file of labelled issues: python scripts/fit_triage.py FILE.

The file has the columns repo, label, title and body. Only words and pairs of words that every repository uses go into
miyabi_cli/triage/weights.json, none of the issues' text.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from miyabi_cli.triage.issue import TriageIssue
from miyabi_cli.triage.learning import fit, labelled
from miyabi_cli.triage.reading import read_issues

WEIGHTS = Path(__file__).parent.parent / "miyabi_cli/triage/weights.json"


def main() -> None:
    """Read the issues, fit, and write the file."""
    with Path(sys.argv[1]).open("rb") as file:
        issues = [one for one in read_issues(file) if isinstance(one, TriageIssue)]
    fitted = fit([labelled(one.repository, one.truth, one.title, one.body) for one in issues])
    rounded = {name: [round(weight, 3) for weight in weights] for name, weights in sorted(fitted.weights.items())}
    head = {"classes": fitted.classes, "bias": [round(one, 3) for one in fitted.bias]}
    data = {**head, "temperature": round(fitted.temperature, 3), "weights": rounded}
    WEIGHTS.write_text(json.dumps(data, separators=(",", ":")).replace('],"', '],\n"') + "\n", encoding="utf-8")
    print(f"{len(issues)} issues, {len(rounded)} words, temperature {fitted.temperature:.2f}")


if __name__ == "__main__":
    main()

"""How long the properties are looked for."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("soak", max_examples=5_000, deadline=None)

if "HYPOTHESIS_PROFILE" in os.environ:
    settings.load_profile(os.environ["HYPOTHESIS_PROFILE"])

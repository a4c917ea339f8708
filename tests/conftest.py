"""Settings of the whole suite: few generated cases, the same in every run; HYPOTHESIS_PROFILE=long looks further."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("suite", max_examples=40, deadline=None, derandomize=True)
settings.register_profile(
    "long", max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

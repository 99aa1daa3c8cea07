"""Settings of the whole suite: two hypothesis profiles and what every test starts from.

`ci`, the default, draws the same examples on every run. `pytest --hypothesis-profile=thorough` draws many new ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import fastgrad as fg

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("ci", max_examples=12, derandomize=True, database=None, **COMMON)
settings.register_profile("thorough", max_examples=400, **COMMON)
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Random numbers do not depend on the tests that ran before, and each test leaves recording on."""
    fg.manual_seed(0)
    fg.set_grad_enabled(True)
    yield
    assert fg.is_grad_enabled()

"""Adapters for tests that go through all methods with one set of values."""

from slimlib.common.checked import fields_of
from slimlib.config import ADAPTERS, AdapterConfig


def adapter_with(method: str, **values) -> AdapterConfig:
    """The method's adapter with those of the values that it has, such as a group size."""
    own = fields_of(ADAPTERS[method])
    return AdapterConfig(method, **{name: v for name, v in values.items() if name in own})

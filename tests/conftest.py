"""Settings of the whole test suite."""

from hypothesis import settings

# A property says what is true, not how fast: on a busy machine any example can be slow.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

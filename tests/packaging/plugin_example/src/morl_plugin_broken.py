"""A plug-in whose own dependency is missing, as it happens."""

import a_package_that_nobody_has  # noqa: F401

"""The two kinds of failure that a person is told about."""


class Refused(Exception):
    """The request cannot be done as asked; the text says why and what to do, and nothing was changed."""


class RegistryUnavailable(Refused):
    """The model registry did not answer in time or answered with a fault of its own."""

"""The enforcer's errors: one tree, each with its facts as fields."""


class EnforcerError(Exception):
    """Root of everything the enforcer raises on purpose."""


class MeshError(EnforcerError):
    """The mesh options cannot be used; the message names the option."""


class PolicyError(EnforcerError):
    """A policy document says something that has no meaning.

    `path` is the field as its author wrote it (`spec.rules[0].to[0].operation.ports[1]`); `message` is the
    rest of the sentence about it.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message

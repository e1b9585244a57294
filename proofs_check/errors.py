"""The exceptions of the ledger."""


class ProofsCheckError(Exception):
    """Base of every exception the ledger raises for a caller's mistake."""


class StatementError(ProofsCheckError, KeyError):
    """A statement was asked for a number it does not have, or built from a wrong one."""

    def __str__(self) -> str:
        """The message without the quotes that KeyError puts around it."""
        return str(self.args[0])


class UnknownClaimError(ProofsCheckError, KeyError):
    """A claim was asked for that the ledger does not have."""

    def __str__(self) -> str:
        """The message without the quotes that KeyError puts around it."""
        return str(self.args[0])


class ScopeError(ProofsCheckError, ValueError):
    """A scope, or a check's cover of it, that contradicts what it is about."""


class ClaimRefusedError(ProofsCheckError, ValueError):
    """A claim that the ledger does not accept; the message names its file and what to add."""

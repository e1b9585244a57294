"""What to say of a derivative that is not finite where the function is."""


def gradient_not_finite(what: str, where: str) -> str:
    """The text for a derivative that is not finite at a point at which the function is.

    Args:
        what: the derivative.
        where: at which step.
    """
    return (
        f"inner and outer must have finite derivatives along the run: {what} is not finite at {where} "
        "although theta and the loss are: sqrt or norm at 0, or a where() whose other branch is not finite; "
        "add a small positive number under the root, or start elsewhere"
    )

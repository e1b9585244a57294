"""Text from elsewhere as one line that a terminal or a page can show."""


def visible(text: str) -> str:
    r"""The text with all that is not printable escaped: control characters, line ends, lone surrogates.

    A message with an escape sequence in it would otherwise recolour or clear the terminal, and one with half
    of a surrogate pair could not be written at all.

    Example:
        >>> print(visible("red: \x1b[31m, half: \ud800, ε"))
        red: \x1b[31m, half: \ud800, ε
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )

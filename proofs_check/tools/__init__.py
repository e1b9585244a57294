"""Tools that the claims share: algebra, exact worlds, counts and measured orders."""

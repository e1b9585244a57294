"""Ball arithmetic: derivatives and minimisers with rigorous error bounds."""

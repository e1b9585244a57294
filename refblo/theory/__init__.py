"""What theory says of a problem: assumptions, predicted limits, error budgets and bounds."""

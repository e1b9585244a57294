"""The truth about a caller's own program, computed without the estimators."""

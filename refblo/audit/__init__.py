"""The audit: every contract on every case, and its reports."""

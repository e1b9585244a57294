"""The claims ledger: every equation, theorem, table and figure of the papers with its verdict.

Run ``python -m proofs_check``. A verdict is never typed: it is derived from evidence that has been
executed, and a claim whose evidence no longer supports its recorded verdict makes the run fail.
"""

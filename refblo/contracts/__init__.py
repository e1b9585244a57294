"""The contracts: what each estimator claims, and how the claim is checked."""

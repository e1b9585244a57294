"""A hypergradient in NumPy, by differences, with the tolerance that this takes."""

import numpy as np


def by_differences(problem):
    """Central differences of the objective, whose run takes central differences of the inner loss."""

    def slope(lam, theta, batch):
        step = 1e-5
        return np.array(
            [
                (
                    problem.inner(lam, theta + step * unit, batch)
                    - problem.inner(lam, theta - step * unit, batch)
                )
                / (2 * step)
                for unit in np.eye(theta.size)
            ]
        )

    def objective(lam):
        theta = problem.initial(lam)
        for t in range(problem.steps):
            theta = theta - problem.step_size * slope(lam, theta, problem.inner_batch(t))
        return problem.outer(lam, theta, problem.outer_batch(problem.steps))

    step = 1e-4
    return np.array(
        [
            (objective(problem.lam + step * unit) - objective(problem.lam - step * unit))
            / (2 * step)
            for unit in np.eye(problem.lam.size)
        ]
    )


by_differences.capabilities = {"direct", "initial", "minibatches"}
by_differences.tolerance = 1e-4

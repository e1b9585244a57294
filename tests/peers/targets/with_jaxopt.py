"""JAXopt: solvers with implicit differentiation or unrolling."""

import jax
import jax.numpy as jnp
import jaxopt
import numpy as np
from jaxopt import linear_solve
from solving_jax import inner_of, slope_of, solution, target, tree_outer


def unrolled_by(problem, solver):
    inner, outer = inner_of(problem), tree_outer(problem)

    def objective(lam):
        start = problem.split(problem.initial(lam))
        return outer(lam, solver(inner).run(start, lam).params)

    return jax.grad(objective)(problem.lam)


@target("unrolled", "direct", "initial")
def gradient_descent_unrolled(problem):
    def solver(fun):
        return jaxopt.GradientDescent(
            fun,
            stepsize=problem.step_size,
            maxiter=problem.steps,
            tol=0.0,
            acceleration=False,
            implicit_diff=False,
        )

    return unrolled_by(problem, solver)


@target("unrolled", "direct", "initial", "weight_decay")
def fixed_point_unrolled(problem):
    """Gradient descent as a fixed-point iteration."""
    outer = tree_outer(problem)

    def advance(theta, lam):
        return theta - problem.step_size * slope_of(problem)(lam, theta)

    def objective(lam):
        solver = jaxopt.FixedPointIteration(
            advance, maxiter=problem.steps, tol=0.0, implicit_diff=False
        )
        return outer(lam, problem.split(solver.run(problem.initial(lam), lam).params))

    return jax.grad(objective)(problem.lam)


LINEAR = {
    "cg": lambda matvec, b: linear_solve.solve_cg(matvec, b, tol=1e-12, maxiter=500),
    "normal_cg": lambda matvec, b: linear_solve.solve_normal_cg(matvec, b, tol=1e-12, maxiter=500),
    "bicgstab": lambda matvec, b: linear_solve.solve_bicgstab(matvec, b, tol=1e-12, maxiter=500),
    "gmres": lambda matvec, b: linear_solve.solve_gmres(matvec, b, tol=1e-12, maxiter=500),
    "lu": linear_solve.solve_lu,
    "inv": linear_solve.solve_inv,
    "cholesky": linear_solve.solve_cholesky,
    "qr": linear_solve.solve_qr,
}


def root_by(problem, name, *, flat=False):
    """custom_root around a solver that returns the solution."""
    found = solution(problem)
    slope = slope_of(problem)
    pieces = (lambda x: x) if flat else problem.split
    joined = (lambda x: x) if flat else problem.join

    def stationarity(parts, lam):
        return pieces(slope(lam, joined(parts)))

    @jaxopt.implicit_diff.custom_root(stationarity, solve=LINEAR[name])
    def run(start, lam):
        del start, lam
        return pieces(jnp.asarray(found))

    def objective(lam):
        return problem.outer(lam, joined(run(pieces(problem.theta0), lam)), None)

    return jax.grad(objective)(problem.lam)


IMPLICIT = ("direct", "weight_decay", "momentum")


@target("implicit", *IMPLICIT, tolerance=1e-7)
def root_cg(problem):
    return root_by(problem, "cg")


@target("implicit", *IMPLICIT, tolerance=1e-7)
def root_normal_cg(problem):
    return root_by(problem, "normal_cg")


@target("implicit", *IMPLICIT, tolerance=1e-7)
def root_bicgstab(problem):
    return root_by(problem, "bicgstab")


@target("implicit", *IMPLICIT, tolerance=1e-7)
def root_gmres(problem):
    return root_by(problem, "gmres")


@target("implicit", *IMPLICIT)
def root_lu(problem):
    return root_by(problem, "lu", flat=True)


@target("implicit", *IMPLICIT)
def root_inv(problem):
    return root_by(problem, "inv", flat=True)


@target("implicit", *IMPLICIT)
def root_cholesky(problem):
    return root_by(problem, "cholesky", flat=True)


@target("implicit", *IMPLICIT)
def root_qr(problem):
    return root_by(problem, "qr", flat=True)


@target("implicit", *IMPLICIT, tolerance=1e-7)
def custom_fixed_point(problem):
    """With the inner optimiser's own step as the fixed-point map, momentum included."""
    found, slope = solution(problem), slope_of(problem)

    def advance(state, lam):
        theta, velocity = state
        velocity = problem.momentum * velocity + slope(lam, theta)
        return theta - problem.step_size * velocity, velocity

    @jaxopt.implicit_diff.custom_fixed_point(advance, solve=LINEAR["normal_cg"])
    def run(start, lam):
        del start, lam
        return jnp.asarray(found), jnp.zeros_like(found)

    def objective(lam):
        start = problem.theta0, jnp.zeros_like(problem.theta0)
        return problem.outer(lam, run(start, lam)[0], None)

    return jax.grad(objective)(problem.lam)


def implicit_by(problem, make):
    inner, outer = inner_of(problem), tree_outer(problem)
    solver = make(inner)

    def objective(lam):
        start = problem.split(jnp.asarray(solution(problem)))
        return outer(lam, solver.run(start, lam).params)

    return jax.grad(objective)(problem.lam)


@target("implicit", "direct", tolerance=1e-4)
def gradient_descent_implicit(problem):
    """With the linear solver that is the default."""

    def make(fun):
        return jaxopt.GradientDescent(
            fun, stepsize=problem.step_size, maxiter=5, tol=1e-14, acceleration=False
        )

    return implicit_by(problem, make)


@target("implicit", "direct", tolerance=1e-4)
def lbfgs_implicit(problem):
    return implicit_by(problem, lambda fun: jaxopt.LBFGS(fun, maxiter=5, tol=1e-10))


@target("implicit", "direct", tolerance=1e-4)
def anderson_implicit(problem):
    """Anderson acceleration of gradient descent."""
    slope = slope_of(problem)

    def advance(theta, lam):
        return theta - problem.step_size * slope(lam, theta)

    solver = jaxopt.AndersonAcceleration(advance, maxiter=5, tol=1e-10)

    def objective(lam):
        theta = solver.run(jnp.asarray(solution(problem)), lam).params
        return problem.outer(lam, theta, None)

    return jax.grad(objective)(problem.lam)


np.seterr(all="ignore")

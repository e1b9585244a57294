"""Checks and random problems for those who write estimators: what refblo's own tests use.

    from refblo.testing import check_estimator

    def test_my_estimator():
        check_estimator(MyEstimator(Langevin(0.05), Schedule(5, 5)))

`check_estimator` checks that an estimator is a pure function; `refblo.testing.strategies` (it needs the
package hypothesis) and `refblo.testing.problems` make random problems with p ≠ n.
"""

from refblo.testing.cases import SMALL_CASES
from refblo.testing.check import PROPERTIES, EstimatorCheckError, check_estimator

__all__ = ["PROPERTIES", "SMALL_CASES", "EstimatorCheckError", "check_estimator"]

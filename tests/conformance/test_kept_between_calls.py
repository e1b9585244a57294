"""hypergradcheck on functions that keep something between their calls, or change what they are given."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from refblo.conformance import (
    Verdict,
    hypergradient_report,
)
from refblo.conformance.report import Report
from tests.conformance.coupled_problem import LAM, THETA, P, T, inner, outer, unrolled


class TestWhatIsKeptBetweenCalls:
    options: ClassVar[dict[str, Any]] = {"steps": T, "step_size": 0.1}

    def report(self, function: Any) -> Report:
        return hypergradient_report(inner, outer, LAM, THETA, function, **self.options)

    def test_an_accumulating_buffer(self) -> None:
        buffer = torch.zeros(P, dtype=torch.float64)

        def accumulating(lam: Tensor) -> Tensor:
            buffer.add_(unrolled(lam))
            return buffer.clone()

        report = self.report(accumulating)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "accumulated over calls"
        assert any("two calls at the same lam" in text for text in report.findings)

    def test_a_stale_lambda(self) -> None:
        kept: list[Tensor] = []

        def stale(lam: Tensor) -> Tensor:
            kept.append(lam.clone())
            return unrolled(kept[0])

        report = self.report(stale)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "stale lambda"

    def test_a_direct_term_at_a_stale_lambda(self) -> None:
        kept: list[Tensor] = []

        def stale(lam: Tensor) -> Tensor:
            kept.append(lam.clone())
            return unrolled(lam) - lam + kept[0]

        report = self.report(stale)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "stale lambda"
        assert "∂_λ f" in report.diagnosis.text

    def test_an_input_changed_in_place(self) -> None:
        def changing(lam: Tensor) -> Tensor:
            answer = unrolled(lam)
            lam.mul_(2)
            return answer

        report = self.report(changing)
        assert report.right
        assert any("in place" in text for text in report.findings)

    def test_single_precision_inside(self) -> None:
        def single(lam: Tensor) -> Tensor:
            return lam + (unrolled(lam) - lam).float().double()

        report = self.report(single)
        assert report.diagnosis is not None
        assert report.diagnosis.name == "float32 inside"

    def test_entries_that_are_not_finite(self) -> None:
        report = self.report(lambda lam: unrolled(lam) * float("nan"))
        assert report.verdict is Verdict.WRONG
        assert any("not finite" in text for text in report.findings)

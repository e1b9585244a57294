"""The diagnosis as such: failing families, the time limit, the choice between names, where an error sits."""

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from refblo.conformance.diagnosis import Candidate, Mistake, Place, Setting, diagnose
from refblo.conformance.diagnosis.choose import factor_text
from refblo.conformance.diagnosis.families import Family
from refblo.conformance.diagnosis.locate import by_halves
from refblo.conformance.truth.reference import reference
from refblo.noise import Draws
from tests.conformance.plants import P, generated, terms, unrolled


def test_every_name_is_said_once_and_found_again() -> None:
    printed = [mistake.printed for mistake in Mistake]
    assert len(set(printed)) == len(printed)
    for mistake in Mistake:
        assert all(text.strip() for text in (mistake.what, mistake.cause, mistake.remedy))
        assert mistake.paragraph.count(".") >= 3
        for place in Place:
            assert Mistake.named(mistake.at(place)) is mistake
    with pytest.raises(KeyError):
        Mistake.named("no such name")


def _setting(vector: np.ndarray | None = None) -> Setting:
    problem = generated(3)
    subject = problem.subject()
    observed = np.array([1.0, -0.3, 2.0]) if vector is None else vector
    return Setting(subject, observed, accuracy=1e-13)


def test_a_family_that_fails_is_listed_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(_: Setting) -> Iterator[Candidate]:
        yield Candidate(Mistake.ZERO, np.zeros(P))
        raise ValueError("not today\nand a second line")

    def naming(setting: Setting) -> Iterator[Candidate]:
        yield Candidate(Mistake.FIRST_ORDER, setting.observed)

    stages = ((Family("bad", failing, True), Family("good", naming, False)),)
    monkeypatch.setattr(sys.modules["refblo.conformance.diagnosis.diagnose"], "STAGES", stages)
    found = diagnose(_setting())
    assert found.failed == ("bad (ValueError: not today)",)
    assert found.name == "first-order"
    assert "could not be evaluated: bad (ValueError: not today)" in found.describe()
    assert found.cut_off == ()


def test_no_time_means_no_name_and_a_list_of_what_was_not_asked() -> None:
    setting = _setting()
    found = diagnose(setting, seconds=0.0)
    assert found.name is None
    assert found.tried == 0
    assert "terms, signs and factors" in found.cut_off
    assert "not finished within the time limit" in found.describe()
    again = diagnose(replace(setting, observed=2 * setting.subject.truth))
    assert again.name == "factor 2", "what was cut off is not kept"
    assert again.cut_off == ()


def test_no_later_stage_is_asked_once_one_explains_all_but_rounding() -> None:
    setting = _setting(unrolled(generated(3)) * 2)
    asked = diagnose(setting).tried
    assert asked < diagnose(_setting()).tried


def test_what_fits_better_is_named_whatever_was_tried_first() -> None:
    """An indirect term times 10⁻⁵ is not missing; one that is missing is not scaled."""
    problem = generated(3)
    direct, indirect = terms(problem)
    for vector, name in (
        (direct + 1.7e-5 * indirect, "scaled in the indirect term"),
        (direct, "missing indirect term"),
        (1e-6 * (direct + indirect), "scaled"),
        (0 * direct, "zero"),
    ):
        assert diagnose(_setting(vector)).name == name


def test_one_number_is_explained_by_no_fitted_one() -> None:
    problem = generated(3)
    one = replace(
        problem,
        inner=lambda lam, theta, _=None: problem.inner(lam.expand(P), theta),
        outer=lambda lam, theta, _=None: problem.outer(lam.expand(P), theta),
        lam=problem.lam[:1],
    )
    found = diagnose(Setting(one.subject(), 3.21 * one.subject().truth, accuracy=1e-13))
    assert found.name is None
    assert "scaled" not in (found.runner_up, *found.names)


def _many(p: int) -> tuple[Setting, np.ndarray]:
    """A problem with p hyperparameters of which random directions are taken, and its truth."""
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(4, p, generator=generator).double() / p**0.5
    problem = replace(
        generated(3),
        inner=lambda lam, theta, _=None: (
            0.5 * (theta - torch.tanh(matrix @ lam)).square().sum() + 0.1 * theta.pow(4).sum()
        ),
        outer=lambda lam, theta, _=None: theta.pow(3).sum() + (lam * lam).sum() / 2,
        lam=torch.randn(p, generator=generator).double(),
    )
    program = problem.subject_program()
    columns = np.random.Generator(np.random.Philox(key=2)).standard_normal((p, 3))
    columns /= np.linalg.norm(columns, axis=0)
    truth = reference(
        program,
        problem.estimand,
        columns,
        exhaustive=False,
        draws=Draws(0),
        ulp=2.0**-52,
        runs=2,
        confirm=0,
    )
    subject = problem.subject_of(program, truth)
    return Setting(subject, subject.truth, accuracy=1e-13), subject.truth


@pytest.mark.parametrize("p", [100, 5000])
def test_a_wrong_entry_or_block_among_many_is_located(p: int) -> None:
    setting, truth = _many(p)
    changed = truth.copy()
    changed[p // 3] += 0.5
    found = diagnose(replace(setting, observed=changed))
    assert found.name == "one entry wrong"
    assert f"entry {p // 3} of lam" in found.text
    assert f"the error sits in entries {p // 3} of lam (1 of {p})" in found.components
    changed = truth.copy()
    changed[10:40] *= -1
    blocks = {"a": slice(0, 10), "b": slice(10, 40), "c": slice(40, p)}
    found = diagnose(replace(setting, observed=changed), blocks)
    assert found.name == "one block wrong"
    assert found.text == "block b of lam has the wrong sign"
    assert f"the error sits in 30 of {p} entries of lam, from 10 to 39" in found.components


def test_entries_are_found_by_halves() -> None:
    wrong = {17, 401, 402}
    asked = 0

    def off(part: np.ndarray) -> bool:
        nonlocal asked
        asked += 1
        return bool(wrong & set(part.tolist()))

    assert by_halves(1000, off) == sorted(wrong)
    assert asked <= 64
    assert by_halves(1000, lambda _: True) == []


def test_where_the_adjoint_is_not_to_be_had_entries_are_found_by_directional_truths() -> None:
    setting, truth = _many(100)
    changed = truth.copy()
    changed[71] += 0.5
    # A truth that the adjoint sweep does not agree with: what is there instead is asked.
    other = replace(setting.subject, reference=setting.subject.reference)
    other.__dict__["agrees"] = False
    found = diagnose(replace(setting, subject=other, observed=changed))
    assert "the error sits in entries 71 of lam (1 of 100)" in found.components


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (2.0, "2"),
        (1.0, "1"),
        (1 + 1e-8, "1.00000001"),
        (0.99876512, "0.998765"),
        (7.38906, "7.389"),
    ],
)
def test_a_factor_beside_one_is_never_printed_as_one(factor: float, text: str) -> None:
    assert factor_text(factor) == text

"""The code names its claims: docstrings of estimators and oracles, contracts, formulas. About 1 s."""

import sys
from pathlib import Path

import pytest

from proofs_check.claims import all_claims
from proofs_check.code_claims import NamedDocstring, claims_in, claims_of, docstrings, unsourced
from refblo.contracts.registry import contracts
from refblo.estimators import FMDDirectional
from refblo.estimators.registry import estimator_classes
from refblo.oracles import ORACLES, ForwardModeDirectional, taylor_test

ROOT = Path(__file__).parents[2]
KNOWN = {claim.key for claim in all_claims()}
NAMERS = [
    *estimator_classes(),
    FMDDirectional,
    *(type(oracle) for oracle in ORACLES),
    ForwardModeDirectional,
    taylor_test,
]
WITH_FORMULAS = [
    file
    for folder in ("estimators", "oracles", "theory")
    for file in sorted((ROOT / "refblo" / folder).glob("*.py"))
]


@pytest.mark.parametrize("namer", NAMERS, ids=lambda namer: namer.__name__)
def test_an_estimator_and_an_oracle_name_their_claims(namer: type) -> None:
    file = Path(str(sys.modules[namer.__module__].__file__))
    remedy = f"add the line 'Claims: KEY.' to the docstring of {namer.__name__} or of {file.name}"
    assert claims_of(file, namer.__name__), remedy


@pytest.mark.parametrize("contract", contracts(), ids=lambda contract: contract.name)
def test_a_contract_cites_claims_that_there_are(contract: object) -> None:
    claims = contract.claims  # type: ignore[attr-defined]  # a Contract: its fields cannot be checked at run time
    remedy = "give its Contract(...) claims=(KEY, ...); `python -m proofs_check --list` has them"
    assert claims, remedy
    assert set(claims) <= KNOWN, remedy


def test_a_docstring_names_claims_that_there_are_in_their_order() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{each.line}: Claims: {', '.join(each.claims)}"
        for file in sorted((ROOT / "refblo").glob("**/*.py"))
        for each in docstrings(file)
        if not set(each.claims) <= KNOWN or list(each.claims) != sorted(set(each.claims))
    ]
    assert not wrong, "name claims that `python -m proofs_check --list` has, each once, sorted"


@pytest.mark.parametrize("file", WITH_FORMULAS, ids=lambda file: file.stem)
def test_a_formula_stands_beside_a_claim_or_a_source(file: Path) -> None:
    bare = [
        f"{file.name}:{each.line}: {each.owner or 'module'}: {formula}"
        for each, formula in unsourced(file)
    ]
    assert not bare, "add 'Claims: KEY.' to the docstring, or the source: (Author et al. YEAR)"


@pytest.mark.parametrize(
    "text",
    [
        "Say it.\n\nh = f_λ − q·C, all at θ.",
        "Say it.\n\n    θ ← θ − γ ∂_θ L_T,      q ← q − α (H q − f_θ).",
        "Say it.\n\n    ‖q − q*‖ ≤ r/μ",
        "λ* ≈ 0.7489.",
        "Lim (h − truth)/γ².\n\n    −w · (Q a + H s)ᵀ (C + H J)",
    ],
)
def test_a_formula_is_found(text: str) -> None:
    assert NamedDocstring("", 1, text).formulas
    assert not NamedDocstring("", 1, text).sourced
    assert NamedDocstring("", 1, f"{text}\n\nClaims: eq-22.").sourced
    assert NamedDocstring("", 1, f"{text} (Li, Gu and Huang 2022)").sourced


@pytest.mark.parametrize(
    "text",
    [
        "The minimiser where h = 0, by Newton's method.",
        "Say it.\n\nArgs:\n    q: ‖q‖ = r.",
        ">>> q = 1",
    ],
)
def test_what_is_no_formula_is_not_found(text: str) -> None:
    assert not NamedDocstring("", 1, text).formulas


def test_a_claims_line_is_read_over_its_whole_length() -> None:
    assert claims_in("Say it.\n\nClaims: eq-22, text-maml,\nthm-1.") == (
        "eq-22",
        "text-maml",
        "thm-1",
    )

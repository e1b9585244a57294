"""The parts of the site that are made from the code say all that is there, once: 2 s of processor time."""

import re
from pathlib import Path

from docs._ext.from_the_code import estimator_table, mistake_list, slug
from refblo.audit.run import QUICK_STEPS
from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.contracts.registry import contracts
from refblo.estimators.registry import estimator_classes
from refblo.vectors.flags import FLAGS

ROOT = Path(__file__).resolve().parent.parent


def test_every_estimator_has_one_row_with_its_own_claims() -> None:
    rows = estimator_table().splitlines()[2:]
    classes = [cls.__name__ for cls in estimator_classes() if cls.__name__ != "Compiled"]
    assert [row.split("|")[2].strip() for row in rows] == [f"`{name}`" for name in classes]
    by_class = dict(zip(classes, rows, strict=True))
    assert "weights" in by_class["DiscountedHPOSGLD"]
    assert "weights" not in by_class["HPOSGLD"]
    assert all("*" in row for row in rows), "an estimator has no claim"


def test_every_contract_stands_in_one_row() -> None:
    text = estimator_table().replace("\\", "")
    for contract in contracts():
        assert contract.estimator == "oracles" or contract.claim.replace("\\", "") in text


def test_every_mistake_has_one_section_and_no_other_has() -> None:
    sections = re.findall(r"^\(([a-z0-9-]+)\)=\n## (.+)$", mistake_list(), re.MULTILINE)
    assert [target for target, _ in sections] == [slug(mistake) for mistake in Mistake]
    assert len({printed for _, printed in sections}) == len(Mistake)


def test_every_mistake_says_what_it_is_how_it_comes_about_and_what_to_do() -> None:
    for mistake in Mistake:
        for text in (mistake.what, mistake.cause, mistake.remedy):
            assert text.endswith("."), f"{mistake.name}: {text!r}"


def test_every_flag_of_the_vectors_is_a_mistake_or_a_stated_convention() -> None:
    listed = set(re.findall(r"`([^`]+)` \((?:[A-Z_]+)\)", mistake_list()))
    conventions = {name for name, (kind, _) in FLAGS.items() if kind == "CONVENTION"}
    assert listed == set(FLAGS) - conventions
    assert conventions == {"K + 1 terms", "K + 1 transitions"}


def test_the_pages_show_them() -> None:
    assert "```{estimators}" in (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    assert "```{mistakes}" in (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8")


def test_the_page_on_the_audit_names_what_the_quick_one_leaves_out() -> None:
    page = (ROOT / "docs" / "howto" / "audit.md").read_text(encoding="utf-8")
    for contract in contracts():
        assert contract.quick or f"`{contract.name}`" in page, contract.name
    assert f"at most {QUICK_STEPS} of burn-in and {QUICK_STEPS} samples" in page

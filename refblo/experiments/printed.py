"""Tables 2 and 3 of Kim and Hospedales as they are printed."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import final


@final
@dataclass(frozen=True)
class Printed:
    """A printed row: λ*, θ* and their errors, as strings."""

    lam: str
    theta: str
    lam_error: str
    theta_error: str


TRUE_LAM, TRUE_THETA = "0.7487", "0.6629"
"""The row "True from line search" of both tables."""

TABLE_2 = {
    "HPO-SGLD": Printed("0.7488", "0.6629", "0.0001", "0.0000"),
    "IFT-Neumann": Printed("0.7491", "0.6625", "0.0004", "0.0004"),
    "IFT-CG": Printed("0.7488", "0.6628", "0.0001", "0.0001"),
    "RMD": Printed("0.7360", "0.6770", "0.0127", "0.0141"),
    "RMD-FO": Printed("0.6916", "0.7228", "0.0572", "0.0599"),
    "FMD": Printed("0.7360", "0.6770", "0.0127", "0.0141"),
    "RMD (1000 inner iterations)": Printed("0.7489", "0.6627", "0.0002", "0.0002"),
    "RMD-FO (1000 inner iterations)": Printed("0.6916", "0.7226", "0.0572", "0.0597"),
    "FMD (1000 inner iterations)": Printed("0.7489", "0.6627", "0.0002", "0.0002"),
}

TABLE_3 = {
    "HPO-SGLD, τ = 1e-02": Printed("0.7495", "0.6516", "0.0008", "0.0113"),
    "HPO-SGLD, τ = 1e-05": Printed("0.7473", "0.6383", "0.0014", "0.0246"),
    "HPO-SGLD, τ = 1e-10": Printed("0.7468", "0.6411", "0.0019", "0.0218"),
    "IFT-Neumann": Printed("0.7640", "0.6203", "0.0153", "0.0426"),
    "IFT-CG": Printed("0.7544", "0.6318", "0.0057", "0.0311"),
    "RMD": Printed("0.7363", "0.6779", "0.0124", "0.0150"),
    "RMD-FO": Printed("0.6923", "0.7235", "0.0564", "0.0606"),
    "FMD": Printed("0.7364", "0.6778", "0.0123", "0.0149"),
    "RMD (1000 inner iterations)": Printed("0.7517", "0.6484", "0.0030", "0.0145"),
    "RMD-FO (1000 inner iterations)": Printed("0.6926", "0.7075", "0.0561", "0.0446"),
    "FMD (1000 inner iterations)": Printed("0.7517", "0.6484", "0.0030", "0.0145"),
}


def error_column(printed: Mapping[str, Printed]) -> str:
    """What the printed Error column is: the difference of the rounded figures, where it is."""
    checked, odd = 0, []
    for label, row in printed.items():
        for name, value, error, centre in (
            ("λ", row.lam, row.lam_error, TRUE_LAM),
            ("θ", row.theta, row.theta_error, TRUE_THETA),
        ):
            checked += 1
            difference = abs(Decimal(value) - Decimal(centre))
            if difference != Decimal(error):
                odd.append(f"{label} {name}: {error} printed, {difference} by subtraction")
    exceptions = f"; the others: {'; '.join(odd)}" if odd else ""
    return (
        f"The Error column is the difference of the rounded figures in {checked - len(odd)} of "
        f"{checked} places{exceptions}."
    )

"""Wrong hypergradients, computed beside the right one, so that a bug can be named.

Each family of mistakes is a file with one function that yields `Candidate`s: what an implementation
with that mistake returns. `diagnose` compares them with what was observed.
"""

from refblo.conformance.diagnosis.diagnose import diagnose
from refblo.conformance.diagnosis.mistakes import Mistake, Place
from refblo.conformance.diagnosis.result import Diagnosis
from refblo.conformance.diagnosis.setting import Candidate, Setting, Subject

__all__ = ["Candidate", "Diagnosis", "Mistake", "Place", "Setting", "Subject", "diagnose"]

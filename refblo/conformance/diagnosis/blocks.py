"""The inner Hessian taken tensor by tensor: what couples two tensors of θ is left out."""

from collections.abc import Iterator

import numpy as np

from refblo.conformance.diagnosis.mistakes import Mistake
from refblo.conformance.diagnosis.setting import Candidate, Subject
from refblo.conformance.diagnosis.trace import numpy_of


def candidates(subject: Subject) -> Iterator[Candidate]:
    """The solve with the blocks of the Hessian that belong to θ's tensors, and nothing between them."""
    root = subject.root if subject.implicit else None
    if root is None or len(subject.shapes) < 2:
        return
    sizes = [int(np.prod(shape)) for shape in subject.shapes]
    block = np.repeat(np.arange(len(sizes)), sizes)
    hessian = numpy_of(root.hessian)
    if block.size != len(hessian):
        return
    kept = np.where(block[:, None] == block[None, :], hessian, 0.0)
    yield Candidate(
        Mistake.HESSIAN_BLOCKS,
        subject.direct - np.linalg.solve(kept.T, numpy_of(root.slope)) @ numpy_of(root.mixed),
        "the Hessian is taken for each of θ's tensors by itself; what couples them is missing",
    )

"""Pure functions of tensors, traced to a list of operations once, simplified, and run from then on.

What most small problems spend their time on is Python and dispatch: building a graph that is the same at
every step. A kernel records the operations of a function, its backward passes included, while it does them
(`record`), leaves out the ones that change no bit of the result (`simplify`), and runs the rest as one
straight list (`emit`) or hands them to torch's compiler. It is right as long as what the function reads
besides its arguments is what it was: `watch` compares that.
"""

from refblo.kernel.code import UnwatchableError
from refblo.kernel.record import NotRecordableError
from refblo.kernel.trace import Backend, CompilerError, Kernel, Tensors, trace
from refblo.kernel.watch import Reading, read

__all__ = [
    "Backend",
    "CompilerError",
    "Kernel",
    "NotRecordableError",
    "Reading",
    "Tensors",
    "UnwatchableError",
    "read",
    "trace",
]

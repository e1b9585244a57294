"""Pure functions of tensors, traced to a list of operations once, simplified, and run from then on.

What most small problems spend their time on is Python and dispatch: building a graph that is the same at
every step. A kernel records the operations of a function, its backward passes included, on tensors without
numbers (`trace`), leaves out the ones that change no bit of the result (`simplify`), and runs the rest as one
straight list (`emit`) or hands them to torch's compiler.
"""

from refblo.kernel.trace import Backend, CompilerError, Kernel, Tensors, trace

__all__ = ["Backend", "CompilerError", "Kernel", "Tensors", "trace"]

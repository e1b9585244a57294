"""Random numbers as functions of (seed, stream, step): one sequence of words, and what is made of them.

The words are those of NumPy's `Philox` (Philox4x64-10 of Salmon et al., SC 2011). On the CPU NumPy makes them
(`host`); on other devices torch operations do, and they are the same bits (`operations`). Normal numbers,
uniform numbers and index sets are made of the words on the words' device (`normal`, `uniform`, `subset`).
Lanes of normal numbers have two ways (`fill`, in torch operations; `quick`, on the CPU where nobody counts or
traces) to the same bits.
"""

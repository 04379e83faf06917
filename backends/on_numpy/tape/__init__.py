"""A training step, written down while it runs and replayed without Python.

`traced` sees what NumPy is asked for, `recorder` writes it down, `native` knows the addresses of what computes,
`loop` records, checks and replays; `loops.replay`, beside this folder, is the loop that walks a tape.
"""

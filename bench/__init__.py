"""python -m bench: fastgrad beside PyTorch, NumPy by hand, JAX and ONNX Runtime, on one core.

A topic is a module with a function `rows(quick)` that yields Row objects. Peers that are not installed are left out.
"""

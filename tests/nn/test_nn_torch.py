"""nn against PyTorch: initial values of one seed, outputs, gradients, text, state dicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def both(name: str, *arguments: Any, seed: int = 5, **options: Any) -> tuple[Any, Any]:
    """The same module of both packages, built from the same seed."""
    fg.manual_seed(seed)
    ours = getattr(nn, name)(*arguments, **options)
    torch.manual_seed(seed)
    return ours, getattr(torch.nn, name)(*arguments, **options)


def compare(ours: Any, theirs: Any, *inputs: Any, tolerance: float = 1e-5) -> None:
    """Outputs and all gradients, along one random direction of the outputs."""
    a_in = [fg.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]
    b_in = [torch.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs]
    for x in (*a_in, *b_in):
        if hasattr(x, "is_floating_point") and x.is_floating_point():
            x.requires_grad_()
    a_out, b_out = ours(*a_in), theirs(*b_in)
    a_out = a_out if isinstance(a_out, tuple) else (a_out,)
    b_out = b_out if isinstance(b_out, tuple) else (b_out,)
    a_loss, b_loss = 0, 0
    for a, b in zip(a_out, b_out, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)
        direction = np.random.default_rng(0).normal(size=tuple(a.shape)).astype(a.detach().numpy().dtype)
        a_loss, b_loss = a_loss + (a * fg.tensor(direction)).sum(), b_loss + (b * torch.tensor(direction)).sum()
    a_loss.backward()
    b_loss.backward()
    pairs = [*zip(a_in, b_in, strict=True), *zip(ours.parameters(), theirs.parameters(), strict=True)]
    for a, b in pairs:
        if getattr(b, "requires_grad", False):
            assert (a.grad is None) == (b.grad is None)
            if b.grad is not None:
                np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance)


def name_of(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(3).normal(size=shape).astype(dtype)


MODULES = [
    ("Linear", (3, 4), {}, (normal(5, 3),)),
    ("Linear", (3, 4), {"bias": False}, (normal(2, 5, 3),)),
    ("Embedding", (7, 3), {"padding_idx": -2}, (np.array([[0, 5], [6, 5]]),)),
    ("Flatten", (), {}, (normal(2, 3, 4),)),
    *[(name, (), {}, (normal(4, 5),)) for name in ("ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus")],
    *[(name, (), {}, (normal(4, 5),)) for name in ("Tanh", "Sigmoid", "Hardtanh")],
    ("GELU", ("tanh",), {}, (normal(4, 5),)),
    ("Softplus", (3.0, 2.0), {}, (normal(4, 5),)),
    ("Softmax", (1,), {}, (normal(4, 5),)),
    ("LogSoftmax", (0,), {}, (normal(4, 5),)),
    ("L1Loss", (), {}, (normal(4, 5), normal(4, 5) * 2)),
    ("MSELoss", (), {"reduction": "sum"}, (normal(4, 5), normal(4, 5) * 2)),
    ("BCEWithLogitsLoss", (), {}, (normal(4, 5), np.abs(normal(4, 5)) / 4)),
    ("NLLLoss", (), {"ignore_index": 1}, (normal(4, 3), np.array([0, 1, 2, 0]))),
    ("CrossEntropyLoss", (), {"label_smoothing": 0.1}, (normal(4, 3), np.array([0, 1, 2, 0]))),
    ("CrossEntropyLoss", (), {"ignore_index": 1}, (normal(2, 3, 2), np.array([[0, 1], [2, 0]]))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "options", "inputs"), MODULES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_modules(name: str, arguments: tuple, options: dict, inputs: tuple) -> None:
    ours, theirs = both(name, *arguments, **options)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[key].numpy(), value.numpy(), rtol=1e-6, atol=1e-7)
    compare(ours, theirs, *inputs)


KINKS = np.array([-np.inf, -3.0, -1.0, 0.0, -0.0, 1.0, 3.0, 25.0, np.inf, np.nan], np.float64)


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "Hardtanh", "Softplus", "Tanh", "Sigmoid"])
def test_kinks_and_extremes(name: str) -> None:
    x = KINKS
    ours, theirs = both(name)
    compare(ours, theirs, x, tolerance=1e-12)


@given(st.integers(0, 3), st.integers(1, 3), st.booleans(), st.sampled_from(["none", "mean", "sum"]))
def test_nll_shapes(extra: int, classes: int, weighted: bool, reduction: str) -> None:
    shape = (2, classes, *[2] * extra)
    weight = np.abs(normal(classes)) if weighted else None
    target = np.random.default_rng(1).integers(0, classes, (2, *[2] * extra))
    ours = nn.NLLLoss(None if weight is None else fg.tensor(weight), reduction=reduction)
    theirs = torch.nn.NLLLoss(None if weight is None else torch.tensor(weight), reduction=reduction)
    compare(ours, theirs, normal(*shape), target)


FILLS = [
    ("uniform_", (7, 5), {"a": -1.0, "b": 2.0}),
    ("normal_", (7, 5), {"mean": 1.0, "std": 2.0}),
    ("trunc_normal_", (40, 5), {}),
    ("trunc_normal_", (40, 5), {"a": 2.0, "b": 3.0}),
    ("xavier_uniform_", (7, 5), {"gain": 2.0}),
    ("xavier_normal_", (7, 5, 3), {}),
    ("kaiming_uniform_", (7, 5), {"nonlinearity": "relu"}),
    ("kaiming_normal_", (7, 5), {"mode": "fan_out", "a": 0.2}),
    ("orthogonal_", (7, 5), {"gain": 2.0}),
    ("orthogonal_", (3, 5, 2), {}),
    ("sparse_", (7, 5), {"sparsity": 0.3}),
    ("dirac_", (4, 2, 3), {"groups": 2}),
    ("eye_", (3, 4), {}),
]


@pytest.mark.parametrize(("name", "shape", "options"), FILLS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_init(name: str, shape: tuple, options: dict, dtype: str) -> None:
    fg.manual_seed(11)
    a = getattr(nn.init, name)(fg.empty(shape, dtype=getattr(fg, dtype)), **options)
    torch.manual_seed(11)
    b = getattr(torch.nn.init, name)(torch.empty(shape, dtype=getattr(torch, dtype)), **options)
    tolerance = {"float32": 2e-5 if "ortho" in name else 1e-6, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


def test_dropout_of_one_seed() -> None:
    ours, theirs = both("Dropout", 0.3)
    fg.manual_seed(1)
    dropped = ours(fg.ones(100)).tolist()
    torch.manual_seed(1)
    assert dropped == pytest.approx(theirs(torch.ones(100)).tolist())


@pytest.mark.parametrize("order", [1.0, 2.0, 3.5, float("inf")])
def test_clip_grad_norm(order: float) -> None:
    ours, theirs = both("Linear", 3, 4)
    ours(fg.tensor(normal(5, 3))).square().sum().backward()
    theirs(torch.tensor(normal(5, 3))).square().sum().backward()
    a = nn.utils.clip_grad_norm_(ours.parameters(), 0.5, order)
    b = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.5, order)
    assert a.item() == pytest.approx(b.item(), rel=1e-5) and name_of(a.dtype) == name_of(b.dtype)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-7)


def test_messages_of_load_state_dict() -> None:
    texts = []
    for package, tensor in ((nn, fg.ones(3)), (torch.nn, torch.ones(3))):
        net = package.Sequential(package.Linear(2, 2), package.ReLU())
        with pytest.raises(RuntimeError) as error:
            net.load_state_dict({"0.weight": tensor, "1.other": tensor, "new": tensor})
        texts.append(str(error.value).replace("fastgrad.Size", "torch.Size"))
    assert texts[0] == texts[1]


def test_repr_of_containers() -> None:
    def build(p: Any) -> Any:
        return p.Sequential(
            p.ModuleList([p.Linear(2, 2), p.Linear(2, 2), p.ReLU()]),
            p.ModuleDict({"a": p.Dropout(0.1)}),
            p.Sequential(),
        )

    assert repr(build(nn)) == repr(build(torch.nn))


def test_hook_order() -> None:
    logs: list[list[Any]] = []
    for package, make in ((nn, fg), (torch.nn, torch)):
        log: list[Any] = []
        net = package.Sequential(package.Linear(2, 2), package.ReLU())
        for name, module in net.named_modules():
            module.register_forward_pre_hook(lambda m, a, n=name, log=log: log.append(("pre", n)))
            module.register_forward_hook(lambda m, a, o, n=name, log=log: log.append(("post", n)))
            module.register_full_backward_pre_hook(lambda m, g, n=name, log=log: log.append(("bpre", n)))
            module.register_full_backward_hook(
                lambda m, gi, go, n=name, log=log: log.append(("b", n, [g is None for g in gi], len(go)))
            )
        net(make.ones(3, 2)).sum().backward()
        logs.append(log)
    assert logs[0] == logs[1]

"""The programs of the tutorial that fastgrad implements: Functions, Modules and a recurrent network made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastgrad as fg
import fastgrad.nn as nn
from fastgrad.autograd import Function, Variable, gradcheck, gradgradcheck


class ReLUF(Function):
    def forward(self, input: Any) -> Any:
        self.save_for_backward(input)
        return input.clamp(min=0)

    def backward(self, grad_output: Any) -> Any:
        (input,) = self.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input < 0] = 0
        return grad_input


class StaticReLUF(Function):
    @staticmethod
    def forward(ctx: Any, input: Any) -> Any:
        ctx.save_for_backward(input)
        return input.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, grad_output: Any) -> Any:
        (input,) = ctx.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input < 0] = 0
        return grad_input


class LinearF(Function):
    def forward(self, input: Any, weight: Any, bias: Any = None) -> Any:
        self.save_for_backward(input, weight, bias)
        output = input.mm(weight.t())
        if bias is not None:
            output += bias.unsqueeze(0).expand_as(output)
        return output

    def backward(self, grad_output: Any) -> Any:
        input, weight, bias = self.saved_tensors
        grad_input = grad_weight = grad_bias = None
        if self.needs_input_grad[0]:
            grad_input = grad_output.mm(weight)
        if self.needs_input_grad[1]:
            grad_weight = grad_output.t().mm(input)
        if bias is not None and self.needs_input_grad[2]:
            grad_bias = grad_output.sum(0).squeeze(0)
        return (grad_input, grad_weight) if bias is None else (grad_input, grad_weight, grad_bias)


class StaticLinearF(Function):
    @staticmethod
    def forward(ctx: Any, input: Any, weight: Any, bias: Any = None) -> Any:
        ctx.save_for_backward(input, weight, bias)
        output = input.mm(weight.t())
        if bias is not None:
            output += bias.unsqueeze(0).expand_as(output)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Any) -> Any:
        input, weight, bias = ctx.saved_tensors
        return (
            grad_output.mm(weight) if ctx.needs_input_grad[0] else None,
            grad_output.t().mm(input) if ctx.needs_input_grad[1] else None,
            grad_output.sum(0) if bias is not None and ctx.needs_input_grad[2] else None,
        )


class Linear(nn.Module):
    def __init__(self, input_features: int, output_features: int, bias: bool = True) -> None:
        super().__init__()
        self.input_features = input_features
        self.output_features = output_features
        self.weight = nn.Parameter(fg.Tensor(output_features, input_features))
        if bias:
            self.bias = nn.Parameter(fg.Tensor(output_features))
        else:
            self.register_parameter("bias", None)
        self.weight.data.uniform_(-0.1, 0.1)
        if bias:
            self.bias.data.uniform_(-0.1, 0.1)

    def forward(self, input: Any) -> Any:
        return LinearF()(input, self.weight, self.bias) if self.bias is not None else LinearF()(input, self.weight)


class RNNCell(nn.Module):
    """h' = relu(x W_ih^T + b_ih + h W_hh^T + b_hh), its pre-activation's gradient clipped by a hook."""

    def __init__(self, input_size: int, hidden_size: int, clip: float | None = None) -> None:
        super().__init__()
        self.hidden_size, self.clip = hidden_size, clip
        self.weight_ih = nn.Parameter(fg.Tensor(hidden_size, input_size))
        self.weight_hh = nn.Parameter(fg.Tensor(hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(fg.Tensor(hidden_size))
        self.bias_hh = nn.Parameter(fg.Tensor(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        stdv = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            weight.data.uniform_(-stdv, stdv)

    def forward(self, input: Any, hidden: Any) -> Any:
        z = nn.functional.linear(input, self.weight_ih, self.bias_ih) + nn.functional.linear(
            hidden, self.weight_hh, self.bias_hh
        )
        if self.clip is not None and z.requires_grad:
            clip = self.clip
            z.register_hook(lambda gradient: gradient.clamp(-clip, clip))
        return z.relu()


class RNN(nn.Module):
    """Loops over inputs of shape (batch, time, features) and returns the list of states."""

    def __init__(self, input_size: int, hidden_size: int, clip: float | None = None) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.cell = RNNCell(input_size, hidden_size, clip)

    def forward(self, inputs: Any, hidden: Any = None) -> list[Any]:
        state = fg.zeros(inputs.size(0), self.hidden_size, dtype=inputs.dtype) if hidden is None else hidden
        states = []
        for t in range(inputs.size(1)):
            state = self.cell(inputs[:, t, :], state)
            states.append(state)
        return states


@pytest.mark.parametrize("relu", [lambda x: ReLUF()(x), StaticReLUF.apply], ids=["instance", "static"])
def test_relu(relu: Any) -> None:
    x = Variable(fg.tensor([[-1.0, 2.0], [0.5, -3.0]], dtype=fg.float64), requires_grad=True)
    y = relu(x)
    assert y.tolist() == [[0.0, 2.0], [0.5, 0.0]]
    y.backward(fg.tensor([[1.0, 10.0], [100.0, 1000.0]], dtype=fg.float64))
    assert x.grad.tolist() == [[0.0, 10.0], [100.0, 0.0]]
    assert gradcheck(relu, (x,)) and gradgradcheck(relu, (x,))


@pytest.mark.parametrize("linear", [lambda *a: LinearF()(*a), StaticLinearF.apply], ids=["instance", "static"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "asked", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
)
def test_linear(linear: Any, bias: bool, asked: tuple[bool, ...]) -> None:
    tensors = [
        fg.randn(*s, dtype=fg.float64).requires_grad_(a)
        for s, a in zip(((20, 20), (30, 20), (30,)), asked, strict=True)
    ]
    tensors = tensors if bias else tensors[:2]
    if not any(t.requires_grad for t in tensors):
        return
    y = linear(*tensors)
    reference = nn.functional.linear(*tensors)
    np.testing.assert_allclose(y.detach().numpy(), reference.detach().numpy(), rtol=1e-12)
    inputs = [t for t in tensors if t.requires_grad]
    w = fg.randn(20, 30, dtype=fg.float64)
    for a, b in zip(fg.autograd.grad(y, inputs, w), fg.autograd.grad(reference, inputs, w), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


def test_gradcheck_of_the_tutorials_linear() -> None:
    tensors = tuple(fg.randn(*s, dtype=fg.float64).requires_grad_() for s in ((4, 3), (2, 3), (2,)))
    assert gradcheck(lambda *a: LinearF()(*a), tensors, eps=1e-6, atol=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_module(bias: bool) -> None:
    module = Linear(3, 2, bias)
    assert [name for name, _ in module.named_parameters()] == ["weight"] + ["bias"] * bias
    assert (module.bias is None) != bias and list(module.state_dict()) == ["weight"] + ["bias"] * bias
    module(fg.randn(5, 3)).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())
    assert module.weight.abs().max().item() <= 0.1


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fused_rnn_equals_the_loop(steps: int, dtype: str) -> None:
    looped = RNN(4, 5).to(getattr(fg, dtype))
    fused = nn.RNN(4, 5, nonlinearity="relu", batch_first=True).to(getattr(fg, dtype))
    fused.load_state_dict({f"{name}_l0": p for name, p in looped.cell.state_dict().items()})
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-12}
    x = fg.randn(3, steps, 4, dtype=getattr(fg, dtype))
    h = fg.randn(3, 5, dtype=getattr(fg, dtype))
    results = []
    for network in (looped, fused):
        x_leaf, h_leaf = x.clone().requires_grad_(), h.clone().requires_grad_()
        y = fg.stack(network(x_leaf, h_leaf), 1) if network is looped else network(x_leaf, h_leaf.unsqueeze(0))[0]
        (y * y).sum().backward()
        parameters = looped.cell.parameters() if network is looped else fused.parameters()
        results.append([y.detach(), x_leaf.grad, h_leaf.grad, *(p.grad for p in parameters)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), **tolerance)


class Classifier(nn.Module):
    """Tells from a sequence's last state which of two sine waves it was."""

    def __init__(self, clip: float) -> None:
        super().__init__()
        self.rnn = RNN(1, 12, clip)
        self.out = Linear(12, 2)

    def forward(self, inputs: Any) -> Any:
        return self.out(self.rnn(inputs)[-1])


def test_a_network_learns_with_adam_and_clipped_gradients() -> None:
    fg.manual_seed(3)
    phase = fg.rand(64, 1) * 2 * math.pi
    target = fg.arange(64) % 2
    frequency = fg.where(target == 0, 0.4, 1.1).unsqueeze(1)
    inputs = (fg.arange(12.0) * frequency + phase).sin().unsqueeze(2)
    network = Classifier(clip=0.05)
    optimizer = fg.optim.Adam(network.parameters(), lr=0.02)
    criterion = nn.CrossEntropyLoss()
    for _ in range(150):
        optimizer.zero_grad()
        loss = criterion(network(inputs), target)
        loss.backward()
        optimizer.step()
    assert (network(inputs).argmax(1) == target).float().mean().item() > 0.9
    assert loss.item() < 0.35


def test_the_hook_clips_the_pre_activation() -> None:
    rnn = RNN(2, 3, clip=1e-3)
    x = fg.randn(4, 1, 2)
    state = rnn(x)[0]
    (state * 1000).sum().backward()
    active = (state > 0).float()
    np.testing.assert_allclose(rnn.cell.bias_ih.grad.numpy(), (active * 1e-3).sum(0).numpy(), rtol=1e-5)

"""The programs of the tutorial that the project implements: layers as Functions in both styles, Modules on top of them,
an RNN written as a loop, trained with Adam under a gradient-clipping hook, and the fused RNN with the same weights.

They are written as in PyTorch, `torch` being fastgrad.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastgrad as torch
from fastgrad import nn, optim
from fastgrad.autograd import Function, Variable, gradcheck


class InstanceReLU(Function):
    """One object a call, as in PyTorch 0.1."""

    def forward(self, input: Any) -> Any:
        self.save_for_backward(input)
        return input.clamp(min=0)

    def backward(self, grad_output: Any) -> Any:
        (input,) = self.saved_tensors
        grad_input = grad_output.clone()
        grad_input[input < 0] = 0
        return grad_input


class StaticReLU(Function):
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


class InstanceLinear(Function):
    asked: Any = None

    def forward(self, input: Any, weight: Any, bias: Any = None) -> Any:
        self.save_for_backward(input, weight, bias)
        output = input.mm(weight.t())
        if bias is not None:
            output += bias.unsqueeze(0).expand_as(output)
        return output

    def backward(self, grad_output: Any) -> Any:
        input, weight, bias = self.saved_tensors
        grad_input = grad_weight = grad_bias = None
        type(self).asked = tuple(self.needs_input_grad)
        if self.needs_input_grad[0]:
            grad_input = grad_output.mm(weight)
        if self.needs_input_grad[1]:
            grad_weight = grad_output.t().mm(input)
        if bias is not None and self.needs_input_grad[2]:
            grad_bias = grad_output.sum(0).squeeze(0)
        if bias is None:
            return grad_input, grad_weight
        return grad_input, grad_weight, grad_bias


class StaticLinear(Function):
    asked: Any = None

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
        grad_input = grad_weight = grad_bias = None
        StaticLinear.asked = tuple(ctx.needs_input_grad)
        if ctx.needs_input_grad[0]:
            grad_input = grad_output.mm(weight)
        if ctx.needs_input_grad[1]:
            grad_weight = grad_output.t().mm(input)
        if bias is not None and ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum(0)
        return grad_input, grad_weight, grad_bias


RELUS = {"instance": lambda x: InstanceReLU()(x), "static": StaticReLU.apply}
LINEARS = {"instance": lambda *args: InstanceLinear()(*args), "static": StaticLinear.apply}
CLASSES = {"instance": InstanceLinear, "static": StaticLinear}


def randn(*shape: int, requires_grad: bool = True) -> Any:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=requires_grad)


@pytest.mark.parametrize("style", ["instance", "static"])
class TestFunctions:
    def test_relu(self, style: str) -> None:
        x = Variable(torch.tensor([-1.0, 2.0, -3.0, 4.0]), requires_grad=True)
        y = RELUS[style](x)
        y.backward(torch.ones(4) * 3)
        assert y.tolist() == [0.0, 2.0, 0.0, 4.0] and x.grad.tolist() == [0.0, 3.0, 0.0, 3.0]

    @pytest.mark.parametrize("bias", [True, False])
    def test_linear_gradients(self, style: str, bias: bool) -> None:
        arguments = (randn(4, 3), randn(2, 3), *([randn(2)] if bias else []))
        assert gradcheck(LINEARS[style], arguments, eps=1e-6, atol=1e-8)

    def test_only_what_is_asked_for(self, style: str) -> None:
        x, w, b = randn(4, 3, requires_grad=False), randn(2, 3), randn(2, requires_grad=False)
        LINEARS[style](x, w, b).sum().backward()
        assert CLASSES[style].asked == (False, True, False)
        assert x.grad is None and b.grad is None
        np.testing.assert_allclose(w.grad.numpy(), np.ones((4, 2)).T @ x.numpy(), rtol=1e-12)


def test_an_instance_is_good_for_one_call() -> None:
    function = InstanceReLU()
    function(torch.ones(2, requires_grad=True))
    with pytest.raises(RuntimeError, match="new"):
        function(torch.ones(2, requires_grad=True))


class Linear(nn.Module):
    def __init__(self, input_features: int, output_features: int, bias: bool = True) -> None:
        super().__init__()
        self.input_features = input_features
        self.output_features = output_features
        self.weight = nn.Parameter(torch.empty(output_features, input_features))
        if bias:
            self.bias = nn.Parameter(torch.empty(output_features))
        else:
            self.register_parameter("bias", None)
        self.weight.data.uniform_(-0.1, 0.1)
        if bias:
            self.bias.data.uniform_(-0.1, 0.1)

    def forward(self, input: Any) -> Any:
        return StaticLinear.apply(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.input_features}, out_features={self.output_features}, bias={self.bias is not None}"


@pytest.mark.parametrize("bias", [True, False])
def test_linear_module(bias: bool) -> None:
    layer = Linear(3, 2, bias)
    assert repr(layer) == f"Linear(in_features=3, out_features=2, bias={bias})"
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"][: 1 + bias]
    reference = nn.Linear(3, 2, bias)
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(5, 3)
    np.testing.assert_allclose(layer(x).detach().numpy(), reference(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert abs(layer.weight).max().item() <= 0.1


class RNNCell(nn.Module):
    """relu(x W_ih^T + b_ih + h W_hh^T + b_hh); the gradient of what the relu gets may be clipped by a hook."""

    def __init__(self, input_size: int, hidden_size: int, clip: float | None = None) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.clip = clip
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        stdv = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            weight.data.uniform_(-stdv, stdv)

    def forward(self, input: Any, hidden: Any) -> Any:
        pre_activation = StaticLinear.apply(input, self.weight_ih, self.bias_ih) + StaticLinear.apply(
            hidden, self.weight_hh, self.bias_hh
        )
        if self.clip is not None and pre_activation.requires_grad:
            pre_activation.register_hook(lambda grad: grad.clamp(-self.clip, self.clip))
        return StaticReLU.apply(pre_activation)


class RNN(nn.Module):
    """The list of states over `inputs[:, t, :]`."""

    def __init__(self, input_size: int, hidden_size: int, clip: float | None = None) -> None:
        super().__init__()
        self.cell = RNNCell(input_size, hidden_size, clip)

    def forward(self, inputs: Any, initial_state: Any) -> list[Any]:
        state, states = initial_state, []
        for t in range(inputs.size(1)):
            state = self.cell(inputs[:, t, :], state)
            states.append(state)
        return states


class TestRNN:
    def test_initial_values(self) -> None:
        cell = RNNCell(3, 25)
        assert all(0 < p.abs().max().item() <= 0.2 and p.requires_grad and p.is_leaf for p in cell.parameters())

    @pytest.mark.parametrize("steps", [1, 6])
    def test_the_fused_rnn_is_the_loop(self, steps: int) -> None:
        loop = RNN(3, 4).double()
        fused = nn.RNN(3, 4, nonlinearity="relu", batch_first=True, dtype=torch.float64)
        fused.load_state_dict({name[5:] + "_l0": value for name, value in loop.state_dict().items()})
        results = []
        inputs, initial = randn(2, steps, 3), randn(2, 4)
        direction = randn(2, steps, 4, requires_grad=False)
        for model, shape in ((loop, (2, 4)), (fused, (1, 2, 4))):
            outputs = model(inputs, initial.reshape(shape))
            outputs = outputs[0] if model is fused else torch.stack(outputs, 1)
            gradients = torch.autograd.grad((outputs * direction).sum(), [inputs, initial, *model.parameters()])
            results.append([outputs, *gradients])
        for a, b in zip(*results, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)

    def test_the_hook_clips_every_step(self) -> None:
        rnn = RNN(2, 3, clip=0.01)
        with torch.no_grad():
            for parameter in rnn.parameters():
                parameter.abs_()
        inputs, initial = torch.rand(1, 1, 2), torch.rand(1, 3)
        (state,) = rnn(inputs, initial)
        (state.sum() * 100).backward()
        assert rnn.cell.bias_ih.grad.tolist() == pytest.approx([0.01] * 3)

    def test_it_learns_to_count(self) -> None:
        """The sum of eight random bits, read one by one: mean squared error from about 2 to below 0.05."""
        torch.manual_seed(1)
        rnn, head = RNN(1, 16, clip=10.0), Linear(16, 1)
        optimizer = optim.Adam([*rnn.parameters(), *head.parameters()], lr=0.01)
        inputs = torch.randint(0, 2, (64, 8, 1)).float()
        target = inputs.sum(1)
        losses = []
        for _ in range(150):
            prediction = head(rnn(inputs, torch.zeros(64, 16))[-1])
            loss = nn.functional.mse_loss(prediction, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[0] > 1 and losses[-1] < 0.05

"""Views share memory, shapes and strides are PyTorch's, and what cannot be a view says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastgrad as fg

VIEWS: list[tuple[str, Callable[[Any], Any], tuple[int, ...], tuple[int, ...]]] = [
    # on a contiguous (2, 3, 4): name, view, shape, stride
    ("view", lambda x: x.view(6, 4), (6, 4), (4, 1)),
    ("view -1", lambda x: x.view(-1), (24,), (1,)),
    ("view a transposed", lambda x: x.transpose(0, 2).view(4, 3, 2, 1), (4, 3, 2, 1), (1, 4, 12, 12)),
    ("reshape", lambda x: x.reshape(3, 8), (3, 8), (8, 1)),
    ("transpose", lambda x: x.transpose(0, -1), (4, 3, 2), (1, 4, 12)),
    ("permute", lambda x: x.permute(1, 2, 0), (3, 4, 2), (4, 1, 12)),
    ("mT", lambda x: x.mT, (2, 4, 3), (12, 1, 4)),
    ("t", lambda x: x[0].t(), (4, 3), (1, 4)),
    ("T", lambda x: x[0].T, (4, 3), (1, 4)),
    ("expand", lambda x: x[:, :1].expand(2, 5, 4), (2, 5, 4), (12, 0, 1)),
    ("expand a new axis", lambda x: x[0].expand(7, -1, -1), (7, 3, 4), (0, 4, 1)),
    ("squeeze", lambda x: x[:, :1].squeeze(), (2, 4), (12, 1)),
    ("unsqueeze", lambda x: x.unsqueeze(1), (2, 1, 3, 4), (12, 12, 4, 1)),
    ("unsqueeze last", lambda x: x.unsqueeze(-1), (2, 3, 4, 1), (12, 4, 1, 1)),
    ("flatten", lambda x: x.flatten(1), (2, 12), (12, 1)),
    ("narrow", lambda x: x.narrow(1, 1, 2), (2, 2, 4), (12, 4, 1)),
    ("select", lambda x: x.select(1, 2), (2, 4), (12, 1)),
    ("slice with a step", lambda x: x[:, ::2, 1::3], (2, 2, 1), (12, 8, 3)),
    ("split", lambda x: x.split(2, 1)[1], (2, 1, 4), (12, 4, 1)),
    ("chunk", lambda x: x.chunk(3, -1)[1], (2, 3, 2), (12, 4, 1)),
    ("unbind", lambda x: x.unbind(1)[2], (2, 4), (12, 1)),
    ("detach", lambda x: x.detach(), (2, 3, 4), (12, 4, 1)),
    ("contiguous already", lambda x: x.contiguous(), (2, 3, 4), (12, 4, 1)),
]


@pytest.mark.parametrize(("name", "view", "shape", "stride"), VIEWS, ids=[v[0] for v in VIEWS])
def test_view_shares_memory(
    name: str, view: Callable[[Any], Any], shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    x = fg.arange(24.0).view(2, 3, 4)
    y = view(x)
    assert tuple(y.shape) == shape and y.stride() == stride
    offset = y.storage_offset()
    strided = np.lib.stride_tricks.as_strided(np.arange(24.0)[offset:], shape, tuple(8 * s for s in stride))
    np.testing.assert_array_equal(y.numpy(), strided)
    x.fill_(-1.0)
    assert (y == -1.0).all()


def test_copies_where_a_view_is_impossible() -> None:
    x = fg.arange(6.0).view(2, 3).t()
    y = x.reshape(6)
    assert y.tolist() == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    y.zero_()
    assert x.sum().item() == 15.0
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        x.view(6)
    c = x.contiguous()
    assert c.is_contiguous() and c.tolist() == x.tolist() and c.data_ptr() != x.data_ptr()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.view(5),
        lambda x: x.view(-1, -1),
        lambda x: x.view(-2, 3),
        lambda x: x.view(4, -1),
        lambda x: x.reshape(7),
        lambda x: x.transpose(0, 2),
        lambda x: x.permute(0, 0),
        lambda x: x.permute(0),
        lambda x: x.expand(3, 3),
        lambda x: x.expand(3),
        lambda x: x.expand(-1, 2, 3),
        lambda x: x.unsqueeze(4),
        lambda x: x.squeeze(2),
        lambda x: x.flatten(1, 0),
        lambda x: x.flatten(2),
        lambda x: x.narrow(0, 1, 2),
        lambda x: x.narrow(0, 0, -1),
        lambda x: x.select(1, 3),
        lambda x: x.split(0),
        lambda x: x.split(-1),
        lambda x: x.split([1, 2]),
        lambda x: x.chunk(0),
        lambda x: x.unbind(3),
        lambda x: x.sum(2),
        lambda x: x.sum((0, 0)),
        lambda x: x.max(-3),
        lambda x: x.unsqueeze(0).t(),
        lambda x: fg.cat([]),
        lambda x: fg.cat([x, fg.ones(3, 2)]),
        lambda x: fg.cat([x, fg.ones(2)]),
        lambda x: fg.cat([x], 2),
        lambda x: fg.stack([]),
        lambda x: fg.stack([x, x.t()]),
        lambda x: fg.zeros(1)[0].unbind(),
    ],
)
def test_impossible_shapes(call: Callable[[Any], Any]) -> None:
    with pytest.raises((RuntimeError, IndexError, ValueError)) as caught:
        call(fg.arange(6).view(2, 3))
    assert str(caught.value)


def test_zero_dim_takes_dim_0_and_minus_1() -> None:
    x = fg.tensor(3.0)
    assert x.sum(0).item() == x.max(-1)[0].item() == x.softmax(0).item() * 3 == 3.0
    assert x.transpose(0, -1).item() == 3.0 and x.flatten().shape == (1,) and x.t().shape == ()
    with pytest.raises(IndexError):
        x.sum(1)


def test_unflatten_views_as_and_movement() -> None:
    x = fg.arange(24).view(4, 6)
    assert x.unflatten(1, (2, 3)).shape == (4, 2, 3) and x.unflatten(1, (-1, 3)).shape == (4, 2, 3)
    assert x.view_as(fg.zeros(6, 4)).shape == x.reshape_as(fg.zeros(6, 4)).shape == (6, 4)
    assert fg.broadcast_to(x[0], (2, 6)).shape == (2, 6)


def test_repeat_copies() -> None:
    x = fg.arange(3)
    y = x.repeat(2, 2)
    assert y.tolist() == [[0, 1, 2, 0, 1, 2]] * 2
    y[0] = 9
    assert x.tolist() == [0, 1, 2]


def test_version_is_shared_between_views() -> None:
    x = fg.zeros(2, 2)
    v = x[0]
    v.add_(1.0)
    assert x._version == v._version == 1 and x.detach()._version == 1


def test_many_axes() -> None:
    x = fg.arange(2.0).view((1,) * 11 + (2,))
    assert (x + 1).sum().item() == 3.0 and x.ndim == 12
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        fg.zeros((1,) * 100)

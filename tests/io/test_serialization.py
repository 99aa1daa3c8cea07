"""save and load: what comes back, what is refused, and that nothing else happens."""

from __future__ import annotations

import io
import json
import os
import pathlib
import struct
import zlib
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastgrad as fg
from fastgrad import nn

DTYPES = [fg.float32, fg.float64, fg.int64, fg.int32, fg.uint8, fg.bool]


def written(value: Any) -> bytes:
    buffer = io.BytesIO()
    fg.save(value, buffer)
    return buffer.getvalue()


def read(content: bytes) -> Any:
    return fg.load(io.BytesIO(content))


def same(a: Any, b: Any) -> bool:
    """Equal with equal types, tensors by dtype, shape, strides and elements."""
    if isinstance(a, fg.Tensor):
        facts = [(t.dtype, t.shape, t.stride() if t.numel() else None, t.tolist()) for t in (a, b)]
        return repr(facts[0]) == repr(facts[1])
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        pairs = zip(a.items(), b.items(), strict=True) if len(a) == len(b) else [((0, 0), (1, 1))]
        return all(same(left, right) for left, right in pairs)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return repr(a) == repr(b)


@st.composite
def tensors(draw: Any) -> Any:
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    tensor = fg.randint(0, 2, shape).to(draw(st.sampled_from(DTYPES)))
    if tensor.ndim > 1 and draw(st.booleans()):
        tensor = tensor.transpose(0, -1)
    if tensor.ndim and tensor.shape[0] > 1 and draw(st.booleans()):
        tensor = tensor[1:]
    return tensor


plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=20), st.sampled_from(DTYPES)
)  # fmt: skip
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text()))
nested = st.recursive(
    st.one_of(plain, tensors()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=8,
)


class TestRoundTrip:
    @given(nested)
    def test_values(self, value: Any) -> None:
        content = written(value)
        assert len(content) % 64 == 0 and same(read(content), value)

    def test_a_module_and_its_optimizer(self, tmp_path: pathlib.Path) -> None:
        net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        optimizer = fg.optim.Adam(net.parameters())
        net(fg.randn(5, 3)).sum().backward()
        optimizer.step()
        path = tmp_path / "checkpoint"
        fg.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, path)
        other = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        checkpoint = fg.load(str(path), map_location="cpu", weights_only=True)
        other.load_state_dict(checkpoint["net"])
        resumed = fg.optim.Adam(other.parameters())
        resumed.load_state_dict(checkpoint["optimizer"])
        assert same(dict(other.state_dict()), dict(net.state_dict())) and checkpoint["epoch"] == 3
        assert same(resumed.state_dict(), optimizer.state_dict())

    def test_parameters_come_back_as_tensors(self) -> None:
        loaded = read(written(nn.Parameter(fg.ones(2))))
        assert type(loaded) is fg.Tensor and not loaded.requires_grad and loaded.is_leaf

    def test_shared_memory_is_shared_again(self) -> None:
        base = fg.arange(1000.0)
        part = base[10:20]
        content = written([part, part.reshape(2, 5).t(), part[2:4], base[15:15], fg.ones(1)])
        assert len(content) < 1000  # of `base` only what is covered
        a, b, c, d, e = read(content)
        assert b.stride() == (1, 5) and d.shape == (0,) and e.item() == 1.0
        a[2] = -1.0
        assert b[2, 0].item() == -1.0 and c[0].item() == -1.0

    def test_an_expanded_tensor_stays_small(self) -> None:
        content = written(fg.ones(1).expand(10_000))
        assert len(content) <= 256 and read(content).shape == (10_000,)

    def test_loaded_memory_can_be_written(self) -> None:
        loaded = read(written(fg.zeros(3)))
        loaded.add_(1)
        assert loaded.tolist() == [1.0, 1.0, 1.0]

    def test_two_values_in_one_stream_are_refused_together_and_read_apart(self) -> None:
        first, second = written(1), written(2)
        with pytest.raises(RuntimeError, match="says that it has"):
            read(first + second)
        assert read((first + second)[len(first) :]) == 2


class Picklable:
    def __reduce__(self) -> Any:
        return os.system, ("false",)


class TestRefusedValues:
    @pytest.mark.parametrize(
        ("value", "error", "text"),
        [
            ({"a": [1, Picklable()]}, TypeError, r"got .*Picklable at the value\['a'\]\[1\]"),
            ({1, 2}, TypeError, "builtins.set"),
            (print, TypeError, "builtin_function"),
            ({fg.ones(1): 1}, TypeError, "key of a dict must not be a tensor"),
        ],
    )
    def test_types(self, value: Any, error: type[Exception], text: str, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "file"
        fg.save("before", path)
        with pytest.raises(error, match=text):
            fg.save(value, path)
        assert fg.load(path) == "before" and os.listdir(tmp_path) == ["file"]

    def test_depth(self) -> None:
        value: list = []
        value.append(value)
        with pytest.raises(ValueError, match="nested deeper than 64"):
            written(value)


class TestWriting:
    def test_a_failure_leaves_the_old_file(self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "file"
        fg.save(1, path)

        def fail(*_: Any) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            fg.save(2, path)
        assert fg.load(path) == 1 and os.listdir(tmp_path) == ["file"]

    def test_the_content_is_on_the_disk_before_the_name(
        self, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda f: (order.append("fsync"), fsync(f)))
        monkeypatch.setattr(os, "replace", lambda a, b: (order.append("replace"), replace(a, b)))
        fg.save(1, tmp_path / "file")
        assert order[:2] == ["fsync", "replace"]

    @pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX")
    def test_links_and_modes(self, tmp_path: pathlib.Path) -> None:
        target, link = tmp_path / "target", tmp_path / "link"
        fg.save(1, target)
        link.symlink_to(target)
        fg.save(2, link)
        assert link.is_symlink() and fg.load(target) == 2
        mask = os.umask(0o022)
        os.umask(mask)
        assert target.stat().st_mode & 0o777 == 0o666 & ~mask

    @pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no /dev/null")
    def test_a_device_is_not_replaced(self) -> None:
        fg.save(1, "/dev/null")
        assert not os.path.isfile("/dev/null")

    def test_directories(self, tmp_path: pathlib.Path) -> None:
        with pytest.raises(OSError):
            fg.save(1, tmp_path)
        with pytest.raises(FileNotFoundError):
            fg.save(1, tmp_path / "none" / "file")
        with pytest.raises(FileNotFoundError):
            fg.load(tmp_path / "none")


def forged(header: Any, tail: bytes = b"", total: int | None = None) -> bytes:
    """A file with a right checksum and a header of the forger's choice."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    start = 32 + len(text)
    body = text + bytes(-start % 64) + tail
    lengths = struct.pack("<QQ", len(text), 32 + len(body) if total is None else total)
    return struct.pack("<8sII", b"fastgrad", 1, zlib.crc32(text, zlib.crc32(lengths))) + lengths + body


ONES = struct.pack("<2f", 1.0, 1.0)
PADDED = ONES + bytes(56)
STORAGE = ["float32", 2, zlib.crc32(ONES)]


class TestDamage:
    CONTENT = None

    @classmethod
    def content(cls) -> bytes:
        cls.CONTENT = cls.CONTENT or written({"a": fg.arange(5.0), "b": (fg.ones(3, dtype=fg.bool), "text")})
        return cls.CONTENT

    def test_every_truncation(self) -> None:
        content = self.content()
        for length in range(len(content)):
            with pytest.raises(RuntimeError, match=r"\[load\]"):
                read(content[:length])

    @given(st.data())
    def test_flipped_bits(self, data: Any) -> None:
        content = bytearray(self.content())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(RuntimeError, match=r"\[load\]"):
            read(bytes(content))

    @given(st.binary(max_size=200))
    def test_foreign_bytes(self, content: bytes) -> None:
        for start in (b"", b"fastgrad", self.content()[:16], self.content()[:32]):
            with pytest.raises(RuntimeError, match=r"\[load\]"):
                read(start + content)

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (b"", "truncated or not one of"),
            (b"PK\x03\x04" + bytes(60), "not one of fastgrad.save"),
            (b"fastgrad" + struct.pack("<I", 2) + bytes(52), "version of the file must be 1; got 2"),
            (forged({"value": 1, "storages": []}, total=1 << 60), "says that it has 1152921504606846976"),
            (forged(b"[" * 100_000), "must be JSON"),
            (forged(b"\xff"), "must be JSON"),
            (forged([1]), 'must have "value" and "storages"'),
            (forged({"value": 1}), 'must have "value" and "storages"'),
            (forged({"value": 1, "storages": 3}), 'must have "value" and "storages"'),
            (forged({"value": 1, "storages": [["float32", 1 << 61, 0]]}), "storages must fill the file"),
            (forged({"value": 1, "storages": [["float32", -1, 0]]}), "dtype, number of elements"),
            (forged({"value": 1, "storages": [["complex64", 1, 0]]}), "dtype, number of elements"),
            (forged({"value": 1, "storages": [[["float32"], 1, 0]]}), "dtype, number of elements"),
            (forged({"value": 1, "storages": [["float32", True, 0]]}), "dtype, number of elements"),
            (forged({"value": 1, "storages": []}, bytes(64)), "storages must fill the file"),
            (forged({"value": 1, "storages": [["float32", 2, 1]]}, PADDED), "storage 0 must have the checksum"),
            (forged({"value": 1, "storages": [STORAGE]}, ONES + b"\1" * 56), "is damaged: storage 0"),
            (forged({"value": 1, "storages": [["bool", 1, zlib.crc32(b"\2")]]}, b"\2" + bytes(63)), "0 or 1"),
            (forged({"value": {}, "storages": []}), "one of the names"),
            (forged({"value": {"eval": "1"}, "storages": []}), "one of the names"),
            (forged({"value": {"tuple": [], "dict": []}, "storages": []}), "one of the names"),
            (forged({"value": {"tuple": 3}, "storages": []}), "must be a list"),
            (forged({"value": {"dict": [[1, 2, 3]]}, "storages": []}), "list of pairs"),
            (forged({"value": {"dict": [[[], 2]]}, "storages": []}), "must be hashable"),
            (forged({"value": {"bytes": "%"}, "storages": []}), "must be base64"),
            (forged({"value": {"bytes": 3}, "storages": []}), "must be base64"),
            (forged({"value": {"dtype": "object"}, "storages": []}), "a dtype must be"),
            (forged({"value": {"dtype": []}, "storages": []}), "a dtype must be"),
            (forged({"value": json.loads("[" * 70 + "]" * 70), "storages": []}), "nested deeper"),
        ],
    )  # fmt: skip
    def test_forgeries(self, content: bytes, text: str) -> None:
        with pytest.raises(RuntimeError, match=text):
            read(content)

    @pytest.mark.parametrize(
        ("tensor", "text"),
        [
            ([0, 0, [3], [1]], "within its storage of 2"),
            ([0, 1, [2], [1]], "within its storage of 2"),
            ([0, 0, [2], [2]], "within its storage of 2"),
            ([0, 0, [1 << 61, 1 << 61], [1, 1]], "within its storage of 2"),
            ([0, -1, [1], [1]], "must be counts"),
            ([0, 0, [-1], [1]], "must be counts"),
            ([0, 0, [2], [-1]], "must be counts"),
            ([1, 0, [1], [1]], "the storage exist"),
            ([0, 0, [1.0], [1]], "must be counts"),
            ([0, 0, [1 << 62], [0]], "must be counts"),
            ([0, 0, [1], []], "as many strides as sizes"),
            ([0, 0, [1] * 13, [1] * 13], "at most 12"),
            ([0, 0, 1, 1], "offset, shape, strides"),
            ([0, 0, [1]], "offset, shape, strides"),
            ("x", "offset, shape, strides"),
        ],
    )
    def test_forged_tensors(self, tensor: Any, text: str) -> None:
        with pytest.raises(RuntimeError, match=text):
            read(forged({"value": {"tensor": tensor}, "storages": [STORAGE]}, PADDED))

    def test_an_honest_forgery_is_read(self) -> None:
        content = forged({"value": {"tensor": [0, 1, [3], [0]]}, "storages": [STORAGE]}, PADDED)
        assert read(content).tolist() == [1.0, 1.0, 1.0]

    @pytest.mark.parametrize("shape", [[0, 1 << 61, 1 << 61], [1 << 40, 1 << 40]])
    def test_enormous_shapes_allocate_nothing(self, shape: list[int]) -> None:
        """Either a tensor without elements, or broadcast from one; or a clean refusal."""
        content = forged({"value": {"tensor": [0, 0, shape, [0] * len(shape)]}, "storages": [STORAGE]}, PADDED)
        try:
            assert list(read(content).shape) == shape
        except RuntimeError as error:
            assert str(error)

    def test_a_file_of_the_wrong_length(self, tmp_path: pathlib.Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(self.content()[:-1])
        with pytest.raises(RuntimeError, match="truncated or damaged"):
            fg.load(path)

    def test_where_to(self) -> None:
        with pytest.raises((ValueError, RuntimeError), match="CPU"):
            fg.load(io.BytesIO(self.content()), map_location="cuda")

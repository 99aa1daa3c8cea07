"""save and load: state dicts, and nested containers of tensors and plain values, in one file of plain data.

The file, version 1, little-endian:

    bytes 0-7     magic, b"fastgrad"
    bytes 8-11    uint32, version
    bytes 12-15   uint32, CRC-32 of bytes 16-31 and of the header
    bytes 16-23   uint64, length of the header
    bytes 24-31   uint64, length of the file
    bytes 32-     the header, JSON, then zeros up to a multiple of 64
    ...           every storage as it lies in memory, each followed by zeros up to a multiple of 64

The header is {"value": ..., "storages": [[dtype, number of elements, CRC-32], ...]}. In "value" null, booleans,
numbers, strings and lists stand for themselves; anything else is an object with one name:

    {"dict": [[key, value], ...]}, {"ordered_dict": [[key, value], ...]}, {"tuple": [...]}, {"bytes": base64},
    {"dtype": name}, {"tensor": [storage, offset, [shape], [strides]]} with offset and strides in elements

Tensors that share memory refer to one storage, of which only what they cover is written. A Parameter is saved as a
tensor; loaded tensors do not require gradients.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
import stat
import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from fastgrad import _core
from fastgrad._core import Tensor

_MAGIC = b"fastgrad"
_VERSION = 1
_PREFIX = struct.Struct("<8sII")
_LENGTHS = struct.Struct("<QQ")
_ALIGNMENT = 64
_MAX_HEADER = 1 << 28
_MAX_DEPTH = 64
_MAX_NDIM = 12
_CHUNK = 1 << 24
_DTYPES = {name: getattr(_core, name) for name in ("float32", "float64", "int64", "int32", "uint8", "bool")}
_DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def _padding(length: int) -> int:
    return -length % _ALIGNMENT


# saving


class _Encoder:
    """Turns a value into the header's JSON and collects the memory that its tensors lie in."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.tensors: list[list[Tensor]] = []  # by storage
        self.records: list[list[tuple[Tensor, list]]] = []

    def encode(self, value: Any, path: str, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError(f"[save] containers must not be nested deeper than {_MAX_DEPTH}; got more at {path}")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, str):
            return str(value)
        if isinstance(value, (bytes, bytearray)):
            return {"bytes": base64.b64encode(value).decode("ascii")}
        if isinstance(value, Tensor):
            return {"tensor": self.encode_tensor(value.detach())}
        if isinstance(value, _core.dtype):
            return {"dtype": _DTYPE_NAMES[value]}
        if isinstance(value, (list, tuple)):
            items = [self.encode(item, f"{path}[{k}]", depth + 1) for k, item in enumerate(value)]
            return {"tuple": items} if isinstance(value, tuple) else items
        if isinstance(value, dict):
            pairs = [
                [self.encode_key(key, path, depth + 1), self.encode(item, f"{path}[{key!r}]", depth + 1)]
                for key, item in value.items()
            ]
            return {"ordered_dict" if isinstance(value, OrderedDict) else "dict": pairs}
        raise TypeError(
            "[save] the value may contain tensors, numbers, strings, bytes, None, dtypes, lists, tuples and dicts; got "
            f"{type(value).__module__}.{type(value).__qualname__} at {path}"
        )

    def encode_key(self, key: Any, path: str, depth: int) -> Any:
        if isinstance(key, Tensor):
            raise TypeError(f"[save] the key of a dict must not be a tensor; got one at {path}")
        return self.encode(key, f"{path}, a key", depth)

    def encode_tensor(self, tensor: Tensor) -> list:
        number = self.numbers.setdefault(id(tensor.untyped_storage()), len(self.records))
        if number == len(self.records):
            self.records.append([])
        record: list = [number, tensor.storage_offset(), list(tensor.shape), list(tensor.stride())]
        self.records[number].append((tensor, record))
        return record

    def finish(self) -> tuple[list[list], list[memoryview]]:
        """The header's list of storages and their bytes; offsets in the records become relative to what is written."""
        import numpy

        storages, contents = [], []
        for group in self.records:
            group.sort(key=lambda entry: entry[1][1])
            first, start = group[0][0], group[0][1][1]
            used = [entry for entry in group if entry[0].numel()]
            if used:
                first, start = used[0][0], used[0][1][1]
            count = max(
                (offset + _extent(shape, strides) - start for _, (_, offset, shape, strides) in used), default=0
            )
            for tensor, record in group:
                record[1] = record[1] - start if tensor.numel() else 0
            array: Any = numpy.lib.stride_tricks.as_strided(
                first.numpy(), (count,), (first.dtype.itemsize,), writeable=False
            )
            content = memoryview(array).cast("B") if count else memoryview(b"")
            storages.append([_DTYPE_NAMES[first.dtype], count, zlib.crc32(content)])
            contents.append(content)
        return storages, contents


def _extent(shape: Any, strides: Any) -> int:
    """How many elements after the first one a tensor that has elements reaches, plus one."""
    return 1 + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))


def _pieces(obj: Any) -> Iterator[Any]:
    """The file, piece by piece."""
    encoder = _Encoder()
    value = encoder.encode(obj, "the value")
    storages, contents = encoder.finish()
    header = json.dumps({"value": value, "storages": storages}, separators=(",", ":")).encode("ascii")
    if len(header) > _MAX_HEADER:
        raise ValueError(f"[save] the header must have at most {_MAX_HEADER} bytes; got {len(header)}")
    start = _PREFIX.size + _LENGTHS.size + len(header)
    total = start + _padding(start) + sum(len(content) + _padding(len(content)) for content in contents)
    lengths = _LENGTHS.pack(len(header), total)
    yield _PREFIX.pack(_MAGIC, _VERSION, zlib.crc32(header, zlib.crc32(lengths))) + lengths + header
    yield bytes(_padding(start))
    for content in contents:
        yield content
        yield bytes(_padding(len(content)))


def save(obj: Any, f: str | os.PathLike | BinaryIO) -> None:
    """Write a state dict, or nested lists, tuples and dicts of tensors, numbers, strings, bytes and None.

    `f` is a path or a binary file object. A path is written under another name in the same directory, flushed to the
    disk and renamed, so that it holds the old content or the new one and never a part. Raises TypeError for a value of
    another type, before anything is written.

    >>> import fastgrad as torch, io
    >>> buffer = io.BytesIO()
    >>> torch.save({"weights": torch.ones(2), "epoch": 3}, buffer)
    >>> torch.load(io.BytesIO(buffer.getvalue()))
    {'weights': tensor([1., 1.]), 'epoch': 3}
    """
    pieces = list(_pieces(obj))
    if hasattr(f, "write"):
        for piece in pieces:
            f.write(piece)
        return
    target = os.path.realpath(os.fsdecode(os.fspath(f)))
    if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
        with open(target, "wb") as device:  # a pipe or a device is no file to put another in place of
            device.writelines(pieces)
        return
    temporary = f"{target}.{os.urandom(8).hex()}.part"
    try:
        with open(temporary, "xb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # the new name is on the disk when its directory is
        directory = os.open(os.path.dirname(target), os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


# loading


def _refuse(rule: str, got: Any) -> RuntimeError:
    return RuntimeError(f"[load] {rule}; got {got}")


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


class _Decoder:
    """Turns the header's JSON back into a value; the tensors lie on `storages`, 1-d tensors."""

    def __init__(self, storages: list[Tensor]) -> None:
        self.storages = storages
        self.decoders: dict[str, Callable[[Any, int], Any]] = {
            "dict": lambda body, depth: dict(self.pairs(body, depth)),
            "ordered_dict": lambda body, depth: OrderedDict(self.pairs(body, depth)),
            "tuple": lambda body, depth: tuple(self.items(body, depth)),
            "bytes": self.decode_bytes,
            "dtype": self.decode_dtype,
            "tensor": self.decode_tensor,
        }

    def decode(self, coded: Any, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise _refuse(f"containers must not be nested deeper than {_MAX_DEPTH}", "more")
        if coded is None or isinstance(coded, (bool, int, float, str)):
            return coded
        if isinstance(coded, list):
            return self.items(coded, depth)
        (name, body), *more = coded.items() if coded else [("", None)]
        if more or name not in self.decoders:
            raise _refuse(
                f"an object of the header must have one of the names {', '.join(self.decoders)}", list(coded)[:3]
            )
        return self.decoders[name](body, depth)

    def items(self, body: Any, depth: int) -> list:
        if not isinstance(body, list):
            raise _refuse("the body of a container must be a list", type(body).__name__)
        return [self.decode(item, depth + 1) for item in body]

    def pairs(self, body: Any, depth: int) -> list:
        pairs = self.items(body, depth)
        for k, pair in enumerate(pairs):
            if type(pair) is not list or len(pair) != 2:
                raise _refuse("the body of a dict must be a list of pairs", f"{type(pair).__name__} at {k}")
            try:
                hash(pair[0])
            except TypeError:
                raise _refuse("the key of a dict must be hashable", type(pair[0]).__name__) from None
        return pairs

    @staticmethod
    def decode_bytes(body: Any, depth: int) -> bytes:
        try:
            return base64.b64decode(body, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise _refuse("bytes must be base64", type(body).__name__) from None

    @staticmethod
    def decode_dtype(body: Any, depth: int) -> Any:
        if not isinstance(body, str) or body not in _DTYPES:
            raise _refuse(f"a dtype must be one of {', '.join(_DTYPES)}", repr(body)[:40])
        return _DTYPES[body]

    def decode_tensor(self, body: Any, depth: int) -> Tensor:
        if not isinstance(body, list) or len(body) != 4 or not all(isinstance(part, list) for part in body[2:]):
            raise _refuse("a tensor must be [storage, offset, shape, strides]", repr(body)[:80])
        number, offset, shape, strides = body
        if len(shape) != len(strides) or len(shape) > _MAX_NDIM:
            raise _refuse(f"a tensor must have as many strides as sizes and at most {_MAX_NDIM}", repr(body)[:80])
        if not all(map(_is_count, (number, offset, *shape, *strides))) or number >= len(self.storages):
            raise _refuse("storage, offset, sizes and strides must be counts, and the storage exist", repr(body)[:80])
        storage = self.storages[number]
        if 0 in shape:
            return _core.empty(shape, dtype=storage.dtype)
        if offset + _extent(shape, strides) > storage.numel():
            raise _refuse(f"a tensor must lie within its storage of {storage.numel()} elements", repr(body)[:80])
        return storage.as_strided(shape, strides, offset).detach()


def _read(file: BinaryIO, length: int, what: str) -> bytes:
    content = file.read(length)
    if len(content) != length:
        raise _refuse(f"the file is truncated: {what} has {length} bytes", f"{len(content)}")
    return content


def _read_storage(file: BinaryIO, number: int, name: str, count: int, checksum: int) -> Tensor:
    storage = _core.empty(count, dtype=_DTYPES[name])
    length = count * storage.dtype.itemsize
    view = memoryview(storage).cast("B") if count else memoryview(b"")
    position = 0
    while position < length:
        content = file.read(min(_CHUNK, length - position))
        if not content:
            raise _refuse(f"the file is truncated: storage {number} has {length} bytes", position)
        view[position : position + len(content)] = content
        position += len(content)
    if zlib.crc32(view) != checksum or any(_read(file, _padding(length), f"the padding of storage {number}")):
        raise _refuse(f"the file is damaged: storage {number} must have the checksum {checksum}", zlib.crc32(view))
    if name == "bool" and count and int(storage.numpy().view("uint8").max()) > 1:
        raise _refuse("a bool must be 0 or 1", f"another byte in storage {number}")
    return storage


def _load(file: BinaryIO, size: int) -> Any:
    start = _PREFIX.size + _LENGTHS.size
    if size < start:
        raise _refuse(f"the file is truncated or not one of fastgrad.save: it has at least {start} bytes", size)
    magic, version, checksum = _PREFIX.unpack(_read(file, _PREFIX.size, "the prefix"))
    if magic != _MAGIC:
        raise _refuse(f"the file is not one of fastgrad.save, it must start with {_MAGIC!r}", repr(magic))
    if version != _VERSION:
        raise _refuse(f"the version of the file must be {_VERSION}", version)
    lengths = _read(file, _LENGTHS.size, "the prefix")
    header_length, total = _LENGTHS.unpack(lengths)
    if total != size:
        raise _refuse(f"the file is truncated or damaged: it says that it has {total} bytes", size)
    if header_length > min(_MAX_HEADER, size - start):
        raise _refuse(f"the header must have at most {min(_MAX_HEADER, size - start)} bytes", header_length)
    text = _read(file, header_length, "the header")
    if zlib.crc32(text, zlib.crc32(lengths)) != checksum:
        raise _refuse("the file is damaged: the checksum of its header must match", "another")
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refuse("the header must be JSON", type(error).__name__) from None
    if not isinstance(header, dict) or set(header) != {"value", "storages"} or not isinstance(header["storages"], list):
        raise _refuse('the header must have "value" and "storages"', type(header).__name__)
    end = start + header_length
    end += _padding(end)
    for entry in header["storages"]:
        if (
            not isinstance(entry, list) or len(entry) != 3 or not isinstance(entry[0], str) or entry[0] not in _DTYPES
            or not _is_count(entry[1]) or not _is_count(entry[2])
        ):  # fmt: skip
            raise _refuse("a storage must be [dtype, number of elements, checksum]", repr(entry)[:80])
        length = entry[1] * _DTYPES[entry[0]].itemsize
        end += length + _padding(length)
    if end != size:
        raise _refuse(f"the storages must fill the file: they end at {end}", size)
    if any(_read(file, _padding(start + header_length), "the padding of the header")):
        raise _refuse("the file is damaged: the padding of the header must be zeros", "others")
    storages = [_read_storage(file, number, *entry) for number, entry in enumerate(header["storages"])]
    return _Decoder(storages).decode(header["value"])


def load(f: str | os.PathLike | BinaryIO, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """Read what `save` wrote, from a path or a binary file object; tensors that shared memory share it again.

    Nothing in a file can be run, whatever it holds, so `weights_only` chooses nothing. `map_location` is None or the
    CPU. A file that is truncated, damaged, foreign, or not what it says raises RuntimeError, and sizes are compared
    with the length of the file before memory is asked for.
    """
    if map_location is not None and _core.device(map_location).type != "cpu":
        raise ValueError(f"[load] map_location must be None or the CPU; got {map_location!r}")
    if hasattr(f, "read"):
        content = f.read()
        return _load(io.BytesIO(content), len(content))
    with open(f, "rb") as file:
        return _load(file, os.fstat(file.fileno()).st_size)

"""Reads a stranger's checkpoint without running anything of it: plain data and tensors come out, nothing else.

A pickle is a program; what it may call is up to `find_class`. Here that is a short list of names, each standing for
a function or class of this file, so a pickle can build dicts, tensors and stubs, and nothing more. NVIDIA's carry
Python source beside the state of each module (torch_utils.persistence): it is never looked at. Tensors can't be
larger than the file they are in, which is checked before anything is allocated.
"""

from __future__ import annotations

import argparse
import collections
import io
import math
import mmap
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from weights.hub import WeightsCorrupt, WeightsMissing

LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2)  # how torch.save began before torch 1.6
STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


class Forbidden(Exception):
    """A pickle asked for a name that no network needs."""


class _Sealed(type):
    """A class that a pickle can make instances of, but whose attributes it can't set."""

    def __setattr__(cls, name: str, value: object) -> None:
        raise Forbidden(f"{cls.__name__}.{name} = ...")


class Module(metaclass=_Sealed):
    """What a pickled network was: its class's name and its state, no code."""

    def __init__(self, name: str, state: dict[str, Any]):
        self.name, self.state = name, state


class TFNetwork(metaclass=_Sealed):
    """A network of dnnlib.tflib, as NVIDIA's TensorFlow programs pickled it."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


class _EasyDict(dict[str, Any], metaclass=_Sealed):
    pass


class _Namespace(metaclass=_Sealed):
    """argparse.Namespace: a training program's options."""


class _DType(metaclass=_Sealed):
    """numpy.dtype of numbers."""

    order = "<"

    def __init__(self, code: str, *_: object):
        if str(code)[:1] not in "fiub" or not str(code)[1:].isdigit():
            raise ValueError(f"arrays of {code!r}")
        self.code = str(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = ">" if state[1] == ">" else "<"

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array(metaclass=_Sealed):
    """numpy.ndarray, made from the bytes that are there, whatever size it says."""

    value: np.ndarray

    def __setstate__(self, state: tuple[int, tuple[int, ...], _DType, bool, bytes]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = np.frombuffer(data, dtype.numpy()).reshape(shape, order="F" if fortran else "C")


class _NDArray(metaclass=_Sealed):
    """The name numpy.ndarray where it is only named."""


@dataclass(frozen=True)
class _Storage:
    bytes: torch.UntypedStorage
    dtype: torch.dtype


class Reader(pickle.Unpickler):
    """An unpickler of tensors and plain data. `storage` finds the bytes that a key of torch.save stands for."""

    def __init__(self, file: BinaryIO | mmap.mmap, storage: Callable[[Any], _Storage] | None = None):
        super().__init__(file)
        self.storage = storage
        # Functions are bound methods, on which a pickle can set nothing either.
        self.allowed: dict[str, Any] = {
            "collections.OrderedDict": collections.OrderedDict,
            "builtins.set": set,
            "_codecs.encode": self._encode,
            "argparse.Namespace": _Namespace,
            "dnnlib.util.EasyDict": _EasyDict, "dnnlib.EasyDict": _EasyDict,
            "dnnlib.tflib.network.Network": TFNetwork,
            "torch_utils.persistence._reconstruct_persistent_obj": self._module,
            "torch._utils._rebuild_tensor": self._tensor, "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            "torch.storage._load_from_bytes": self._stored,
            "torch.Size": tuple, "torch.device": self._device,
            "numpy.dtype": _DType, "numpy.ndarray": _NDArray,
            **{f"torch.{name}": _Dtype(dtype) for name, dtype in STORAGES.items()},
            **{f"torch.{name}": getattr(torch, name) for name in DTYPES},
        }  # fmt: skip
        for numpy in ("numpy.core", "numpy._core"):
            self.allowed |= {
                f"{numpy}.multiarray._reconstruct": self._array,
                f"{numpy}.multiarray.scalar": self._scalar,
                f"{numpy}.numeric._frombuffer": self._from_buffer,
            }

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module  # Python 2's name
        try:
            return self.allowed[f"{module}.{name}"]
        except KeyError:
            raise Forbidden(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        if self.storage is None:
            raise ValueError("it refers to data outside itself")
        return self.storage(pid)

    def _module(self, meta: dict[str, Any]) -> Module:
        return Module(str(meta["class_name"]), dict(meta["state"]))

    def _tensor(
        self, storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
    ) -> Tensor:
        have = storage.bytes.nbytes() // storage.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min((offset, *size, *stride)) < 0 or last >= max(have, 1) or math.prod(size) > have:
            raise ValueError(f"a tensor of {list(size)} in a storage of {have} numbers")
        return torch.empty(0, dtype=storage.dtype).set_(storage.bytes, offset, size, stride)

    def _parameter(self, tensor: Tensor, *_: Any) -> Tensor:
        return tensor

    def _stored(self, data: bytes) -> _Storage:
        check_legacy(io.BytesIO(data), len(data))
        storage = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return _Storage(storage._untyped_storage, storage.dtype)

    def _device(self, *_: Any) -> None:
        return None

    def _encode(self, text: str, encoding: str) -> bytes:
        return text.encode("latin1")  # how bytes were pickled in Python 2's protocols

    def _array(self, *_: Any) -> _Array:
        return _Array()

    def _scalar(self, dtype: _DType, data: bytes) -> Any:
        return np.frombuffer(data, dtype.numpy())[0].item()

    def _from_buffer(self, data: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.__setstate__((1, shape, dtype, order == "F", bytes(data)))
        return array


class _Dtype(metaclass=_Sealed):
    """A storage class of torch: only its numbers' type is asked for."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: torch.dtype):
        self.dtype = dtype


def read_checkpoint_file(path: Path) -> Any:
    """What is in a pickle, or in a file of torch.save: dicts, lists, tensors, arrays, Module and TFNetwork.

    Raises WeightsMissing where there is no such file, WeightsCorrupt where it is none, asks for what no network needs
    (named), is cut short, or declares more than it holds.
    """
    if not path.is_file():
        raise WeightsMissing(f"there is no file {path}")
    try:
        return _read(path)
    except WeightsCorrupt:
        raise
    except Forbidden as forbidden:
        raise WeightsCorrupt(
            f"{path} asks for {forbidden}, which no network needs: refused, and nothing of it was run. "
            "If you trust where it comes from, ask there for a .safetensors file or a plain state dict"
        ) from forbidden
    except Exception as error:  # a stranger's bytes can make the machinery underneath raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsCorrupt(f"{path} is damaged, or cut short ({reason}): get it again") from error


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(512)
        if start.startswith(b"PK\x03\x04"):
            return _read_zip(file)
        if start.startswith(LEGACY_MAGIC):
            return _read_legacy(file)
        if start.startswith(b"\x80"):
            # Mapped, since a pickle's claims of length are then cut to what is there.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                _check_memo(mapped)
                return Reader(mapped).load()
    if start.lstrip()[:1] == b"<":
        raise WeightsCorrupt(f"{path} is a web page, not a network: open its link in a browser, and save what it gives")
    raise WeightsCorrupt(
        f"{path} is {'empty' if not start else 'neither a pickle nor a file of torch.save'}: "
        "give a .pkl or .pt of a StyleGAN2, or a .safetensors file of photodrag's own"
    )


def _check_memo(file: mmap.mmap) -> None:
    """Refuses a pickle whose memo has numbers far beyond its length, since a table is made for them; rewinds."""
    puts, largest = 0, 0
    for opcode, argument, _ in pickletools.genops(file):  # type: ignore[arg-type]
        if "PUT" in opcode.name:
            puts, largest = puts + 1, max(largest, int(argument or 0))
    if largest > 2 * puts + 1000:
        raise ValueError("its memo is not a pickler's")
    file.seek(0)


def _read_zip(file: BinaryIO) -> Any:
    """torch.save's format since torch 1.6: a zip of one pickle and one record for each storage, none compressed."""
    size = file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        records = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        declared = sum(info.file_size for info in records.values())
        if declared > size:
            raise WeightsCorrupt(f"{file.name} declares {declared:,} bytes and has {size:,}: refused")
        if "data.pkl" not in records or any(name.startswith("code/") for name in records):
            raise WeightsCorrupt(f"{file.name} is a zip, but none that torch.save wrote of a network's weights")
        kept: dict[str, _Storage] = {}

        def storage(pid: tuple[str, _Dtype, str, str, int]) -> _Storage:
            _, kind, key, _, count = pid
            if key not in kept:
                data = archive.read(records[f"data/{key}"])
                if len(data) != count * kind.dtype.itemsize:
                    raise ValueError(f"storage {key} has {len(data)} bytes for {count} numbers")
                kept[key] = _Storage(_untyped(data), kind.dtype)
            return kept[key]

        return Reader(io.BytesIO(archive.read(records["data.pkl"])), storage).load()


def _untyped(data: bytes) -> torch.UntypedStorage:
    if not data:
        return torch.UntypedStorage(0)
    return torch.frombuffer(bytearray(data), dtype=torch.uint8).untyped_storage()


def _read_legacy(file: BinaryIO) -> Any:
    """torch.save's format before torch 1.6: pickles, then the storages' bytes."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        check_legacy(mapped, size)
    file.seek(0)
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(file, map_location="cpu", weights_only=True)


def check_legacy(file: BinaryIO | mmap.mmap, size: int) -> None:
    """Reads the pickles of that format for the sizes they declare and the names they use, making no tensor."""
    declared: dict[str, int] = {}

    def storage(pid: tuple[Any, ...]) -> _Storage:
        _, kind, key, _, count = pid[:5]
        declared[str(key)] = count * kind.dtype.itemsize
        return _Storage(torch.UntypedStorage(0), kind.dtype)

    if Reader(file).load() != 0x1950A86A20F9469CFC6C:
        raise ValueError("a storage that torch.save did not write")
    Reader(file).load()  # the protocol
    Reader(file).load()  # the writer's system
    _SizesOnly(file, storage).load()
    if min(declared.values(), default=0) < 0 or sum(declared.values()) > size:
        raise ValueError(f"it declares {sum(declared.values()):,} bytes of tensors and has {size:,}")


class _SizesOnly(Reader):
    def _tensor(self, *_: Any) -> Tensor:
        return torch.empty(0)

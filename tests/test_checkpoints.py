"""Other people's checkpoints: each layout draws the official picture; none of them runs anything here."""

import collections
import dataclasses
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DATA, small_generator
from layouts import Persistent, dump, persistent, rosinality, save, tensorflow
from safetensors import safe_open
from torch import Tensor

from weights import StyleGAN2, StyleGAN2Config, Unsupported, WeightsCorrupt, WeightsMissing, read_checkpoint


@dataclasses.dataclass(frozen=True)
class Golden:
    """A small network of NVIDIA's stylegan2-ada-pytorch, and what the official code drew with it."""

    network: StyleGAN2
    z: Tensor
    latents: Tensor
    images: Tensor

    def check(self, network: StyleGAN2) -> None:
        with torch.no_grad():
            torch.testing.assert_close(network.mapping(self.z, psi=0.7), self.latents, atol=1e-4, rtol=0)
            torch.testing.assert_close(network.synthesis(self.latents), self.images, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def golden() -> Golden:
    with safe_open(DATA / "stylegan2_golden.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = StyleGAN2(StyleGAN2Config.from_metadata(file.metadata()))
    network.load_state_dict({n[8:]: t for n, t in tensors.items() if n.startswith("network.")})
    return Golden(network.eval().requires_grad_(False), tensors["z"], tensors["latents"], tensors["images"])


@pytest.fixture
def trap(tmp_path: Path) -> str:
    """A program that leaves a file, and whose file is looked for in `sprung`."""
    return f"open({str(tmp_path / 'sprung')!r}, 'w')"


def sprung(tmp_path: Path) -> bool:
    return (tmp_path / "sprung").exists()


# --- each layout --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nvidia_pickle(golden: Golden, tmp_path: Path, trap: str, protocol: int) -> None:
    generator = persistent(golden.network, trap)
    other = persistent(small_generator(16).network, trap)
    content = {"G": other, "D": other, "G_ema": generator, "training_set_kwargs": {}, "augment_pipe": None}
    read = read_checkpoint(dump(content, tmp_path / "network.pkl", protocol))
    golden.check(read.network)
    assert read.family == "NVIDIA pickle" and not sprung(tmp_path)


def test_another_rate_of_the_mapping_network(golden: Golden, tmp_path: Path) -> None:
    path = dump({"G_ema": persistent(golden.network, lr=0.2)}, tmp_path / "network.pkl")
    golden.check(read_checkpoint(path).network)


@pytest.mark.parametrize("form", ["module", "state"])
def test_what_pti_leaves(golden: Golden, tmp_path: Path, trap: str, form: str) -> None:
    content = persistent(golden.network, trap) if form == "module" else golden.network.state_dict()
    golden.check(read_checkpoint(save(content, tmp_path / "model_tuned.pt")).network)
    assert not sprung(tmp_path)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensorflow_pickle(golden: Golden, tmp_path: Path, protocol: int) -> None:
    network = tensorflow(golden.network)
    read = read_checkpoint(dump((network, network, network), tmp_path / "config-f.pkl", protocol))
    golden.check(read.network)
    assert read.family == "NVIDIA TensorFlow pickle"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("form", ["g_ema", "plain", "encoder"])
def test_rosinality(golden: Golden, tmp_path: Path, form: str, old: bool) -> None:
    state, mean = rosinality(golden.network), golden.network.mapping.w_avg
    content = {
        "g_ema": {"g_ema": state, "d": {}, "latent_avg": mean},
        "plain": {**state, "latent_avg": mean},
        "encoder": {
            "state_dict": {f"decoder.{name}": tensor for name, tensor in state.items()} | {"encoder.x": mean},
            "latent_avg": mean.repeat(golden.network.config.num_ws, 1),
        },
    }[form]
    read = read_checkpoint(save(content, tmp_path / "whatever.pkl", old=old))
    golden.check(read.network)
    assert read.family == "rosinality"


def test_a_mean_that_is_not_stored_is_measured(golden: Golden, tmp_path: Path) -> None:
    network = read_checkpoint(save({"g_ema": rosinality(golden.network)}, tmp_path / "g.pt")).network
    samples = network.mapping(torch.randn(20_000, network.config.z_dim, generator=torch.Generator().manual_seed(5)))
    torch.testing.assert_close(network.mapping.w_avg, samples[:, 0].mean(0), atol=0.05, rtol=0)


def test_clamps_are_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = StyleGAN2Config(16, z_dim=8, w_dim=8, mapping_layers=2, channel_base=64, channel_max=8, conv_clamp=1)
    network = StyleGAN2(config).requires_grad_(False)
    network.synthesis.b16.conv1.bias[0] = 5
    read = read_checkpoint(dump({"G_ema": persistent(network)}, tmp_path / "clamped.pkl")).network
    latents = torch.randn(1, 6, 8)
    assert torch.equal(read.synthesis(latents), network.synthesis(latents))
    assert read.synthesis.features(latents, 16).abs().max() == 1


def test_narrow_pictures_are_made_square(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = StyleGAN2Config(32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=8, img_width=16)
    network = StyleGAN2(config).requires_grad_(False)
    read = read_checkpoint(dump({"G_ema": persistent(network)}, tmp_path / "human.pkl")).network
    assert read.config == config
    picture = read.synthesis(torch.randn(1, 8, 8))
    assert picture.shape == (1, 3, 32, 32) and read.synthesis.features(torch.randn(1, 8, 8), 8).shape[2:] == (8, 8)
    assert torch.equal(picture[..., :8], picture[..., 8:9].expand(-1, -1, -1, 8))  # the outer columns go on
    assert not torch.equal(picture[..., 8], picture[..., 9])


# --- pickles that try to run something ----------------------------------------------------------------------------


class Call:
    """An object whose pickle is a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def attacks(trap: str, network: StyleGAN2) -> dict[str, tuple[Any, str]]:
    run = Call(eval, trap)
    state: Any = collections.OrderedDict(golden=run)
    return {
        "system": (Call(os.system, "true"), r"posix\.system"),
        "eval": (run, r"builtins\.eval"),
        "exec in a dict": ({"G_ema": {"a": [run]}}, r"builtins\.eval"),
        "getattr": (Call(getattr, "text", "join"), r"builtins\.getattr"),
        "in a module's state": ({"G_ema": Persistent("Generator", {"_modules": state}, trap)}, r"builtins\.eval"),
        "as an argument of what is allowed": (Call(collections.OrderedDict, [("a", run)]), r"builtins\.eval"),
        "a call in a call": (Call(collections.OrderedDict, Call(eval, f"[{trap}]")), r"builtins\.eval"),
        "in a storage": (Call(torch.storage._load_from_bytes, pickle.dumps(run)), r"builtins\.eval"),
        "in a storage of torch.save": (Call(torch.storage._load_from_bytes, _stored(run)), r"builtins\.eval"),
        "beside a good network": ({"G_ema": persistent(network), "x": run}, r"builtins\.eval"),
    }


def _stored(content: object) -> bytes:
    """What torch.save wrote before torch 1.6, of something that is no storage."""
    return b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}, content, []))


@pytest.mark.parametrize("name", attacks("", small_generator(8).network))
@pytest.mark.parametrize("write", [dump, save])
def test_nothing_is_run_and_the_name_is_told(tmp_path: Path, trap: str, name: str, write: Any) -> None:
    content, message = attacks(trap, small_generator(8).network)[name]
    path = write(content, tmp_path / "bad.pkl")
    with pytest.raises(WeightsCorrupt, match=rf"asks for {message}.*nothing of it was run"):
        read_checkpoint(path)
    assert not sprung(tmp_path)


def test_what_a_pickle_may_use_it_cannot_change(tmp_path: Path) -> None:
    """BUILD with a pair sets attributes: on our own classes and functions that must fail."""
    for name in ("dnnlib.util EasyDict", "argparse Namespace", "torch_utils.persistence _reconstruct_persistent_obj"):
        setter = f"c{name.replace(' ', chr(10))}\n".encode() + b"(N}X\x05\x00\x00\x00stateX\x01\x00\x00\x00xstb."
        (tmp_path / "sets.pkl").write_bytes(b"\x80\x02" + setter)
        with pytest.raises(WeightsCorrupt):
            read_checkpoint(tmp_path / "sets.pkl")
    assert read_checkpoint(dump(tensorflow(small_generator(8).network), tmp_path / "good.pkl"))


# --- more declared than there is ----------------------------------------------------------------------------------


def rebuilt(storage: object, size: tuple[int, ...], stride: tuple[int, ...]) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, storage, 0, size, stride, False, collections.OrderedDict())


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    small = torch.zeros(4).untyped_storage()
    typed = torch.storage.TypedStorage(wrap_storage=small, dtype=torch.float32, _internal=True)
    for size, stride in [((10**6, 10**6), (0, 0)), ((10**12,), (1,)), ((5,), (1,)), ((-1,), (1,))]:
        path = dump({"G_ema": {"synthesis.b4.const": rebuilt(typed, size, stride)}}, tmp_path / "bomb.pkl")
        with pytest.raises(WeightsCorrupt, match="a tensor of"):
            read_checkpoint(path)


def test_a_storage_that_declares_too_much_is_refused(tmp_path: Path) -> None:
    content = save(torch.zeros(4), tmp_path / "four.pt", old=True).read_bytes()
    four = struct.pack("<BB", ord("K"), 4)  # BININT1 4: the count of the storage, and again in the size
    huge = content.replace(b"cpuq\x04" + four, b"cpuq\x04" + b"\x8a\x06" + (10**13).to_bytes(6, "little"), 1)
    assert huge != content
    (tmp_path / "huge.pt").write_bytes(huge)
    with pytest.raises(WeightsCorrupt, match="declares 40,000,000,000,000 bytes"):
        read_checkpoint(tmp_path / "huge.pt")
    path = dump(Call(torch.storage._load_from_bytes, huge), tmp_path / "nested.pkl")
    with pytest.raises(WeightsCorrupt, match="declares 40,000,000,000,000 bytes"):
        read_checkpoint(path)


def test_a_compressed_record_is_refused(tmp_path: Path) -> None:
    save({"a": torch.zeros(10**6)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(
        tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED
    ) as bomb:  # fmt: skip
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    assert (tmp_path / "bomb.pt").stat().st_size < 10_000
    with pytest.raises(WeightsCorrupt, match=r"declares 4,\d+,\d+ bytes and has"):
        read_checkpoint(tmp_path / "bomb.pt")


def test_an_array_is_as_large_as_its_bytes(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros(4, np.float32), 2).replace(
        b"K\x04\x85", b"\x8a\x06" + (10**13).to_bytes(6, "little") + b"\x85"
    )
    (tmp_path / "array.pkl").write_bytes(data)
    with pytest.raises(WeightsCorrupt, match="cannot reshape array of size 4"):
        read_checkpoint(tmp_path / "array.pkl")


def test_a_memo_of_two_thousand_million_entries_is_refused(tmp_path: Path) -> None:
    (tmp_path / "memo.pkl").write_bytes(b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(WeightsCorrupt, match="memo"):
        read_checkpoint(tmp_path / "memo.pkl")


# --- what is no checkpoint ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True, None])
def test_a_file_cut_short_is_refused(golden: Golden, tmp_path: Path, old: bool | None) -> None:
    path = tmp_path / "whole.pt"
    if old is None:
        dump({"G_ema": persistent(golden.network)}, path)
    else:
        save(golden.network.state_dict(), path, old=old)
    data = path.read_bytes()
    for share in (0.001, 0.3, 0.9, 0.9999):
        (tmp_path / "cut.pt").write_bytes(data[: int(len(data) * share)])
        with pytest.raises(WeightsCorrupt, match=r"cut\.pt"):
            read_checkpoint(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"hello", "neither a pickle nor"),
        (b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>", "a web page"),
        (b"\x80\x04", "cut short"),
        (pickle.dumps([1, 2, 3]), "holds no network but a list"),
        (pickle.dumps({"a": 1}), "holds no generator, but a"),
        (pickle.dumps({"D": None}), "discriminator only"),
    ],
)
def test_what_is_no_checkpoint_is_told(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(WeightsCorrupt, match=message):
        read_checkpoint(tmp_path / "x.pkl")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="no file"):
        read_checkpoint(tmp_path / "x.pkl")


def refused(content: object, path: Path, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        read_checkpoint(dump(content, path))


def test_networks_that_we_do_not_draw(tmp_path: Path) -> None:
    path, network = tmp_path / "x.pkl", small_generator(16).network
    refused({"G_ema": persistent(network, img_resolution=64)}, path, "declares pictures of 64 px.*of 16 px")
    refused({"G_ema": persistent(network, c_dim=10)}, path, "conditional")
    refused({"G_ema": persistent(network, architecture="resnet")}, path, 'architecture is "resnet"')
    refused(tensorflow(network, resample_kernel=[1, 1]), path, "resample_kernel")
    refused(tensorflow(network, resolution=32), path, "declares pictures of 32 px")
    critic = {"b4.out.weight": torch.zeros(1, 8), "b4.out.bias": torch.zeros(1)}
    refused(critic, path, "discriminator only")
    third = {"synthesis.input.freqs": torch.zeros(2), "synthesis.L0_36_512.weight": torch.zeros(1)}
    refused(third, path, "StyleGAN3.*Known are")
    refused({"backbone.weight": torch.zeros(2)}, path, "no StyleGAN2's")


def test_shapes_that_do_not_belong_together(tmp_path: Path) -> None:
    path, state = tmp_path / "x.pkl", small_generator(16).network.state_dict()
    refused(state | {"synthesis.b8.conv0.bias": torch.zeros(3)}, path, r"b8.conv0.bias is \[3\], and should be \[8\]")
    refused({n: t for n, t in state.items() if ".b8." not in n}, path, "should double from 4 px on")
    refused({n: t for n, t in state.items() if n != "synthesis.b8.torgb.bias"}, path, "b8.torgb.bias is missing")
    refused(state | {"synthesis.b8.conv0.bias": torch.full((8,), torch.nan)}, path, "not finite")

"""Files of weights in every layout the kit knows, and in every state a file can be in."""

import argparse
import errno
import hashlib
import json
import pickle
import re
import tracemalloc
from collections import OrderedDict

import pytest
import safetensors.torch
import torch
from torch import nn

from common.errors import CheckpointError
from common.training.averages import MovingAverage
from common.vision.resnet import ResNet
from common.vision.resnet_weights import (
    load_weights,
    read_metadata,
    save_weights,
    weights_metadata,
)

CLASSES = 6


def build_random(seed):
    torch.manual_seed(seed)
    return ResNet(depth=18, num_classes=CLASSES, zero_init_last_norm=False)


def build(depth=18, num_classes=CLASSES):
    """A model of zeros: quicker than random numbers, and nothing a file holds."""
    with torch.device("meta"):
        model = ResNet(depth=depth, num_classes=num_classes, zero_init_last_norm=False)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


@pytest.fixture(scope="module")
def source():
    """A ResNet-18 whose every number, statistics included, differs from a fresh one's."""
    model = build_random(seed=7)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.rand(tensor.shape).to(tensor.dtype) if tensor.is_floating_point() else 5)
    return model.requires_grad_(False)


def nvidia_names(state):
    """DeepLearningExamples' names: stages counted from zero inside one container."""
    return {re.sub(r"^layer(\d)\.", lambda match: f"layers.{int(match[1]) - 1}.", k): v for k, v in state.items()}


def prefixed(state, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def assert_same(model, source, but=()):
    expected = source.state_dict()
    for name, tensor in model.state_dict().items():
        if not name.startswith(tuple(but)):
            assert torch.equal(tensor, expected[name]), name


def older(state):
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


class Wrapped(nn.Module):
    """As a task holds its model, with a tensor of its own."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("pixel_mean", torch.zeros(3))


def with_head_named(state, name):
    return {key.replace("fc.", f"{name}.") if key.startswith("fc.") else key: tensor for key, tensor in state.items()}


def backbone_and_head(state):
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    return prefixed(body, "backbone.") | {f"head.{name}": state[name] for name in ("fc.weight", "fc.bias")}


def average_of(state):
    return {"n_averaged": torch.tensor(3)} | prefixed(state, "module.")


ARGUMENTS = argparse.Namespace(lr=0.1)
LAYOUTS = {
    "torchvision": (lambda s: s, None),
    "torchvision training": (lambda s: {"model": s, "optimizer": {}, "epoch": 3, "args": ARGUMENTS}, "model"),
    "torchvision average": (lambda s: {"model": {}, "model_ema": average_of(s)}, "model_ema"),
    "timm training": (lambda s: {"arch": "resnet18", "state_dict": s, "args": ARGUMENTS}, "state_dict"),
    "other head": (lambda s: with_head_named(s, "classifier"), None),
    "nested head": (lambda s: with_head_named(s, "head.fc"), None),
    "backbone and head": (backbone_and_head, None),
    "nvidia": (nvidia_names, None),
    "nvidia training": (
        lambda s: {"epoch": 90, "best_prec1": torch.tensor(78.0), "state_dict": prefixed(nvidia_names(s), "module.")},
        "state_dict",
    ),
    "nvidia average": (
        lambda s: {"state_dict": {"x": torch.zeros(1)}, "state_dict_ema": prefixed(nvidia_names(s), "module.")},
        "state_dict_ema",
    ),
    "nvidia 20.06": (lambda s: prefixed(s, "module."), None),
    "compiled": (lambda s: prefixed(s, "_orig_mod."), None),
    "lightning": (lambda s: {"state_dict": OrderedDict(prefixed(s, "model."))}, "state_dict"),
    "nested": (lambda s: {"model": {"state_dict": s}}, "model.state_dict"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_loads_exactly(source, tmp_path, layout):
    wrap, part = LAYOUTS[layout]
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pth")
    model = build()
    report = load_weights(model, tmp_path / "weights.pth", strict_head=True)
    assert_same(model, source)
    assert (report.part, report.new_head, report.file_classes) == (part, False, CLASSES)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.bin", "pytorch_model.pth"])
def test_content_decides_how_a_file_is_read(source, tmp_path, name):
    for write in (safetensors.torch.save_file, torch.save):
        write(source.state_dict(), tmp_path / name)
        model = build()
        load_weights(model, tmp_path / name)
        assert_same(model, source)


def test_files_of_old_torch_versions(source, tmp_path):
    torch.save(older(source.state_dict()), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    model = build()
    load_weights(model, tmp_path / "old.pth")
    assert_same(model, source, but=[name for name in source.state_dict() if name.endswith("num_batches_tracked")])


def test_the_kits_own_checkpoint_gives_its_averaged_weights(source, tmp_path):
    average = MovingAverage(Wrapped(source), 0.9)
    state = {"step": 100, "task": Wrapped(build_random(seed=3)).state_dict(), "ema": average.state_dict(), "best": 0.5}
    torch.save(state, tmp_path / "step-00000100.pt")
    model = build()
    assert load_weights(model, tmp_path / "step-00000100.pt").part == "ema"
    assert_same(model, source)
    torch.save(state | {"ema": None}, tmp_path / "step-00000100.pt")
    assert load_weights(model, tmp_path / "step-00000100.pt").part == "task"
    assert_same(model, build_random(seed=3))


def test_half_precision_weights_become_single(source, tmp_path):
    torch.save({name: tensor.half() for name, tensor in source.state_dict().items()}, tmp_path / "half.pth")
    model = build()
    load_weights(model, tmp_path / "half.pth")
    assert torch.equal(model.conv1.weight, source.conv1.weight.half().float())


def test_memory_format_survives_loading(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = build().to(memory_format=torch.channels_last)
    load_weights(model, tmp_path / "weights.pth")
    assert model.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert_same(model, source)


def test_another_class_count_gives_a_new_head_and_says_so(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    model = build(num_classes=3)
    nn.init.normal_(model.fc.weight)
    head = model.fc.weight.clone()
    report = load_weights(model, tmp_path / "weights.pth")
    assert_same(model, source, but=["fc."])
    assert torch.equal(model.fc.weight, head)
    assert (report.new_head, report.file_classes) == (True, CLASSES)
    assert str(report) == "ResNet-18 weights from weights.pth, with a new classifier in place of 6 classes"
    with pytest.raises(CheckpointError, match="for 6 classes, the model one for 3"):
        load_weights(model, tmp_path / "weights.pth", strict_head=True)


@pytest.mark.parametrize(("names", "is_new"), [(list("abcdef"), False), (list("abcdeg"), True), (list("fedcba"), True)])
def test_as_many_other_classes_give_a_new_head_too(source, tmp_path, names, is_new):
    path = tmp_path / "weights.safetensors"
    save_weights(source.state_dict(), path, weights_metadata(list("abcdef"), {}))
    model = build()
    report = load_weights(model, path, classes=names)
    assert report.new_head == is_new
    assert torch.equal(model.fc.weight, source.fc.weight) != is_new


def test_a_file_without_a_head_gives_a_new_one(source, tmp_path):
    state = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("fc.")}
    torch.save(state, tmp_path / "backbone.pth")
    report = load_weights(build(), tmp_path / "backbone.pth")
    assert report.new_head
    assert report.file_classes is None


def named_by_digest(state, folder, digits, suffix=".pth"):
    torch.save(state, folder / "file")
    digest = hashlib.sha256((folder / "file").read_bytes()).hexdigest()
    return (folder / "file").rename(folder / f"resnet18-{digest[:digits]}{suffix}")


@pytest.mark.parametrize(("digits", "verified"), [(8, True), (64, True), (7, False)])
def test_digits_in_the_name_are_verified(source, tmp_path, digits, verified):
    path = named_by_digest(source.state_dict(), tmp_path, digits)
    assert load_weights(build(), path).verified is verified


def test_a_file_that_is_not_what_its_name_promises(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "resnet18-0676ba61.pth")
    with pytest.raises(CheckpointError, match="not the file its name promises"):
        load_weights(build(), tmp_path / "resnet18-0676ba61.pth")


@pytest.mark.parametrize("name", ["step-00000100.pt", "model-20261120.pth", "resnet18.pth"])
def test_dates_and_steps_are_no_digests(source, tmp_path, name):
    torch.save(source.state_dict(), tmp_path / name)
    assert not load_weights(build(), tmp_path / name).verified


def fails(path, match, depth=18):
    """Loading is refused in at most three lines and changes nothing."""
    model = build(depth)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=match) as caught:
        load_weights(model, path)
    assert len(str(caught.value).splitlines()) <= 3
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    return str(caught.value)


@pytest.mark.parametrize(("in_file", "wanted"), [(18, 34), (18, 50), (34, 18), (50, 101), (34, 50)])
def test_another_depth_is_named(tmp_path, in_file, wanted):
    torch.save(build(in_file).state_dict(), tmp_path / "weights.pth")
    text = fails(tmp_path / "weights.pth", f"does not fit a ResNet-{wanted}", wanted)
    assert f"These are ResNet-{in_file} weights." in text


VARIANTS = {
    "wide or grouped": lambda s: s | {"layer1.0.conv2.weight": torch.zeros(64, 4, 3, 3)},
    "another stem": lambda s: {"conv1.0.weight" if k == "conv1.weight" else k: v for k, v in s.items()},
    "squeeze-and-excitation": lambda s: s | {"layer1.0.se.fc1.weight": torch.zeros(4, 64, 1, 1)},
    "not the weights of a ResNet": lambda s: {"features.0.weight": torch.zeros(64, 3, 3, 3)},
    "3, 2, 2, 2 blocks": lambda s: s | {"layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)},
    "a few are off": lambda s: s | {"conv1.weight": torch.zeros(64, 1, 7, 7)},
}


@pytest.mark.parametrize("reason", VARIANTS)
def test_other_networks_are_recognised(source, tmp_path, reason):
    torch.save(VARIANTS[reason](source.state_dict()), tmp_path / "weights.pth")
    assert reason in fails(tmp_path / "weights.pth", "does not fit")


def test_missing_unknown_and_reshaped_weights_are_listed(source, tmp_path):
    state = dict(source.state_dict())
    del state["layer1.0.bn1.weight"]
    state |= {"surplus.weight": torch.zeros(1), "conv1.weight": torch.zeros(64, 1, 7, 7)}
    torch.save(state, tmp_path / "weights.pth")
    text = fails(tmp_path / "weights.pth", "does not fit")
    assert "1 missing (layer1.0.bn1.weight)" in text
    assert "1 unknown (surplus.weight)" in text
    assert "1 of another shape (conv1.weight (64, 1, 7, 7) instead of (64, 3, 7, 7))" in text


def test_non_finite_weights_are_refused(source, tmp_path):
    state = dict(source.state_dict()) | {"bn1.running_var": torch.full((64,), torch.inf)}
    torch.save(state, tmp_path / "weights.pth")
    assert "bn1.running_var" in fails(tmp_path / "weights.pth", "not finite")


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_file_is_never_run(source, tmp_path, new_format):
    content = {"state_dict": dict(source.state_dict()), "extra": Payload(tmp_path / "ran")}
    torch.save(content, tmp_path / "weights.pth", _use_new_zipfile_serialization=new_format)
    assert "(io.open)" in fails(tmp_path / "weights.pth", "would run code")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_is_never_run(tmp_path, protocol):
    (tmp_path / "weights.pth").write_bytes(pickle.dumps(Payload(tmp_path / "ran"), protocol))
    fails(tmp_path / "weights.pth", "cannot be read as weights|would run code")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_model_is_refused(source, tmp_path):
    torch.save(source, tmp_path / "model.pth")
    assert "state_dict" in fails(tmp_path / "model.pth", "would run code")


DAMAGE = {
    "empty": lambda data: b"",
    "short": lambda data: data[: len(data) // 2],
    "head": lambda data: data[:100],
    "text": lambda data: b"<html>404 not found</html>",
    "zeros": lambda data: bytes(1000),
    "flipped": lambda data: bytes(255 - byte for byte in data[:2000]) + data[2000:],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("write", [torch.save, safetensors.torch.save_file])
def test_damaged_files_are_refused(source, tmp_path, write, damage):
    path = tmp_path / "weights.pth"
    write({"conv1.weight": source.conv1.weight.clone()}, path)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    fails(path, "cannot be read as weights")


@pytest.mark.parametrize("value", [{}, [1, 2], {"epoch": 3}, torch.zeros(3), {"state_dict": {}}])
def test_files_without_weights_are_refused(tmp_path, value):
    torch.save(value, tmp_path / "weights.pth")
    fails(tmp_path / "weights.pth", "holds no weights")


def test_a_file_that_refers_to_itself_is_refused(tmp_path):
    loop: dict = {}
    loop["model"] = loop
    torch.save(loop, tmp_path / "weights.pth")
    fails(tmp_path / "weights.pth", "holds no weights")


def test_an_absent_file_and_a_folder_are_refused(tmp_path):
    fails(tmp_path / "absent.pth", "no file of weights")
    fails(tmp_path, "no file of weights")


def test_saved_weights_come_back_with_their_facts(source, tmp_path):
    names = ["cat", "dög", 'with "quotes"', "d", "e", "f"]
    model = source.to(memory_format=torch.channels_last)
    metadata = weights_metadata(names, {"resize": 256, "crop": 224})
    save_weights(model.state_dict(), tmp_path / "folder" / "weights.safetensors", metadata)
    restored = build()
    load_weights(restored, tmp_path / "folder" / "weights.safetensors", strict_head=True)
    assert_same(restored, source)
    facts = read_metadata(tmp_path / "folder" / "weights.safetensors")
    assert facts == metadata
    assert json.loads(facts["class_names"]) == names
    assert json.loads(facts["preprocessing"]) == {"resize": 256, "crop": 224}
    assert facts["kit_version"]


def test_equal_weights_give_equal_files(source, tmp_path):
    metadata = weights_metadata([str(number) for number in range(CLASSES)], {"crop": 224})
    digests = set()
    for attempt in range(5):
        path = tmp_path / f"{attempt}.safetensors"
        save_weights(source.state_dict(), path, dict(sorted(metadata.items(), reverse=attempt % 2 == 0)))
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_weights_are_laid_out_as_safetensors_does_and_never_held_twice(tmp_path):
    kinds = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]
    tensors = {f"{place}": torch.arange(6).view(2, 3).to(kind) for place, kind in enumerate(kinds)}
    tensors |= {"none": torch.empty(0, 4), "one": torch.tensor(3.5), "large": torch.ones(2**20), "t": torch.eye(3).t()}
    tracemalloc.start()
    save_weights(tensors, tmp_path / "weights.safetensors", {"b": "1", "a": "ä"})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < tensors["large"].nbytes / 4
    content, (ours, theirs) = (tmp_path / "weights.safetensors").read_bytes(), ({}, {})
    expected = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
    for one, header in ((content, ours), (expected, theirs)):
        size = int.from_bytes(one[:8], "little")
        header |= {"tensors": json.loads(one[8 : 8 + size]), "numbers": one[8 + size :]}
    assert ours["tensors"].pop("__metadata__") == {"a": "ä", "b": "1"}
    assert ours == theirs


def test_torchs_own_files_have_no_metadata(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    assert read_metadata(tmp_path / "weights.pth") == {}
    (tmp_path / "damaged").write_bytes(safetensors.torch.save({"a": torch.zeros(9)})[:-3])
    for path in (tmp_path / "damaged", tmp_path / "absent"):
        with pytest.raises(CheckpointError):
            read_metadata(path)


def test_a_failed_write_leaves_the_old_file(source, tmp_path, monkeypatch):
    path = tmp_path / "weights.safetensors"
    save_weights(source.state_dict(), path, {"kit_version": "1"})
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_weights(build().state_dict(), path, {"kit_version": "2"})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]

"""Published checkpoints read, checked, exported and fine-tuned from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import write_folder_tree
from families import REDUCED, reduced

from adaptive_depth import networks, train, weights
from adaptive_depth.cli import main
from adaptive_depth.manifest import read_model_folder
from adaptive_depth.networks import AdaptiveNetwork
from adaptive_depth.networks.originals import build_original

SIZE = 64


@pytest.fixture
def small_resnet50(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AdaptiveNetwork]:
    """Makes ``resnet50`` the reduced one; gives networks of so many classes."""
    arch, options, _ = REDUCED["resnet50"]
    narrow = partial(networks.ARCHITECTURES[arch], **options)
    monkeypatch.setitem(networks.ARCHITECTURES, "resnet50", narrow)
    return lambda classes: reduced("resnet50", classes)[0]


def import_arguments(checkpoint: Path, out: Path, *more: str) -> list[str]:
    return [
        *("import", "--arch", "resnet50", "--checkpoint", str(checkpoint), "--out", str(out)),
        *("--size", str(SIZE), "--threads", "1", *more),
    ]


def published_file(path: Path, network: AdaptiveNetwork) -> Path:
    """As the published training script writes it: with its arguments, and other weights
    in ``model`` than in ``model_ema``."""
    averaged = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    other = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    state = {
        "model": other,
        "model_ema": {"n_averaged": torch.tensor(7), **averaged},
        "args": argparse.Namespace(model="resnet50", epochs=600),
        "epoch": 599,
    }
    torch.save(state, path)
    return path


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    network, _ = reduced("swin_t")
    file = published_file(tmp_path / "w.pt", network)
    read = weights.read_weights(file)
    assert read.keys() == network.state_dict().keys()
    torch.testing.assert_close(read["head.weight"], network.state_dict()["head.weight"])


def test_import_states_published_accuracies_as_published(small_resnet50, tmp_path: Path) -> None:
    file = published_file(tmp_path / "w.pt", small_resnet50(10))
    out = tmp_path / "model"
    assert main(import_arguments(file, out, "--accuracies", "resnet50-v2")) == 0
    manifest, _ = read_model_folder(out)
    by_name = {entry["skip"]: entry for entry in manifest["subNetworks"]}
    assert len(by_name) == 16
    assert by_name["TTTF"]["top1"] == 0.787 and by_name["TTTF"]["source"] == "published"
    assert "NeurIPS 2024" in by_name["FFFF"]["reference"]
    assert by_name["FTFT"]["source"] == "unmeasured" and by_name["FTFT"]["top1"] is None
    assert not any(entry["source"] == "measured" for entry in by_name.values())
    assert manifest["dataset"]["name"] == "ImageNet-1k"
    assert manifest["training"] == {"command": None, "epochs": None}
    assert manifest["labels"][0] == "class 0"


def test_import_measures_on_a_folder(small_resnet50, tmp_path: Path) -> None:
    file = published_file(tmp_path / "w.pt", small_resnet50(3))
    tree = write_folder_tree(tmp_path / "garments", {"val": 3})
    assert main(import_arguments(file, tmp_path / "model", "--data", str(tree))) == 0
    manifest, _ = read_model_folder(tmp_path / "model")
    assert {entry["source"] for entry in manifest["subNetworks"]} == {"measured"}
    assert manifest["dataset"] == {"name": "garments", "split": "val", "images": 9}
    assert manifest["labels"] == ["blue shirt", "green hat", "red sock"]


def test_import_without_either_says_unmeasured(small_resnet50, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    torch.save({"model": small_resnet50(10).state_dict()}, file)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"name {index}" for index in range(10)))
    assert main(import_arguments(file, tmp_path / "model", "--labels", str(labels))) == 0
    manifest = json.loads((tmp_path / "model" / "model.json").read_text())
    assert {entry["source"] for entry in manifest["subNetworks"]} == {"unmeasured"}
    assert manifest["dataset"] is None and manifest["labels"][9] == "name 9"


def test_what_differs_is_listed(small_resnet50, tmp_path: Path, capsys) -> None:
    state = small_resnet50(10).state_dict()
    del state["layer1.0.bn2_skip.bias"]
    state["layer4.0.conv1.weight"] = state["layer4.0.conv1.weight"][:4]
    state["layer9.weight"] = torch.zeros(1)
    torch.save({"model": state}, tmp_path / "w.pt")
    assert main(import_arguments(tmp_path / "w.pt", tmp_path / "model")) == 1
    message = capsys.readouterr().err
    assert "3 tensors differ" in message
    assert "missing: layer1.0.bn2_skip.bias" in message
    assert "layer4.0.conv1.weight: shape 4x64x1x1, expected 16x64x1x1" in message
    assert "unknown: layer9.weight" in message
    assert not (tmp_path / "model").exists()


IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
HALVES = ([127.5] * 3, [127.5] * 3)
OWN = ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])


@pytest.mark.parametrize(
    ("arch", "start", "expected"),
    [
        ("library", "library.pth", HALVES),
        ("library", "pretrained", HALVES),
        ("library", "own.pt", OWN),
        ("resnet50", "library.pth", IMAGENET),
        ("resnet50", "pretrained", IMAGENET),
    ],
)
def test_fine_tuning_normalises_as_the_weights_expect(
    arch: str, start: str, expected, folder_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder_tree)
    torch.save({"conv.weight": torch.zeros(1)}, "library.pth")
    torch.save({"network": {}, "mean": OWN[0], "std": OWN[1]}, "own.pt")
    trained_on = []
    monkeypatch.setattr(
        train, "start_run", lambda args, config, dataset, _: trained_on.append(dataset)
    )
    model = ["--option", 'model="timm:tf_efficientnet_lite2"'] if arch == "library" else []
    arguments = ["--arch", arch, *model, "--size", "32", "--start", start]
    assert main(["train", "--data", str(folder_tree), "--out", "run", *arguments]) == 0
    assert [(dataset.mean, dataset.std) for dataset in trained_on] == [expected]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04"])
def test_an_unreadable_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(content)
    with pytest.raises(weights.WeightsError, match=r"w\.pt: not a readable checkpoint"):
        weights.read_weights(file)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"model": Trap()}, tmp_path / "w.pt")
    with pytest.raises(weights.WeightsError):
        weights.read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("family", ["resnet50", "mobilenet_v2", "swin_t"])
def test_fine_tuning_starts_from_published_weights_or_the_librarys(
    family: str, tmp_path: Path
) -> None:
    network, _ = reduced(family)
    published = tmp_path / "published.pth"
    torch.save({"model": network.state_dict()}, published)
    read = weights.start_weights(network, str(published))
    assert read.keys() == network.state_dict().keys()
    assert all(torch.equal(read[name], t) for name, t in network.state_dict().items())

    own = tmp_path / "library.pth"
    _, options, size = REDUCED[family]
    torch.save(build_original(options["model"], 10, size).state_dict(), own)
    read = weights.start_weights(network, str(own))
    assert read.keys() == network.state_dict().keys(), "under the published names"


@pytest.mark.parametrize("family", REDUCED)
def test_fine_tuning_replaces_the_classifier_alone_which_starts_from_zero(family: str) -> None:
    source, _ = reduced(family, classes=10)
    network, _ = reduced(family, classes=3)
    classifier = f"{network.logits_layer}.weight"
    assert network.state_dict()[classifier].any()
    for name, tensor in network.state_dict().items():
        if name != classifier:
            tensor.zero_()
    weights.load_for_fine_tuning(network, source.state_dict(), "test")
    for name, tensor in network.state_dict().items():
        if not name.startswith(network.logits_layer):
            torch.testing.assert_close(tensor, source.state_dict()[name])
    assert not network.state_dict()[classifier].any()


def test_fine_tuning_at_another_size_interpolates_positions() -> None:
    _, options, _ = REDUCED["vit_b_16"]
    source = networks.build("vit_b_16", 10, options)
    network = networks.build("vit_b_16", 10, {**options, "size": 48})
    weights.load_for_fine_tuning(network, source.state_dict(), "test")
    old, new = (n.state_dict()["encoder.pos_embedding"] for n in (source, network))
    assert new.shape == (1, 37, 24)
    torch.testing.assert_close(new[:, 0], old[:, 0])
    torch.testing.assert_close(new[:, 1:].mean(), old[:, 1:].mean(), atol=0.01, rtol=0)

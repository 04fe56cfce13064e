"""``adaptive-depth adapt``: from a library's weights and a folder of photos to a model folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import write_folder_tree
from families import randomise
from safetensors.torch import save_file
from torch import Tensor

from adaptive_depth import trainer as trainer_module
from adaptive_depth import weights
from adaptive_depth.cli import main
from adaptive_depth.manifest import read_model_folder
from adaptive_depth.networks.library import LibraryNetwork
from adaptive_depth.networks.originals import build_original

MODEL = "timm:reduced_resnet50"


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library's weights, for seven classes."""
    torch.manual_seed(0)
    original = build_original(MODEL, 7, 32)
    randomise(original)
    path = tmp_path_factory.mktemp("weights") / "weights.pth"
    torch.save(original.state_dict(), path)
    return path


def adapt_arguments(photos: Path, run: Path, *more: str) -> list[str]:
    return [
        *("adapt", "--model", MODEL, "--data", str(photos), "--out", str(run), "--size", "32"),
        *("--epochs", "2", "--batch-size", "12", "--threads", "1", *more),
    ]


@pytest.fixture(scope="module")
def adapted(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` sorted by class only, and ``run``."""
    root = tmp_path_factory.mktemp("adapt")
    write_folder_tree(root / "photos", {".": 20}, size=40)
    arguments = adapt_arguments(root / "photos", root / "run", "--weights", str(pretrained))
    assert main(arguments) == 0
    return root


def checkpoint(run: Path) -> dict:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def test_it_says_how_the_photos_were_split_and_keeps_that_with_the_run(
    adapted: Path, pretrained: Path, tmp_path: Path, capsys
) -> None:
    arguments = adapt_arguments(adapted / "photos", tmp_path, "--weights", str(pretrained))
    assert main([*arguments, "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "photos: 3 classes, 42 for train, 6 for val, 12 for test (of each class 20% for" in said
    about = json.loads((tmp_path / "run.json").read_text())["data"]
    assert about["source"] == str(adapted / "photos")
    assert about["images"] == {"train": 42, "val": 6, "test": 12}
    assert "by a hash of file names" in about["split"]


def test_settings_suit_pre_trained_weights(adapted: Path) -> None:
    config = checkpoint(adapted / "run")["config"]
    assert config["optimiser"]["kind"] == "adamw" and config["crop"] == "resized"
    assert config["frozen_norms"] and config["distill"]["between"] == 0.5
    assert config["warmup_epochs"] == pytest.approx(0.2), "a tenth of the epochs"


def test_training_starts_from_the_weights_and_their_statistics(
    adapted: Path, pretrained: Path
) -> None:
    state, original = checkpoint(adapted / "run"), torch.load(pretrained, weights_only=True)
    for name in ("bn1.running_mean", "layer1.0.bn1.running_var"):
        torch.testing.assert_close(state["network"][name], original[name])
    skip = state["network"]["layer1.0.bn1_skip.running_var"]
    torch.testing.assert_close(skip, original["layer1.0.bn1.running_var"])
    assert not torch.equal(state["network"]["conv1.weight"], original["conv1.weight"])
    assert state["network"]["fc.weight"].shape == (3, 64)


def test_an_interrupted_run_goes_on(
    adapted: Path, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    arguments = adapt_arguments(adapted / "photos", tmp_path, "--weights", str(pretrained))
    done = iter(range(4))  # of 3 steps an epoch
    original = trainer_module.backward_both

    def backward_both(*args):
        if next(done) == 3:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "backward_both", backward_both)
        assert main(arguments) == 130
    assert checkpoint(tmp_path)["epoch"] == 1
    assert main(arguments) == 1
    assert "already holds a run: --resume it" in capsys.readouterr().err
    assert main([*arguments, "--resume"]) == 0
    resumed, unbroken = checkpoint(tmp_path), checkpoint(adapted / "run")
    for name, tensor in unbroken["network"].items():
        assert torch.equal(resumed["network"][name], tensor), name


def test_evaluate_and_export_know_the_data_and_the_split(
    adapted: Path, tmp_path: Path, capsys
) -> None:
    assert main(["evaluate", "--run", str(adapted / "run"), "--out", str(tmp_path / "e")]) == 0
    report = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert report["dataset"] == {"name": "photos", "split": "test", "images": 12}
    assert len(report["subNetworks"]) == 16
    export = ["export", "--run", str(adapted / "run"), "--name", "a", "--version", "1.0.0"]
    assert main([*export, "--out", str(tmp_path / "m"), "--size", "48"]) == 0
    manifest, _ = read_model_folder(tmp_path / "m")
    assert (manifest["input"]["height"], manifest["dataset"]["images"]) == (48, 12)
    evaluate = ["evaluate", "--model", str(tmp_path / "m"), "--latency-rounds", "0"]
    assert main(evaluate) == 0
    assert "16 of 16 accuracies equal the manifest's." in capsys.readouterr().out


def test_runs_that_say_nothing_of_their_data_are_read_by_their_command(
    adapted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "old"
    run.mkdir()
    (run / "checkpoint.pt").write_bytes((adapted / "run" / "checkpoint.pt").read_bytes())
    recorded = json.loads((adapted / "run" / "run.json").read_text())
    command = f"adaptive-depth adapt --model {MODEL} --data {adapted / 'photos'} --live-norms"
    (run / "run.json").write_text(json.dumps({**recorded, "command": command, "data": None}))
    assert main(["evaluate", "--run", str(run), "--limit", "3"]) == 0


def test_a_network_of_one_size_is_not_exported_at_another(tmp_path: Path, capsys) -> None:
    write_folder_tree(tmp_path / "photos", {".": 6}, size=40)
    adapt = [
        *("adapt", "--model", "timm:reduced_vit", "--data", str(tmp_path / "photos")),
        *("--out", str(tmp_path / "run"), "--size", "32", "--epochs", "1", "--batch-size", "6"),
    ]
    assert main(adapt) == 0
    capsys.readouterr()
    export = ["export", "--run", str(tmp_path / "run"), "--name", "a", "--version", "1.0.0"]
    assert main([*export, "--out", str(tmp_path / "m"), "--size", "64"]) == 1
    assert "--size 64: the network was trained for 32 pixels" in capsys.readouterr().err


def test_the_list_names_blocks_and_costs(capsys) -> None:
    assert main(["adapt", "--model", "timm:resnet18", "--list", "--size", "64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "timm:resnet18 at 64 px: 4 skippable stages"
    assert "  stage 2: keeps layer2.0" in lines
    assert "           skips layer2.1" in lines
    costs = [line.split() for line in lines if line.split()[:1] and set(line.split()[0]) <= {*"FT"}]
    assert len(costs) == 16 and costs[0][0] == "FFFF" and costs[-1][0] == "TTTT"
    assert costs[0][1:] == ["149", "1.00"] and costs[-1][1:] == ["73", "0.49"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", MODEL], "--data and --out are needed, or --list"),
        (["--model", "timm:resnet1", "--list"], "timm has no network 'resnet1'"),
        (["--model", "torchvision:vgg11", "--list", "--size", "64"], "so none can be skipped"),
        (["--model", MODEL, "--list", "--size", "64", "--keep", "1,9"], "--keep 1,9: the stages"),
    ],
)
def test_what_is_at_fault_is_said_in_one_line(arguments: list[str], message: str, capsys) -> None:
    assert main(["adapt", *arguments]) == 1
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def by_names(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(state, folder / "w.pth")
    return folder / "w.pth"


def by_order(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(
        {f"_layers.{i}": tensor for i, tensor in enumerate(state.values())}, folder / "w.pth"
    )
    return folder / "w.pth"


def as_state_dict(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": state}, folder / "w.pth")
    return folder / "w.pth"


def as_safetensors(state: dict[str, Tensor], folder: Path) -> Path:
    save_file(state, folder / "w.safetensors")
    return folder / "w.safetensors"


@pytest.mark.parametrize("form", [by_names, by_order, as_state_dict, as_safetensors])
def test_weights_are_read_in_every_form(
    form: Callable[[dict[str, Tensor], Path], Path], pretrained: Path, tmp_path: Path
) -> None:
    state = torch.load(pretrained, weights_only=True)
    network = LibraryNetwork(3, MODEL, 32)
    start = str(form(state, tmp_path))
    weights.load_for_fine_tuning(network, weights.start_weights(network, start), start)
    loaded = network.state_dict()
    assert not loaded["fc.weight"].any(), "of other classes: starts from zero"
    for name, tensor in state.items():
        if not name.startswith("fc."):
            assert torch.equal(loaded[name], tensor), name
    assert torch.equal(loaded["layer3.0.bn2_skip.weight"], state["layer3.0.bn2.weight"])


def test_a_classifier_of_as_many_classes_is_kept(pretrained: Path) -> None:
    network = LibraryNetwork(7, MODEL, 32)
    start = weights.start_weights(network, str(pretrained))
    weights.load_for_fine_tuning(network, start, "test")
    assert torch.equal(network.state_dict()["fc.weight"], start["fc.weight"])


def test_weights_of_another_network_are_refused(pretrained: Path, tmp_path: Path) -> None:
    state = torch.load(pretrained, weights_only=True)
    other = by_order(dict(list(state.items())[:-1]), tmp_path)
    network = LibraryNetwork(3, MODEL, 32)
    with pytest.raises(weights.WeightsError, match="neither names nor shapes"):
        weights.start_weights(network, str(other))
    with pytest.raises(weights.WeightsError, match=r"missing: layer4\.1\.bn3\.weight"):
        del state["layer4.1.bn3.weight"]
        start = weights.start_weights(network, str(by_names(state, tmp_path)))
        weights.load_for_fine_tuning(network, start, "test")


def test_a_position_embedding_is_resized(tmp_path: Path) -> None:
    start = by_names(build_original("timm:vit_tiny_patch16_224", 7, 64).state_dict(), tmp_path)
    network = LibraryNetwork(3, "timm:vit_tiny_patch16_224", 32)
    weights.load_for_fine_tuning(network, weights.start_weights(network, str(start)), "test")
    assert network.state_dict()["pos_embed"].shape == (1, 1 + 2 * 2, 192)

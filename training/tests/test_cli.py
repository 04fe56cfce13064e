"""The command line, from training on a folder of pictures to checking the exported model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import write_folder_tree

from adaptive_depth import __version__, data
from adaptive_depth.cli import main
from adaptive_depth.export import ExportError, check_equal
from adaptive_depth.images import Frame
from adaptive_depth.manifest import read_model_folder, write
from adaptive_depth.onnx_model import OnnxModel
from adaptive_depth.run_folder import read_run


def train_arguments(data: Path, out: Path) -> list[str]:
    options = "--blocks 2,2 --widths 8,16 --size 16 --epochs 2 --batch-size 12 --lr 0.05"
    return ["train", "--data", str(data), "--out", str(out), *options.split()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data``, ``run`` and the exported ``model``."""
    root = tmp_path_factory.mktemp("cli")
    write_folder_tree(root / "data", {"train": 12, "val": 4, "test": 10})
    assert main(train_arguments(root / "data", root / "run")) == 0
    assert main(export_arguments(root)) == 0
    return root


def export_arguments(root: Path, name: str = "toy", version: str = "1.2.3") -> list[str]:
    places = ["--run", str(root / "run"), "--out", str(root / "model")]
    return ["export", *places, "--name", name, "--version", version, "--threads", "1"]


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["export"]])
def test_help_is_there_for_each_command(command: list[str], capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "usage: adaptive-depth" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["predict"],
        ["train"],
        ["evaluate"],
        ["evaluate", "--run", "a", "--model", "b"],
        ["evaluate", "--run", "a", "--limit", "0"],
        ["export", "--run", "a"],
    ],
    ids=" ".join,
)
def test_bad_usage_exits_with_2(arguments: list[str]):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"{__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_completes_commands_and_options(shell: str, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(word in script for word in ("adapt", "calibrate", "--latency-rounds", "--restate"))


def test_errors_are_json_where_json_is_asked_for(tmp_path: Path, capsys):
    assert main(["evaluate", "--run", str(tmp_path), "--json"]) == 1
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["exitCode"] == 1 and "checkpoint.pt" in error["message"]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--limit", "0", "--json"])
    assert stop.value.code == 2
    assert json.loads(capsys.readouterr().err)["error"]["exitCode"] == 2


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a failing command prints."""
    capsys.readouterr()
    assert main(arguments) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("adaptive-depth: ")
    return line


def test_data_at_fault_exit_with_1_and_name_the_file(tmp_path: Path, capsys):
    tree = write_folder_tree(tmp_path / "data", {"train": 2, "val": 1})
    (tree / "val" / "red sock" / "0.png").write_bytes(b"no image")
    message = error_of(train_arguments(tree, tmp_path / "run"), capsys)
    assert "val/red sock/0.png: not a readable image" in message


def test_a_run_is_not_overwritten(trained: Path, capsys):
    message = error_of(train_arguments(trained / "data", trained / "run"), capsys)
    assert "already holds a run: --resume it" in message


def test_resuming_a_finished_run_changes_nothing(trained: Path):
    before = (trained / "run" / "checkpoint.pt").read_bytes()
    recorded = (trained / "run" / "run.json").read_bytes()
    assert main([*train_arguments(trained / "data", trained / "run"), "--resume"]) == 0
    assert (trained / "run" / "checkpoint.pt").read_bytes() == before
    assert (trained / "run" / "run.json").read_bytes() == recorded


def test_a_missing_run_is_named(tmp_path: Path, capsys):
    assert "checkpoint.pt" in error_of(["evaluate", "--run", str(tmp_path)], capsys)


def test_export_writes_a_complete_manifest(trained: Path):
    manifest, path = read_model_folder(trained / "model")
    assert (manifest["name"], manifest["version"]) == ("toy", "1.2.3")
    assert manifest["bytes"] == path.stat().st_size
    run = read_run(trained / "run")
    assert manifest["input"] == {
        **{"name": "image", "height": 16, "width": 16},
        **{"resize": "cover", "centre": 1.0, "interpolation": "bilinear"},
        **{"mean": run.mean, "std": run.std},
    }
    assert manifest["flags"] == ["skip_1", "skip_2"]
    assert manifest["labels"] == ["blue shirt", "green hat", "red sock"]
    assert [entry["skip"] for entry in manifest["subNetworks"]] == ["FF", "FT", "TF", "TT"]
    assert manifest["dataset"] == {"name": "data", "split": "test", "images": 30}
    command = train_arguments(trained / "data", trained / "run")
    assert manifest["training"] == {"command": " ".join(["adaptive-depth", *command]), "epochs": 2}
    full, *_, base = manifest["subNetworks"]
    assert full["macs"] > base["macs"] and full["params"] > base["params"]


@pytest.mark.parametrize(
    ("name", "version", "field"), [("Bad Name", "1.0.0", "name"), ("fine", "1", "version")]
)
def test_a_bad_name_or_version_is_told_before_the_work(trained, capsys, name, version, field):
    message = error_of(export_arguments(trained, name, version), capsys)
    assert message.startswith(f"adaptive-depth: {field}: ")


def test_a_checkpoint_is_evaluated(trained: Path, tmp_path: Path, capsys):
    arguments = ["--run", str(trained / "run"), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["evaluate", *arguments]) == 0
    report = json.loads((tmp_path / "evaluation.json").read_text())
    manifest, _ = read_model_folder(trained / "model")
    assert report["dataset"] == manifest["dataset"]
    for measured, stated in zip(report["subNetworks"], manifest["subNetworks"], strict=True):
        assert {key: measured[key] for key in stated if key != "source"} == {
            key: value for key, value in stated.items() if key != "source"
        }
    assert (tmp_path / "accuracy-macs.png").read_bytes().startswith(b"\x89PNG")
    table = capsys.readouterr().out
    assert all(f" {name} " in table for name in ("FF", "FT", "TF", "TT"))


def test_of_a_depth_trained_alone_only_that_depth_is_evaluated(trained: Path, capsys):
    run = trained / "alone"
    assert main([*train_arguments(trained / "data", run), "--alone", "TT"]) == 0
    assert main(["evaluate", "--run", str(run), "--device", "cpu"]) == 0
    report = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert [entry["skip"] for entry in report["subNetworks"]] == ["TT"]
    export = ["export", "--run", str(run), "--out", str(trained / "none")]
    message = error_of([*export, "--name", "none", "--version", "1.0.0"], capsys)
    assert "trained one depth alone (TT)" in message


def test_an_exported_model_is_evaluated_without_its_run(trained: Path, tmp_path: Path, capsys):
    model = shutil.copytree(trained / "model", tmp_path / "model")
    arguments = ["evaluate", "--model", str(model), "--latency-rounds", "3", "--threads", "1"]
    assert main([*arguments, "--data", str(trained / "data")]) == 0
    report = json.loads((model / "evaluation" / "evaluation.json").read_text())
    assert all(entry["equalsManifest"] for entry in report["subNetworks"])
    assert all(entry["latencyMs"] > 0 for entry in report["subNetworks"])
    assert set(report["paretoFront"]) == {"macs", "latency"}
    assert (model / "evaluation" / "accuracy-latency.png").read_bytes().startswith(b"\x89PNG")
    assert "4 of 4 accuracies equal the manifest's." in capsys.readouterr().out


def test_an_accuracy_that_differs_from_the_manifest_is_pointed_out(trained, tmp_path, capsys):
    model = shutil.copytree(trained / "model", tmp_path / "model")
    manifest = json.loads((model / "model.json").read_text())
    manifest["subNetworks"][1]["top1"] = 0.123456
    (model / "model.json").write_text(json.dumps(manifest))
    assert main(["evaluate", "--model", str(model), "--latency-rounds", "0"]) == 0
    output = capsys.readouterr().out
    assert "3 of 4 accuracies equal the manifest's." in output
    assert "differs: 12.35" in output


def test_fewer_images_are_not_compared_with_the_manifest(trained, tmp_path, capsys):
    arguments = ["--model", str(trained / "model"), "--out", str(tmp_path)]
    assert main(["evaluate", *arguments, "--limit", "6", "--latency-rounds", "0"]) == 0
    assert "can't be compared with the manifest's" in capsys.readouterr().out
    assert "latency" not in json.loads((tmp_path / "evaluation.json").read_text())["paretoFront"]


def test_results_are_json_where_json_is_asked_for(tmp_path: Path, capsys):
    write_folder_tree(tmp_path / "data", {"train": 12, "val": 40, "test": 4})

    def result(*arguments: str) -> dict:
        capsys.readouterr()
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    assert result(*train_arguments(tmp_path / "data", tmp_path / "run"))["epoch"] == 2
    model = str(tmp_path / "model")
    written = result(*export_arguments(tmp_path))
    assert written == json.loads((tmp_path / "model" / "model.json").read_text())
    assert "--json" not in written["training"]["command"]
    calibrated = result("calibrate", "--model", model, "--data", str(tmp_path / "data"))
    assert calibrated["split"] == "val" and set(calibrated["temperatures"]) >= {"FF", "TT"}
    evaluated = result("evaluate", "--model", model, "--latency-rounds", "0")
    assert [entry["skip"] for entry in evaluated["subNetworks"]] == ["FF", "FT", "TF", "TT"]
    listed = result("adapt", "--model", "timm:resnet18", "--list", "--size", "64")
    assert listed["stages"][1] == {"keeps": ["layer2.0"], "skips": ["layer2.1"]}
    assert listed["subNetworks"][0]["skip"] == "FFFF"


@pytest.fixture
def served(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `trained`, whose few photos are enough to calibrate with."""
    monkeypatch.setattr("adaptive_depth.confidence.FEWEST_IMAGES", 12)
    return shutil.copytree(trained, tmp_path / "served")


def test_export_replaces_file_and_manifest_of_a_served_folder_once(
    served: Path, monkeypatch: pytest.MonkeyPatch
):
    model, opened = served / "model", served / "opened.onnx"
    opened.hardlink_to(model / "model.onnx")
    written = []

    def watched(described: dict, folder: Path) -> None:
        assert json.loads((folder / "model.json").read_text())["version"] == "1.2.3"
        written.append((described["version"], "confidence" in described))
        write(described, folder)

    monkeypatch.setattr("adaptive_depth.manifest.write", watched)
    assert main(export_arguments(served, version="1.2.4")) == 0
    assert written == [("1.2.4", True)]
    assert not opened.samefile(model / "model.onnx"), "replaced, not written into"
    assert read_model_folder(model)[0]["version"] == "1.2.4"
    assert {path.name for path in model.iterdir()} == {"model.json", "model.onnx"}


def test_an_export_that_fails_leaves_the_served_model_as_it_was(
    served: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    def differs(*_) -> None:
        raise ExportError("logits differ")

    before, _ = read_model_folder(served / "model")
    arguments = export_arguments(served, version="1.2.4")
    with monkeypatch.context() as patch:
        patch.setattr("adaptive_depth.export.IMAGE", None)
        assert "$.input.name" in error_of(arguments, capsys)
    assert read_model_folder(served / "model")[0] == before
    monkeypatch.setattr("adaptive_depth.export.check_equal", differs)
    assert "logits differ" in error_of(arguments, capsys)
    assert read_model_folder(served / "model")[0] == before


def test_of_other_data_export_reads_the_held_out_split_alone(served: Path, tmp_path: Path):
    new = write_folder_tree(tmp_path / "new", {"test": 6})
    arguments = [*export_arguments(served, version="1.2.4"), "--data", str(new)]
    assert main([*arguments, "--restate", "TF", "--restate-images", "20"]) == 0
    described, _ = read_model_folder(served / "model")
    assert described["dataset"] == {"name": "new", "split": "test", "images": 18}
    assert described["confidence"]["images"] == 12, "val of what the run was trained on"


def test_without_the_data_it_was_trained_on_a_run_is_exported_uncalibrated(
    served: Path, tmp_path: Path, capsys
):
    recorded = json.loads((served / "run" / "run.json").read_text())
    recorded["data"]["source"] = str(tmp_path / "gone")
    (served / "run" / "run.json").write_text(json.dumps(recorded))
    new = write_folder_tree(tmp_path / "new", {"test": 6})
    assert main([*export_arguments(served, version="1.2.4"), "--data", str(new)]) == 0
    said = capsys.readouterr().out
    assert f"Confidence is not calibrated: {new}: folder train/ missing" in said
    assert "confidence" not in read_model_folder(served / "model")[0]


def test_calibrate_counts_the_version_up_where_told(served: Path, capsys):
    arguments = ["calibrate", "--model", str(served / "model"), "--data", str(served / "data")]
    assert main(arguments) == 0
    assert "Still version 1.2.3: a server" in capsys.readouterr().out
    assert read_model_folder(served / "model")[0]["version"] == "1.2.3"
    assert main([*arguments, "--version", "1.2.4"]) == 0
    assert "Still version" not in capsys.readouterr().out
    described, _ = read_model_folder(served / "model")
    assert described["version"] == "1.2.4" and "confidence" in described
    assert "version: " in error_of([*arguments, "--version", "2"], capsys)


@pytest.mark.parametrize(
    ("trained_with", "given", "expected"),
    [
        ([], [], (100, 0)),
        (["--val-per-class", "50", "--seed=7"], [], (50, 7)),
        (["--val-per-class", "50", "--seed=7"], ["--val-per-class", "20", "--seed", "0"], (20, 0)),
    ],
)
def test_calibrate_reads_the_images_that_training_held_out(
    served: Path, monkeypatch: pytest.MonkeyPatch, trained_with, given, expected
):
    described, _ = read_model_folder(served / "model")
    described["training"]["command"] += "".join(f" {word}" for word in trained_with)
    write(described, served / "model")
    read = []
    load_val = data.load_val

    def watched(source: Path, frame: Frame, *how) -> data.Split:
        read.append(how)
        return load_val(source, frame, *how)

    monkeypatch.setattr(data, "load_val", watched)
    arguments = ["--model", str(served / "model"), "--data", str(served / "data")]
    assert main(["calibrate", *arguments, *given]) == 0
    assert read == [(described["labels"], *expected)]


def test_calibrate_does_not_guess_what_a_recipe_of_ones_own_held_out(served: Path, capsys):
    described, _ = read_model_folder(served / "model")
    described["training"]["command"] += " --recipe mine.toml"
    write(described, served / "model")
    arguments = ["calibrate", "--model", str(served / "model"), "--data", "photos.npz", "--seed=1"]
    assert "mine.toml may say which" in error_of(arguments, capsys)
    assert "no such file" in error_of([*arguments, "--val-per-class", "9"], capsys)
    described["training"]["command"] += " --val-per-class 9"
    write(described, served / "model")
    assert "no such file" in error_of(arguments, capsys)


def test_a_file_with_other_weights_is_not_exported(trained: Path):
    """Export compares the file with PyTorch, so a wrong graph never gets a manifest."""
    run = read_run(trained / "run")
    with torch.no_grad():
        next(run.network.parameters()).add_(1.0)
    images = torch.zeros(1, 16, 16, 3, dtype=torch.uint8).numpy()
    with pytest.raises(ExportError, match="logits differ"):
        check_equal(run, OnnxModel(trained / "model" / "model.onnx", threads=1), images)

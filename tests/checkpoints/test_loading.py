"""Loading of checkpoints: what is read, what is refused, and that refusing runs nothing."""

import json
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import nn

from bmp.checkpoints.loading import load_state_dict, load_strictly, trusted_mmengine_globals
from bmp.errors import UserError


class Call:
    """Pickles as a call, the way a malicious file would."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return (self.function, self.arguments) if self.state is None else (self.function, self.arguments, self.state)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def mmengine_checkpoint(network: nn.Module) -> dict:
    """A checkpoint with what mmengine's runner puts beside the weights."""
    hub = MessageHub("test_checkpoints")
    hub.update_scalar("train/loss", 0.5)
    hub.update_scalar("train/loss", torch.tensor(0.25))
    hub.update_info("iter", 2)
    return {
        "meta": {"cfg": "model = dict()", "epoch": 1, "best_score": np.float64(0.5)},
        "state_dict": network.state_dict(),
        "message_hub": hub.state_dict(),
    }


def same(first: dict, second: dict) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("container", [None, "state_dict", "model"])
@pytest.mark.parametrize("zipped", [True, False])
def test_reads_tensors_from_every_container(tmp_path, network, container, zipped):
    file = tmp_path / "weights.pth"
    state = network.state_dict()
    content = state if container is None else {container: state, "epoch": 3}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    assert same(load_state_dict(file), state)
    assert same(load_state_dict(str(file)), state)


@pytest.mark.parametrize("name", ["model.safetensors", "model.SAFETENSORS", "model.pth", "model"])
@pytest.mark.parametrize("format", ["safetensors", "zip", "legacy"])
def test_the_first_bytes_decide_the_format(tmp_path, network, name, format):
    from safetensors.torch import save_file

    if format == "safetensors":
        save_file(network.state_dict(), tmp_path / name)
    else:
        torch.save(network.state_dict(), tmp_path / name, _use_new_zipfile_serialization=format == "zip")
    loaded = load_state_dict(tmp_path / name)
    load_strictly(network, loaded)
    assert set(loaded) == set(network.state_dict())


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_pointer_of_git_lfs_is_called_one(tmp_path, name):
    (tmp_path / name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123\n")
    with pytest.raises(UserError, match="a pointer of git-lfs, not the weights themselves; run `git lfs pull`"):
        load_state_dict(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"state_dict": {"a": torch.ones(1), "epoch": 3}}, "'epoch' (int) in its 'state_dict'"),
        ({"model": {"a": torch.ones(1), "ema": {"a": torch.ones(1)}}}, "'ema' (dict) in its 'model'"),
        ({"a": torch.ones(1), "b": None, "c": [1.0]}, "'b' (NoneType), 'c' (list)"),
        ({"state_dict": {"a": torch.ones(1), 7: torch.ones(1)}}, "7 (Tensor) in its 'state_dict'"),
    ],
)
def test_the_entry_that_is_no_tensor_is_named(tmp_path, content, named):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError) as caught:
        load_state_dict(tmp_path / "a.pth")
    assert f"got {named}; save" in str(caught.value)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.tensor([1.0, torch.nan]), "holds NaN or infinity"),
        (torch.tensor([1.0, -torch.inf]).half(), "holds NaN or infinity"),
        (torch.tensor([torch.nan]).bfloat16(), "holds NaN or infinity"),
        (torch.tensor([torch.nan]).to(torch.float8_e4m3fn), "holds NaN or infinity"),
        (torch.tensor([complex(0, torch.inf)]), "holds NaN or infinity"),
        (torch.ones(2, device="meta"), "has a shape but no values"),
        (torch.eye(2).to_sparse(), "is not dense"),
        (lambda: torch.eye(2).to_sparse_csr(), "is not dense"),
        (lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "is quantised"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_no_weights(tmp_path, tensor, said):
    torch.save(
        {"state_dict": {"fine": torch.ones(1), "layer.weight": tensor() if callable(tensor) else tensor}},
        tmp_path / "a.pth",
    )
    with pytest.raises(UserError, match=f"layer.weight {said}") as caught:
        load_state_dict(tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def test_numbers_of_every_kind_are_weights(tmp_path):
    state = {
        "none": torch.ones(0, 3),
        "scalar": torch.tensor(3),
        "flags": torch.tensor([True]),
        "half": torch.ones(2).bfloat16(),
        "byte": torch.ones(2).to(torch.float8_e5m2),
        "complex": torch.ones(2) * 1j,
        "transposed": torch.ones(2, 3).T,
    }
    torch.save(state, tmp_path / "a.pth")
    assert set(load_state_dict(tmp_path / "a.pth")) == set(state)


def test_keeps_the_dtype_of_the_file(tmp_path):
    torch.save({"weight": torch.ones(2, dtype=torch.float16)}, tmp_path / "half.pt")
    assert load_state_dict(tmp_path / "half.pt")["weight"].dtype == torch.float16


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "model.module.", "_orig_mod.", "module._orig_mod.", "net.backbone."]
)
def test_a_prefix_of_all_names_is_taken_off_and_said(network, caplog, prefix):
    state = network.state_dict()
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with caplog.at_level("INFO", logger="bmp"):
        load_strictly(other, {prefix + name: tensor for name, tensor in state.items()}, file="some.pth")
    assert same(other.state_dict(), state)
    assert caplog.messages == [
        f"some.pth: all names begin with {prefix!r}, which Sequential has not; taken off",
        f"some.pth: weights of Sequential, {len(state)} tensors",
    ]


def test_a_prefix_that_the_module_has_stays(caplog):
    own = nn.ModuleDict({"module": nn.Linear(2, 2)})
    with caplog.at_level("INFO", logger="bmp"):
        load_strictly(own, own.state_dict(), file="own.pth")
    assert caplog.messages == ["own.pth: weights of ModuleDict, 2 tensors"]


@pytest.mark.parametrize(
    "names", [["module.0.weight", "0.bias"], ["other.thing"], ["module.x", "module.y"], ["mod.0.weight", "modx.0.bias"]]
)
def test_other_prefixes_are_misfits(network, names):
    with pytest.raises(UserError, match="surplus"):
        load_strictly(network, {name: torch.ones(1) for name in names})


def test_versions_survive_without_the_prefix():
    wrapped = nn.ModuleDict({"module": Versioned(2, 2)})
    module = Versioned(2, 2)
    load_strictly(module, wrapped.state_dict())
    assert module.seen == 7


def test_reads_mmengine_files_and_leaves_no_permission_behind(tmp_path, network):
    file = tmp_path / "epoch_1.pth"
    torch.save(mmengine_checkpoint(network), file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    before = set(torch.serialization.get_safe_globals())
    assert same(load_state_dict(file), network.state_dict())
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)


def test_history_survives_inside_the_context(tmp_path, network):
    torch.save(mmengine_checkpoint(network), tmp_path / "a.pth")
    with trusted_mmengine_globals():
        content = torch.load(tmp_path / "a.pth", weights_only=True)
    history = content["message_hub"]["log_scalars"]["train/loss"]
    assert isinstance(history, HistoryBuffer)
    assert history.data[0].tolist() == [0.5, 0.25]
    assert history.statistics("mean") == 0.375
    assert content["meta"]["best_score"] == 0.5
    history.update(1.0)
    torch.save({"again": history}, tmp_path / "b.pth")


@pytest.mark.parametrize("dtype", ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
def test_numeric_arrays_and_scalars_survive(tmp_path, dtype):
    array = np.arange(6).astype(dtype).reshape(2, 3)
    torch.save({"array": array, "scalar": array[1, 2]}, tmp_path / "a.pth")
    with trusted_mmengine_globals():
        content = torch.load(tmp_path / "a.pth", weights_only=True)
    assert content["array"].dtype == array.dtype
    np.testing.assert_array_equal(content["array"], array)
    assert content["scalar"] == array[1, 2]


def test_reads_names_of_older_numpy(tmp_path, network):
    new, old = tmp_path / "new.pth", tmp_path / "old.pth"
    torch.save(mmengine_checkpoint(network), new)
    names = {b"numpy._core.multiarray", b"numpy.core.multiarray"}
    for target in names:
        with zipfile.ZipFile(new) as source, zipfile.ZipFile(old, "w", zipfile.ZIP_STORED) as copy:
            for entry in source.infolist():
                content = source.read(entry)
                if entry.filename.endswith("data.pkl"):
                    for name in names:
                        content = content.replace(b"c" + name + b"\n", b"c" + target + b"\n")
                    assert target in content
                copy.writestr(entry, content)
        assert same(load_state_dict(old), network.state_dict())


def test_contexts_nest(tmp_path, network):
    torch.save(mmengine_checkpoint(network), tmp_path / "a.pth")
    with trusted_mmengine_globals():
        load_state_dict(tmp_path / "a.pth")
        with trusted_mmengine_globals():
            pass
        torch.load(tmp_path / "a.pth", weights_only=True)


def test_what_the_user_allowed_stays_allowed(tmp_path):
    with torch.serialization.safe_globals([np.ndarray]):
        with trusted_mmengine_globals():
            pass
        assert np.ndarray in torch.serialization.get_safe_globals()


def test_a_file_cannot_change_the_statistics_of_the_process(tmp_path):
    state = {"statistics_methods": {"mean": HistoryBuffer.max, "extra": HistoryBuffer.min}}
    torch.save({"state_dict": {}, "history": Call(HistoryBuffer, state=state)}, tmp_path / "a.pth")
    with trusted_mmengine_globals():
        torch.load(tmp_path / "a.pth", weights_only=True)
        assert HistoryBuffer._statistics_methods["mean"] is HistoryBuffer.max
    assert HistoryBuffer._statistics_methods["mean"] is HistoryBuffer.mean
    assert "extra" not in HistoryBuffer._statistics_methods


def forged_dtype():
    """A structured type whose flags hide that it holds Python objects: raw bytes become pointers."""
    dtype = Call(np.dtype, "V8", False, True, state=(3, "|", None, ("a",), {"a": (np.dtype("f8"), 0)}, 8, 8, 0))
    rebuild = np.zeros(0).__reduce__()[0]
    return Call(rebuild, np.ndarray, (0,), b"b", state=(1, (1,), dtype, False, b"A" * 8))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda p: Call(os.system, f"touch {p / 'ran'}"), "system"),
        (lambda p: Call(eval, f"open({str(p / 'ran')!r}, 'w')"), "eval"),
        (lambda p: Call(open, str(p / "ran"), "w"), "open"),
        (lambda p: Call(subprocess.run, ["touch", str(p / "ran")]), "run"),
        (lambda p: Call(getattr, np.ndarray, "tofile"), "getattr"),
        (lambda p: Call(getattr, HistoryBuffer, "__init__"), "getattr"),
        (lambda p: Call(getattr, HistoryBuffer, "__getstate__"), "getattr"),
        (lambda p: Call(getattr, HistoryBuffer, "register_statistics"), "getattr"),
        (lambda p: Call(getattr, HistoryBuffer, "mro"), "getattr"),
        (lambda p: Call(getattr, HistoryBuffer, "data"), "getattr"),
        (lambda p: Call(getattr, Call(getattr, HistoryBuffer, "mean"), "__globals__"), "getattr"),
        (lambda p: Call(getattr, HistoryBuffer([1.0], [1]), "mean"), "getattr"),
        (lambda p: np.array([{"a": 1}], dtype=object), "numpy.dtype"),
        (lambda p: np.zeros(2, dtype=[("a", "f8")]), "numpy.dtype"),
        (lambda p: np.array(["a"]), "numpy.dtype"),
        (lambda p: forged_dtype(), "numpy.dtype"),
        (lambda p: Path("x"), "pathlib"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_refuses_everything_else_and_runs_nothing(tmp_path, make, named, zipped):
    file = tmp_path / "evil.pth"
    content = {"history": HistoryBuffer([1.0], [1]), "state_dict": {"a": torch.ones(1)}, "extra": make(tmp_path)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=named) as caught:
        load_state_dict(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_methods_that_getattr_serves_cannot_be_called(tmp_path):
    called = Call(HistoryBuffer.mean, HistoryBuffer([1.0], [1]))
    torch.save({"state_dict": {"a": torch.ones(1)}, "called": called}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="refused"):
        load_state_dict(tmp_path / "a.pth")


def test_the_state_of_a_dtype_cannot_be_forged(tmp_path):
    # Flags 0x3f would make NumPy take floats for pointers to objects.
    dtype = Call(np.dtype, "f8", False, True, state=(3, "<", None, None, None, -1, -1, 0x3F))
    rebuild = np.zeros(0).__reduce__()[0]
    array = Call(rebuild, np.ndarray, (0,), b"b", state=(1, (1,), dtype, False, np.float64(7).tobytes()))
    torch.save({"state_dict": {"a": torch.ones(1)}, "array": array}, tmp_path / "a.pth")
    with trusted_mmengine_globals():
        content = torch.load(tmp_path / "a.pth", weights_only=True)
    assert content["array"].tolist() == [7.0]
    assert not content["array"].dtype.hasobject
    assert np.dtype("f8").flags == 0


@pytest.mark.parametrize("content", [b"", b"hello world", b"<html>404</html>", b"PK\x03\x04 cut short"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_checkpoints(tmp_path, content, suffix):
    file = (tmp_path / "a").with_suffix(suffix)
    file.write_bytes(content)
    with pytest.raises(UserError, match="fetch it anew") as caught:
        load_state_dict(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_cut_short(tmp_path, network):
    torch.save(network.state_dict(), tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        load_state_dict(tmp_path / "a.pth")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.pth: expected a checkpoint file, found none"):
        load_state_dict(tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"epoch": 1, "weights": {"a": torch.ones(1)}},
        {"state_dict": {"a": 1.0}},
        {1: torch.ones(1)},
    ],
)
def test_files_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="expected a dict of tensors"):
        load_state_dict(tmp_path / "a.pth")


def test_a_file_that_is_no_dict(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "a.pth")
    with pytest.raises(UserError, match="got list"):
        load_state_dict(tmp_path / "a.pth")


def test_fitting_weights_are_copied_and_converted(network):
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    load_strictly(other, {name: tensor.half() for name, tensor in network.state_dict().items()})
    assert other[0].weight.dtype == torch.float32
    torch.testing.assert_close(other[0].weight, network[0].weight, atol=1e-3, rtol=0)


def test_names_what_does_not_fit_and_changes_nothing(network):
    state = {name: torch.full_like(tensor, 9) for name, tensor in network.state_dict().items()}
    del state["0.bias"], state["1.weight"]
    state |= {"head.a": torch.ones(1), "1.bias": torch.ones(5)}
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_strictly(network, state, file="some.pth")
    assert str(caught.value) == (
        "some.pth: does not fit Sequential (7 tensors): 2 missing: 0.bias, 1.weight; 1 surplus: head.a; "
        "1 misshapen: 1.bias (expected (4,), got (5,)); give the weights that belong to this model"
    )
    assert same(network.state_dict(), before)


def test_names_the_first_few_of_many(network):
    with pytest.raises(UserError, match=r"12 surplus: x0, x1, x2, x3, x4 and 7 more"):
        load_strictly(network, network.state_dict() | {f"x{i}": torch.ones(1) for i in range(12)})


def test_ignored_names_may_misfit_and_others_may_not(network):
    state = {name: torch.full_like(tensor, 9) for name, tensor in network.state_dict().items()}
    del state["0.bias"]
    state |= {"head.a": torch.ones(1), "1.bias": torch.ones(5)}
    bias = network[0].bias.clone()
    load_strictly(network, state, ignore=("0.*", "head.*", "1.bias"))
    assert (network[0].weight == 9).all()
    assert torch.equal(network[0].bias, bias)
    with pytest.raises(UserError, match=r"1 surplus: head\.a") as caught:
        load_strictly(network, state, ignore=("0.*", "1.bias"))
    assert "missing" not in str(caught.value)


class Versioned(nn.Linear):
    """Remembers which version of itself wrote the weights."""

    _version = 7

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *arguments):
        self.seen = local_metadata.get("version")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *arguments)


def test_versions_in_the_file_reach_the_module(tmp_path):
    torch.save({"state_dict": Versioned(2, 2).state_dict()}, tmp_path / "a.pth")
    module = Versioned(2, 2)
    load_strictly(module, load_state_dict(tmp_path / "a.pth"))
    assert module.seen == 7


OFFICIAL = {
    "MaskPose-b-1.0.0": "state_dict",
    "MaskPose-b-1.1.0": "state_dict",
    "MaskPose-b-wb-1.1.0": "state_dict",
    "PMPose-s-1.0.0": "state_dict",
    "PMPose-b-1.0.0": "state_dict",
    "PMPose-l-1.0.0": "state_dict",
    "PMPose-h-1.0.0": "state_dict",
    "rtmdet-ins-l-mask": "state_dict",
    "sam2.1_hiera_tiny": "model",
    "sam2.1_hiera_base_plus": "model",
    "sam2.1_hiera_large": "model",
}
SMALL = {"PMPose-s-1.0.0", "sam2.1_hiera_tiny"}
BIG = {"PMPose-l-1.0.0", "PMPose-h-1.0.0", "sam2.1_hiera_large"}


def hollow(shape: list[int]) -> torch.Tensor:
    """A tensor of that shape that takes the room of one number, in memory and on disk."""
    return torch.zeros((), dtype=torch.float16).expand(shape)


@pytest.mark.parametrize(
    "name", [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in OFFICIAL]
)
def test_official_formats_load(shared, tmp_path, name):
    """The published files' names, shapes and containers, with what else mmengine saves beside them."""
    shapes = json.loads((shared / "reference" / "checkpoints" / f"{name}.json").read_text())["state_dict"]
    state = OrderedDict((key, hollow(shape)) for key, shape in shapes.items())
    file = tmp_path / f"{name}.pth"
    if OFFICIAL[name] == "model":
        torch.save({"model": state}, file)
    else:
        torch.save(mmengine_checkpoint(nn.Linear(1, 1)) | {"state_dict": state}, file)
    loaded = load_state_dict(file)
    assert {key: list(tensor.shape) for key, tensor in loaded.items()} == shapes


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(BIG))
def test_official_sizes_load_into_modules(shared, tmp_path, name):
    shapes = json.loads((shared / "reference" / "checkpoints" / f"{name}.json").read_text())["state_dict"]
    torch.save(
        {OFFICIAL[name]: {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}},
        tmp_path / "a.pth",
    )
    module = nn.Module()
    for key, shape in shapes.items():
        owner = module
        *path, leaf = key.split(".")
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        owner.register_buffer(leaf, torch.ones(shape, dtype=torch.float16))
    load_strictly(module, load_state_dict(tmp_path / "a.pth"))
    assert not any(bool(tensor.any()) for tensor in module.state_dict().values())


@pytest.mark.slow
def test_mmengine_resumes_its_own_run(tmp_path):
    """A real run of mmengine's Runner, saved and taken up again; without the context mmengine refuses its own file."""
    from mmengine.model import BaseModel
    from mmengine.runner import Runner
    from torch.utils.data import DataLoader

    class Model(BaseModel):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(1, 1)

        def forward(self, inputs, mode="loss"):
            return {"loss": self.line(inputs).square().mean()}

        def train_step(self, data, optim_wrapper):
            losses = self(data)
            optim_wrapper.update_params(losses["loss"])
            return losses

    def runner(name: str, epochs: int, resume: bool) -> Runner:
        return Runner(
            model=Model(),
            work_dir=str(tmp_path),
            train_dataloader=DataLoader(torch.ones(4, 1), batch_size=2),
            train_cfg={"by_epoch": True, "max_epochs": epochs},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
            param_scheduler={"type": "MultiStepLR", "milestones": [1]},
            default_hooks={"logger": {"type": "LoggerHook", "interval": 1}},
            resume=resume,
            experiment_name=name,
            log_level="ERROR",
        )

    first = runner("first", 1, resume=False)
    first.train()
    trained = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    assert same(load_state_dict(tmp_path / "epoch_1.pth"), trained)
    with pytest.raises(pickle.UnpicklingError):
        runner("refused", 2, resume=True).train()
    with trusted_mmengine_globals():
        second = runner("second", 2, resume=True)
        second.train()
    assert second.epoch == 2
    assert len(second.message_hub.get_scalar("train/loss").data[0]) == 4

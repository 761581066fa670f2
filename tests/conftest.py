"""Fixtures that every test may use."""

import atexit
import contextlib
import ctypes
import gc
import io
import logging
import os
import pickle
import resource
import shutil
import sys
import tempfile
from collections import OrderedDict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import hypothesis
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from bmp.models.openmmlab import quiet_imports

# Continuous integration runs on slow and busy machines: how long an example takes says nothing there.
hypothesis.settings.register_profile("bmp", deadline=None)
hypothesis.settings.register_profile("fast", deadline=None, max_examples=10)

_LARGE = 10_000_000  # parameters: networks beyond are not kept
_LONG = 0.5  # seconds of computing: more than a test of ``make test-fast`` may take
_CLOCK = pytest.StashKey[float]()
_MEMORY = Path("/dev/shm")  # files there are kept in memory, on Linux
_ROOMY = 4 << 30  # bytes that have to be free in it
_MUCH = 2 << 30  # bytes: a process that holds more gives back what it does not use

_ROOT = Path(__file__).resolve().parents[1]
_SHARED = _ROOT / ".." / "shared"


def pytest_configure(config):
    """Try fewer examples where the slow tests are left out, too; write to memory; import without collecting garbage."""
    gc.disable()
    if hasattr(config, "workerinput"):
        # Of what is done at exit the first that was asked for is the last.
        atexit.register(_end_at_once, os.getpid())
    logging.root.addHandler(logging.NullHandler())  # else warnings that nobody handles are printed
    # Tests write and remove thousands of small files, which on a disk takes longer than what they compute.
    if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOMY:
        os.environ.setdefault("TMPDIR", str(_MEMORY))
        tempfile.tempdir = None  # forgets what was found before
    hypothesis.settings.load_profile("fast" if config.option.markexpr == "not slow" else "bmp")
    # Tests import OpenMMLab's packages themselves, which has to go beside transformers as it does in the program; mmdet
    # would bring all of that with it, too. The process that only hands tests to others imports none of it, which would keep them waiting for seconds.
    if hasattr(config, "workerinput") or config.option.dist == "no":
        with quiet_imports(), contextlib.suppress(ImportError):
            import_module("mmdet.models")


def _end_at_once(process):
    """End a process of pytest-xdist, which has said everything by then: taking a million objects apart takes it 5 s.

    Not one that was forked from it, whose exit code may tell something.
    """
    if os.getpid() == process:
        os._exit(0)


def pytest_collection_modifyitems(items):
    """Begin with the files that have slow tests, so that no process ends with one while the others have nothing left."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    on_gpu = [item for item in items if item.get_closest_marker("cuda")]
    if on_gpu and not _has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def _has_cuda():
    import torch

    return torch.cuda.is_available()


def pytest_collection_finish():
    """Leave what is there by now to the end: else the garbage collector goes through all of it again and again."""
    gc.freeze()
    atexit.register(gc.unfreeze)  # what the end of the process does not find, libraries in C++ report as leaked
    gc.enable()
    gc.set_threshold(20_000)  # tests make much and keep little: the usual 700 takes a twentieth of their time


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Start the clock of the first part of a test."""
    item.stash[_CLOCK] = _processor_seconds()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Note how long a part of a test has computed: a busy machine changes that less than the time it has taken."""
    report = yield
    now = _processor_seconds()
    report.processor_seconds = now - item.stash[_CLOCK]
    report.peak_gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    item.stash[_CLOCK] = now
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """Give memory of full-size networks back: the C library keeps freed pieces of it, 5 GB after some tests."""
    held = Path("/proc/self/statm")
    if held.is_file() and int(held.read_text().split()[1]) * resource.getpagesize() > _MUCH:
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)


def _processor_seconds():
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def pytest_terminal_summary(terminalreporter):
    """Say what the tests took, and which of them should be marked ``slow`` and are not."""
    seconds, peaks = {}, {}
    for report in (one for reports in terminalreporter.stats.values() for one in reports):
        if hasattr(report, "processor_seconds"):
            seconds.setdefault((report.nodeid, "slow" in report.keywords), []).append(report.processor_seconds)
            worker = getattr(report, "worker_id", None)
            peaks[worker] = max(peaks.get(worker, 0), report.peak_gigabytes)
    if not seconds:
        return
    total = sum(map(sum, seconds.values()))
    most = ", ".join(f"{peak:.1f}" for peak in peaks.values())
    terminalreporter.write_line(f"tests computed for {total:.0f} s, imports apart; most memory of a process: {most} GB")
    for (name, slow), parts in sorted(seconds.items(), key=lambda one: -sum(one[1])):
        if sum(parts) > _LONG and not slow:
            terminalreporter.write_line(f"{sum(parts):.1f} s of computing, and not marked slow: {name}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes():
    """Give each worker one thread, before it starts: several processes of several threads wait for each other."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _nothing_kept_by_mmengine():
    """Begin each test without a default scope and visualizers of MMEngine, which are there for the rest of the process.

    So what a test finds in a registry, and where it writes, does not depend on the tests before it, nor on fixtures of
    a module.
    """
    module = sys.modules.get("mmengine.visualization")
    kept = [DefaultScope, *(_with_subclasses(module.Visualizer) if module else ())]
    before = [(each, each._instance_dict) for each in kept]
    for each in kept:
        each._instance_dict = OrderedDict()
    yield
    for each, instances in before:
        each._instance_dict = instances


def _with_subclasses(parent):
    yield parent
    for child in parent.__subclasses__():
        yield from _with_subclasses(child)


@pytest.fixture(scope="session", autouse=True)
def _configs_are_read_once():
    """Keep what the files in configs/ and in the packages say, which does not change: reading one takes long."""
    folders = (str(_ROOT / "configs"), str(Path(hypothesis.__file__).parents[1]))

    def once(read):
        kept = {}

        def reading(filename, *arguments, **named):
            if not str(filename).startswith(folders):
                return read(filename, *arguments, **named)
            key = (str(filename), arguments, tuple(named.items()))
            if key not in kept:
                kept[key] = pickle.dumps(read(filename, *arguments, **named))
            return pickle.loads(kept[key])

        return staticmethod(reading)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_file2dict", "_is_lazy_import"):
            patch.setattr(Config, name, once(getattr(Config, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _devices_that_are_not_there_are_not_seeded():
    """Seed what is there only: for a GPU that may come, PyTorch formats the stack each time, which is deep in tests."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        for kind in (torch.cuda, torch.xpu):
            if not kind.is_available():
                patch.setattr(kind, "manual_seed_all", lambda seed: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def instantiate_anew():
    """Make each small network of sam2 once a session and copy it from then on; return hydra's function for it as it was.

    ``build_sam2`` draws made-up weights after the same seed each time, so that a copy is what it would make.
    """
    if find_spec("hydra") is None:
        yield
        return
    import hydra.utils
    from omegaconf import OmegaConf

    anew, load, networks, configs = hydra.utils.instantiate, OmegaConf.load, {}, {}

    def instantiate(config):
        text = repr(OmegaConf.to_container(config))
        if text not in networks:
            network = anew(config)
            if sum(parameter.numel() for parameter in network.parameters()) > _LARGE:
                return network
            networks[text] = Mould(network)
        return networks[text].cast()

    def read(file):
        text = Path(file).read_bytes()
        if text not in configs:
            configs[text] = pickle.dumps(load(file))
        return pickle.loads(configs[text])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra.utils, "instantiate", instantiate)
        patch.setattr(OmegaConf, "load", staticmethod(read))
        yield anew


class Log(logging.Handler):
    """Keeps what is logged, see ``caplog``."""

    def __init__(self):
        super().__init__()
        self.records, self.levels = [], []

    def emit(self, record):
        """Keep a record."""
        self.records.append(record)

    @property
    def messages(self):
        """What was said, in order."""
        return [record.getMessage() for record in self.records]

    @property
    def text(self):
        """All messages, a line each."""
        return "\n".join(self.messages)

    def set_level(self, level, logger=None):
        """Let a logger, by default the root, speak from this level on until the end of the test."""
        logger = logging.getLogger(logger)
        self.levels.append((logger, logger.level))
        logger.setLevel(level)

    @contextlib.contextmanager
    def at_level(self, level, logger=None):
        """Let a logger speak from this level on within a block."""
        self.set_level(level, logger)
        yield
        named, before = self.levels.pop()
        named.setLevel(before)


@pytest.fixture
def caplog():
    """What is logged in a test, by the names that pytest's own fixture has.

    Pytest's goes through all loggers of all packages, a thousand, six times a test, also where no test asks for it.
    """
    log = Log()
    logging.root.addHandler(log)
    yield log
    logging.root.removeHandler(log)
    for logger, level in reversed(log.levels):
        logger.setLevel(level)


class Mould:
    """Makes copies of a network, each with tensors of its own, three times as fast as ``copy.deepcopy``."""

    def __init__(self, network):
        self._tensors = []
        numbers = {}

        def number(value):
            if not isinstance(value, torch.Tensor):
                return None
            if id(value) not in numbers:
                numbers[id(value)] = len(self._tensors)
                self._tensors.append((type(value), value.detach().clone(), value.requires_grad))
            return numbers[id(value)]

        import torch

        file = io.BytesIO()
        pickler = pickle.Pickler(file)
        pickler.persistent_id = number
        pickler.dump(network)
        self._network = file.getvalue()

    def cast(self):
        """Give a copy."""
        tensors = [kind._make_subclass(kind, values.clone(), grad) for kind, values, grad in self._tensors]
        unpickler = pickle.Unpickler(io.BytesIO(self._network))
        unpickler.persistent_load = tensors.__getitem__
        return unpickler.load()


@pytest.fixture
def undrawn(monkeypatch, instantiate_anew):
    """Full-size networks with whatever lies in memory for weights: drawing them takes seconds a network."""
    import torch

    if instantiate_anew:  # what is kept would be without weights for others
        monkeypatch.setattr("hydra.utils.instantiate", instantiate_anew)
    for name in ("kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "normal_", "uniform_", "trunc_normal_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference vectors and photos that developers and CI have and users do not."""
    if not _SHARED.is_dir():
        pytest.skip("the folder shared/ with reference vectors and photos is not beside this checkout")
    return _SHARED.resolve()

"""Laws of what goes wrong in a session: what is not measured is told, measured again, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from law_runtime import LawRuntime

from calibration.meters.protocol import NoMeter
from calibration.session.calibrating import calibrate
from calibration.session.claiming import claimed
from calibration.session.course import MOST_FAULTY
from calibration.session.plan import Plan, cells_of, first_lengths
from calibration.session.store import Store
from calibration.session.watching import Watch, share, stolen_of, watch
from calibration.session_profile import session_profile
from calibration.sessions import read_sessions

PLAN = Plan(least_prompt=32, most_prompt=2048, output_tokens=(8,), blocks=2, repeats=3, most_repeats=3, most_lengths=4)
CELLS = {cell.key for block in (0, 1) for cell in cells_of(PLAN, first_lengths(PLAN), block)}


class DyingRuntime(LawRuntime):
    """The law, until it has answered `alive` requests (the warm-up is two); then each is a fault, `ill` of them."""

    def __init__(self, *, alive=10**9, ill=10**9, told=None, interrupt=False, **law):
        super().__init__(**law)
        self.alive, self.ill, self.asked = alive, ill, 0
        self.told, self.interrupt = told or {}, interrupt

    def report(self):
        return {**super().report(), **self.told}

    def generate(self, prompt, output_tokens):
        self.asked += 1
        good = super().generate(prompt, output_tokens)
        if not self.alive < self.asked <= self.alive + self.ill:
            return good
        if self.interrupt:
            raise KeyboardInterrupt
        nothing = dict.fromkeys(("first_token_s", "finished_s", "prompt_tokens", "output_tokens"))
        return replace(good, **nothing, chunk_s=(), fault="unreachable: refused")


def session(folder, runtime=None, plan=PLAN, **options):
    at_once = {"self_test_s": 0.1, "settle": lambda: {"reason": "settled"}}
    return calibrate(runtime or LawRuntime(), NoMeter(), folder, plan, **{**at_once, **options})


def good_of(frame):
    return frame[(frame["kind"] == "request") & (frame["fault"] == "")]


def test_what_had_faults_is_measured_again_and_counts_once(tmp_path):
    """A server that is away for a while: the next session measures those cells, both attempts stay, one is fitted."""
    store = session(tmp_path, DyingRuntime(alive=2 + 3 * 6 + 1, ill=2))  # the second repeat of the seventh cell
    faulty = {cell for cell, fault in store.states().items() if fault}
    assert len(faulty) == 2
    assert set(store.states()) == CELLS
    (end,) = store.read().query("kind == 'end'")["reason"]
    assert "every cell was tried and 2 of 16 had faults" in end
    before = store.read()
    session(tmp_path)
    after = store.read()
    assert not any(store.states().values())
    assert set(after[after["session"] != before["session"].iloc[0]].query("kind == 'request'")["cell"]) == faulty
    assert len(after.query("fault != ''")) == len(before.query("fault != ''")) == 2
    assert len(before.merge(after, on=["cell", "session", "kind", "repeat"])) == len(before)  # nothing was lost
    fitted = read_sessions([tmp_path])
    assert (fitted.requests.groupby("cell").size() == 3).all()
    assert set(fitted.requests["cell"]) == CELLS
    assert {(row["n"], row["reason"][:11]) for row in fitted.refused} == {(2, "unreachable"), (1, "of an attem")}
    assert not fitted.missing
    asked = DyingRuntime()
    session(tmp_path, asked)
    assert asked.asked == 2  # the warm-up: nothing is left to measure


def test_a_server_that_is_down_ends_the_session_early(tmp_path):
    """After some cells with faults in a row the rest is not tried: each planned cell is named with why it is missing.

    Of what is there nothing can be fitted, and the fit names the faults; the next session goes on from the first.
    """
    store = session(tmp_path, DyingRuntime(alive=3))
    states = store.states()
    assert len(states) == MOST_FAULTY
    frame = store.read()
    assert set(frame.query("kind == 'missing'")["cell"]) == CELLS
    (end,) = frame.query("kind == 'end'")["reason"]
    assert f"{MOST_FAULTY} cells in a row had faults, the last 'unreachable: refused'" in end
    with pytest.raises(ValueError, match=r"good requests of 1 prompt lengths.*5 rows 'unreachable: refused'.*goes on"):
        session_profile(read_sessions([tmp_path]), name="a/b/c", quantization="none")
    session(tmp_path)
    assert store.states() == dict.fromkeys(sorted(CELLS), "")
    assert not read_sessions([tmp_path]).missing


def test_a_recording_of_faults_alone_names_them(tmp_path):
    """Nothing to fit is said with the faults, the cells and the way out."""
    session(tmp_path, DyingRuntime(alive=2))
    with pytest.raises(
        ValueError, match=r"no good request .*5 rows 'unreachable: refused'; missing are b000-.*goes on"
    ):
        read_sessions([tmp_path])


def test_an_interruption_is_recorded_and_gone_on_with(tmp_path):
    """Ctrl-C leaves a recording that reads back and says so, whose cells the next session does not measure again."""
    with pytest.raises(KeyboardInterrupt):
        session(tmp_path, DyingRuntime(alive=2 + 3 * 5 + 1, interrupt=True))
    store = Store(folder=tmp_path)
    (end,) = store.read().query("kind == 'end'")["reason"]
    assert end.startswith("it was interrupted")
    assert [note["ended"] for note in store.manifest()["sessions"].values()] == ["it was interrupted"]
    assert len(store.states()) == 5
    again = DyingRuntime()
    session(tmp_path, again)
    assert again.asked == 2 + 3 * (len(CELLS) - 5)
    assert (good_of(store.read()).groupby("cell").size() == 3).all()


@pytest.mark.parametrize(
    ("then", "now", "told"),
    [
        (
            {"weights": b"one"},
            {"weights": b"two"},
            r"model_sha256 '[0-9a-f]{13}…, this session '[0-9a-f]{13}….*--model-file as then",
        ),
        ({"weights": b"one"}, {"weights": None}, r"model_sha256 '[0-9a-f]{13}…, this session None"),
        ({"tokens": b"one"}, {"tokens": b"two"}, r"tokenizer_sha256 .*the tokenizer beside the weights as then"),
        ({}, {"report": {"build": "2"}}, r"runtime_build '1', this session '2'; resume with the same, or record into"),
        ({}, {"report": {"slots": 2}}, r"runtime.slots 1, this session 2"),
        ({}, {"report": {"model": "other"}}, r"model 'law', this session 'other'"),
        ({}, {"plan": {"seed": 3}}, r"plan.seed 0, this session 3"),
    ],
)
def test_another_model_tokenizer_or_runtime_is_not_gone_on_with(tmp_path, then, now, told):
    """What differs from the recording there is named, with the way out; nothing is asked of it beyond its report."""
    with_files(tmp_path, DyingRuntime(), **then)
    files = sorted(path.name for path in (tmp_path / "r").iterdir())
    runtime = DyingRuntime(told=now.get("report"))
    with pytest.raises(ValueError, match=told):
        with_files(tmp_path, runtime, **{**then, **now})
    assert runtime.asked == 0
    assert sorted(path.name for path in (tmp_path / "r").iterdir()) == files


def with_files(folder, runtime, *, weights=b"weights", tokens=b"tokens", plan=None, report=None):
    """Record with files of those bytes as weights and tokenizer; without weights no file is named."""
    del report
    (folder / "tokenizer.json").write_bytes(tokens)
    model_file = folder / "model.safetensors" if weights else None
    if model_file is not None:
        model_file.write_bytes(weights)
    return session(folder / "r", runtime, replace(PLAN, **(plan or {})), model_file=model_file)


def test_another_address_of_the_same_server_is_gone_on_with(tmp_path):
    """A server that was started again has another port, and this machine another load: neither is in the figures."""
    for port in (1, 2):
        session(tmp_path, DyingRuntime(told={"url": f"http://127.0.0.1:{port}"}))
    assert Store(folder=tmp_path).manifest()["runtime"]["url"].endswith(":1")


def test_two_at_once_into_one_folder_are_refused(tmp_path):
    """The second is refused before it asks anything; a killed holder's lock is nobody's."""
    folder = tmp_path / "r"
    program = (
        "import sys, time; from pathlib import Path\n"
        "from calibration.session.claiming import claimed\n"
        "with claimed(Path(sys.argv[1])) as store:\n"
        "    store.begin({'plan': {}})\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert holder.stdout.readline() == b"held\n"
    runtime = DyingRuntime()
    with pytest.raises(ValueError, match=r"another moe2 calibrate records there now; wait for its end, or record into"):
        session(folder, runtime)
    assert runtime.asked == 0
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with claimed(folder) as store:
        assert store.begun


@pytest.mark.parametrize(
    "wrong",
    [
        {"runtime": {"report": ValueError("no endpoint is ready")}},
        {"runtime": {"alive": 0}},
        {"runtime": {"told": {"context_tokens": 100}}},
        {"model_file": Path("absent.gguf")},
        {"allowed": frozenset({"clock"})},
    ],
)
def test_what_is_refused_leaves_nothing_behind(tmp_path, wrong):
    """No folder, no lock, whatever is wrong; a folder that was there stays as it was."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "notes.txt").write_text("mine")
    options = {key: value for key, value in wrong.items() if key != "runtime"}
    told = dict(wrong.get("runtime", {}))
    error = told.pop("report", None)
    for folder in (tmp_path / "new" / "deep", there):
        runtime = DyingRuntime(**told)
        if error is not None:
            runtime.report = lambda: (_ for _ in ()).throw(error)
        with pytest.raises(ValueError, match=r"."):
            session(folder, runtime, **options)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["notes.txt", "there"]


def test_a_place_that_is_none_is_refused_before_anything_is_asked(tmp_path):
    """A file, a folder below a file, and a folder of other tables are no place for a recording."""
    file, other = tmp_path / "file", tmp_path / "tables"
    file.write_text("mine")
    other.mkdir()
    (other / "requests.parquet").write_bytes(b"")
    runtime = DyingRuntime()
    for place, told in (
        (file, (ValueError, "is a file; a recording is a folder")),
        (file / "below", (OSError, "Not a directory")),
        (other, (ValueError, r"holds requests\.parquet and no manifest, so it is no recording")),
    ):
        with pytest.raises(told[0], match=told[1]):
            session(place, runtime)
    assert runtime.asked == 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "requests.parquet", "tables"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("blocks", 0),
        ("repeats", 0),
        ("most_repeats", 2),
        ("window_s", 0.0),
        ("budget_s", float("inf")),
        ("budget_s", float("nan")),
        ("precision", float("nan")),
        ("concurrency", (1, 1)),
        ("output_tokens", (16, 16)),
        ("output_tokens", (1,)),
    ],
)
def test_a_plan_that_cannot_be_done_is_refused(key, value):
    """Every number of a plan is checked when it is made, and named."""
    with pytest.raises(ValueError, match=key):
        Plan(**{key: value})


def slowed(monkeypatch, looks, **kept):
    """Let the watch of a session tell what stands in `looks`, a look at a time, and then nothing."""
    told = iter(looks)
    stub = Watch(throttled_by=lambda: next(told, ""), covers="a stub", **kept)
    monkeypatch.setattr("calibration.session.calibrating.watch", lambda *_, **__: stub)


def test_throttling_that_begins_during_a_session_is_no_measurement(tmp_path, monkeypatch):
    """What was slowed is kept and refused by the fit with its reason, and measured again; nothing else is lost."""
    slowed(monkeypatch, [""] * 5 + ["thermal slowdown"])  # a look before each cell and after each request
    store = session(tmp_path)
    assert [fault for fault in store.states().values() if fault] == ["throttled by thermal slowdown"]
    rows = store.read().query("kind == 'request'")
    assert rows["throttled_by"].value_counts().to_dict() == {"": 45, "thermal slowdown": 1}
    found = read_sessions([tmp_path])
    assert {"n": 1, "reason": "throttled by thermal slowdown"} in found.refused
    assert found.record["throttled"] == {"thermal slowdown": 1}
    assert store.manifest()["throttling"] == "a stub"
    session(tmp_path)
    assert not any(store.states().values())


def test_throttling_that_was_allowed_is_measured_and_told(tmp_path, monkeypatch):
    """With --allow throttled the rows are good ones, and keep what slowed them."""
    slowed(monkeypatch, ["power cap"] * 1000, allowed=True)
    store = session(tmp_path, allowed=frozenset({"throttled"}))
    assert not any(store.states().values())
    assert read_sessions([tmp_path]).record["throttled"] == {"power cap": 48}


def test_where_nothing_tells_of_throttling_it_is_not_told(tmp_path, monkeypatch):
    """Unknown is null in every row and said in the manifest: on another machine, or where no file tells."""
    assert watch("http://192.0.2.1", allowed=False).covers == "not watched: http://192.0.2.1 is on another machine"
    monkeypatch.setattr("calibration.meters.throttles.has_gpu", lambda: False)
    bare = watch(None, allowed=False, root=tmp_path)
    assert (bare.covers, bare.throttled_by(), bare.ticks()) == (
        "not watched: this machine tells of no throttling",
        None,
        None,
    )
    monkeypatch.setattr("calibration.session.calibrating.watch", lambda *_, **__: bare)
    store = session(tmp_path / "r")
    rows = store.read().query("kind == 'request'")
    assert rows["throttled_by"].isna().all()
    assert rows["steal_share"].isna().all()
    assert read_sessions([tmp_path / "r"]).record["throttled"] == "not watched"
    (note,) = store.manifest()["sessions"].values()
    assert note["steal_share"] is None


def test_stolen_time_is_a_share_of_all_processors(tmp_path, monkeypatch):
    """Steal over user + nice + system + idle + iowait + irq + softirq + steal between two looks; guests are in user."""
    stat = tmp_path / "proc" / "stat"
    stat.parent.mkdir()
    stat.write_text("cpu  10 20 30 40 50 60 70 80 10 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    before = stolen_of(tmp_path)
    assert before == (80, 360)
    stat.write_text("cpu  20 20 30 120 50 60 70 90 20 10\n")
    assert share(before, stolen_of(tmp_path)) == pytest.approx(10 / 100)
    assert share(before, before) is None
    stat.write_text("cpu 1 2 3 4\n")  # a kernel that knows no steal
    assert stolen_of(tmp_path) is None
    ticks = iter([(0, 0), (3, 100)] + [(0, 0), (0, 100)] * 100)
    monkeypatch.setattr("calibration.session.calibrating.watch", lambda *_, **__: Watch(ticks=lambda: next(ticks)))
    store = session(tmp_path / "r")
    (note,) = store.manifest()["sessions"].values()
    assert note["steal_share"] == {"median": 0.0, "most": 0.03, "n": len(CELLS)}


def test_the_clients_overhead_is_noted(tmp_path):
    """The median of TTFT less the server's own prompt time, where the server tells it; None where it does not."""

    class Telling(DyingRuntime):
        def generate(self, prompt, output_tokens):
            good = super().generate(prompt, output_tokens)
            return replace(good, server_prefill_s=good.ttft_s - 0.0017)

    for name, runtime, told in (
        ("t", Telling(), {"median": pytest.approx(0.0017), "n": 48}),
        ("n", LawRuntime(), None),
    ):
        (note,) = session(tmp_path / name, runtime).manifest()["sessions"].values()
        assert note["client_overhead_s"] == told
        json.dumps(note, allow_nan=False)

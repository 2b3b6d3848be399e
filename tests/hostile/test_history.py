"""A workload forges log messages, or has names that a terminal would obey: history records and shows none of that."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sgdataplane.cli.main import main
from sgdataplane.contract.counters import HISTORY_GROUP, LOG_GROUP
from sgdataplane.history import file
from sgdataplane.history.merge import HistoryLimits
from sgdataplane.history.place import RecordedPlace
from sgdataplane.history.read import open_history
from sgdataplane.history.recorder import Recorder
from sgdataplane.history.rows import BUCKET_S, Fate, FlowCount, FlowKey
from sgdataplane.history.write import HistoryWriter, PendingRows
from sgdataplane.model.choices import ON_HOSTS
from sgdataplane.model.options import Placement
from sgdataplane.net.values import TCP, Direction
from tests.support.inputs.builders import make_eni, make_group, make_rule, make_state
from tests.support.inputs.building import enforce
from tests.support.kernel import rawnft
from tests.support.kernel.nft import nft
from tests.support.kernel.rawnft import In
from tests.support.probes.flood import DEADLINE, wait_until
from tests.support.scenes.pair import HERE, Pair, Session, desired_at, made_pair

OPEN, FORGING, DENIED = 5000, 5001, 6000
STATE = make_state(
    [make_group("sg-a", [make_rule(f"ingress udp {OPEN}/{FORGING} from 0.0.0.0/0", "sgr-open")])],
    [make_eni("eni-a", " ".join(HERE["instance"]), "sg-a")],
)


@pytest.fixture
def pair(make_lab_name: Callable[[], str]) -> Iterator[Pair]:
    with made_pair(make_lab_name, "instance") as pair:
        enforce(pair["policy"], desired_at(pair, STATE))
        yield pair


@pytest.fixture
def recorder(pair: Pair, tmp_path: Path) -> Iterator[Recorder]:
    """It listens in the workload's namespace."""
    recorder = Recorder(tmp_path / file.NAME, HistoryLimits(86400, 16 << 20), "boot")
    with closing(recorder):
        recorder.set_state(STATE, ON_HOSTS.options)
        place = RecordedPlace(pair["policy"], "", "w", "eni-a", {"eni-a": "eth0"}, Placement.INSTANCE)
        recorder.set_places([place])
        wait_until(lambda: run(recorder) and recorder.status.places == 1)
        yield recorder


def run(recorder: Recorder) -> bool:
    recorder.round()
    return True


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("name", "group"),
    [("default.ingress.drop", LOG_GROUP), ("rule.sg-a.sgr-open", LOG_GROUP), ("opened.ingress", HISTORY_GROUP)],
)
def test_what_a_workload_logs_in_our_name_is_not_recorded(
    pair: Pair, recorder: Recorder, tmp_path: Path, name: str, group: int
) -> None:
    theirs = In(b"theirs")
    rawnft.must_send(pair["policy"], rawnft.table(b"theirs"), theirs.base_chain(b"in", 0, 0))  # behind us
    nft(pair["policy"], f'add rule inet theirs in udp dport {FORGING} log prefix "sgdp {name}" group {group}')
    with Session(pair, FORGING) as forging:
        for _ in range(20):
            forging.must_pass()
    path, is_about_ours = tmp_path / file.NAME, name != "rule.sg-a.sgr-open"
    wait_until(lambda: run(recorder) and bool(rows(path, Fate.ACCEPT) or not is_about_ours or recorder.status.forged))
    with Session(pair, OPEN) as web, Session(pair, DENIED) as denied:
        assert not denied.passes(beside=web)
    wait_until(lambda: run(recorder) and bool(rows(path, Fate.DROP)))  # control: what is denied is recorded
    assert [(key.port, count.packets) for key, count in rows(path, Fate.DROP)] == [(DENIED, 1)]
    assert sum(count.packets for key, count in rows(path, Fate.ACCEPT) if key.port == FORGING) <= 1  # there was one
    assert (recorder.status.forged > 0) is is_about_ours  # what a rule accepts is logged by nobody


def rows(path: Path, fate: Fate) -> list[tuple[FlowKey, FlowCount]]:
    with open_history(path) as history:
        return [(row.key, row.count) for row in history.flows() if row.key.fate is fate]


HOSTILE = "eni-\x1b[31mred\n\u202eevil\x07"


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("verb", "shown"),
    [
        ("flows", "evil"),
        ("flows --by address", "evil"),
        ("flows --by port", "tcp/22"),
        ("log --since 1h", "evil"),
        ("top --count 20 --interval 0.05", "evil"),
    ],
)
def test_names_in_history_reach_no_terminal(
    verb: str, shown: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'state_directory = "{tmp_path}"\nstate = "{tmp_path}/none"\nsocket = "{tmp_path}/s"\n', "utf-8")
    with growing(tmp_path / file.NAME):
        assert main([*verb.split(), "--config", str(config)]) == 0
    said = capsys.readouterr()
    for text in (said.out, said.err):
        assert not set("\x1b\u202e\x07") & set(text)
    assert shown in said.out  # control: the row is shown


@contextmanager
def growing(path: Path) -> Iterator[None]:
    """A row with hostile names is written, and grows while the block runs: `top` shows only what grows."""
    begun, over = threading.Event(), threading.Event()

    def write() -> None:
        with closing(HistoryWriter(path, 16 << 20, "boot")) as writer:
            while not over.wait(0.02):
                now = int(time.time())
                key = FlowKey(HOSTILE, Direction.INGRESS, HOSTILE, TCP, 22, Fate.DROP, "rule", HOSTILE, HOSTILE)
                pending = PendingRows()
                pending.at(now // BUCKET_S * BUCKET_S, BUCKET_S).flows[key] = FlowCount(3, 180, now, now)
                writer.write(pending, now)
                begun.set()

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert begun.wait(DEADLINE)
        yield
    finally:
        over.set()
        writing.join()

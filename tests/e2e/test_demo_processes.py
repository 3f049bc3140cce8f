"""The demonstration from its command on, smaller, and what it leaves behind: nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(900)
STEPS_S = 400.0
"""For a demonstration to get somewhere: most of it is waiting for Python to import things."""

ROUNDS = 6
SMALL = ("--rounds", str(ROUNDS), "--listings-per-week", "40")


class Demo:
    """A running demonstration whose temporary files all lie under one folder of the test."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.temporary, self.report = folder / "tmp", folder / "report.html"
        self.temporary.mkdir()
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        line = [sys.executable, "-m", "simulations.demo", "--report", str(self.report)]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.child = subprocess.Popen(
                [*line, *arguments],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(self.temporary)},
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def processes(self) -> dict[int, str]:
        """Return command lines of living processes that mention the temporary folder."""
        found = {}
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if str(self.temporary) in line:
                found[int(path.parent.name)] = line
        return found

    def wait_for(self, text: str) -> int:
        """Wait until a process whose command line has ``text`` runs; return its id."""
        found: list[int] = []

        def runs() -> bool:
            assert self.child.poll() is None, self.err
            found.extend(number for number, line in self.processes().items() if text in line)
            return bool(found)

        wait_until(runs, STEPS_S)
        return found[0]

    def left_nothing(self) -> bool:
        return not self.processes() and not list(self.temporary.iterdir())


Start = Callable[..., Demo]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    demos: list[Demo] = []

    def start(*arguments: str) -> Demo:
        demos.append(Demo(tmp_path, *arguments))
        return demos[-1]

    yield start
    for demo in demos:
        demo.child.kill()
        demo.child.wait()
        for number in demo.processes():
            os.kill(number, signal.SIGKILL)


FIGURES = r"(?: +(?:[01]\.\d{3})){2}(?: +(?:[01]\.\d{2})){4}"
"""PR-AUC, P@100 and recall, each of both models."""
MEMBER = re.compile(rf"(\w+) +\d+ +\d+{FIGURES} +\d+ of \d+ +\d+ of \d+ +(?:its own|alliance's)")
SUSPECT = re.compile(r" ?(\d+)\. risk +\d+\.\d  \S+ +.*\(truth: \w+\)")


def check_told(out: str) -> None:
    """Hold what is printed to what the demonstration is there to show."""
    table, _, rest = out.partition("\nmean ")
    assert "P@100" in table
    assert "recall" in table
    members = [found[1] for line in table.splitlines() if (found := MEMBER.fullmatch(line))]
    assert len(set(members)) == 5, table
    mean, worst = rest.splitlines()[:2]
    assert re.fullmatch(FIGURES, mean.rstrip()), mean
    assert re.fullmatch(f"worst member{FIGURES}", worst.rstrip()), worst

    flowing = " ".join(out.split())
    recall = r"\d+ \([01]\.\d\d, 95 % interval [01]\.\d\d to [01]\.\d\d\)"
    assert re.search(f"local-only finds {recall}, federated {recall}", flowing)
    killed = re.search(r"(\w+) was killed with SIGKILL in round (\d+)\.", flowing)
    assert killed is not None
    assert killed[1] in members
    back = re.search(r"from what it had on its disk, it took part in rounds? ([\d, ]+)\.", flowing)
    assert back is not None
    rejoined = [int(number) for number in back[1].split(",")]
    assert rejoined == sorted(set(rejoined))
    assert int(killed[2]) <= rejoined[0]
    assert rejoined[-1] == ROUNDS
    for looked_for in ("texts of members", "pieces of the members' own models", "numbers of rec"):
        assert re.search(rf"[1-9][\d,]* {looked_for}[^:]*: none found", flowing), looked_for

    _, _, suspects = out.partition("The ten riskiest fresh listings of ")
    assert suspects.splitlines()[0] in members
    lines = suspects.splitlines()[2:]
    at = [place for place, line in enumerate(lines) if SUSPECT.fullmatch(line)]
    assert [int(SUSPECT.fullmatch(lines[place])[1]) for place in at] == list(range(1, 11)), suspects
    for first, after in pairwise([*at, len(lines)]):
        reasons = [line for line in lines[first + 1 : after] if line.strip()]
        assert reasons
        assert all(line.startswith("      · ") for line in reasons), reasons


@pytest.mark.slow
def test_a_whole_demonstration(start: Start) -> None:
    demo = start(*SMALL)
    assert demo.child.wait(850) == 0, demo.err
    assert demo.left_nothing()
    check_told(demo.out)
    page = demo.report.read_text()
    assert page.startswith("<!doctype html>")
    assert not re.search(r"<(script|link|img|iframe|object)\b", page)
    # Only names within the page: no address is ever fetched.
    assert not re.findall(r'(?:src|href)="(?!#)|url\((?!#)|@import', page)
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)) <= {
        pair for name in names for pair in ((name, ""), ("", name))
    }
    assert "prefers-color-scheme: dark" in page
    assert page.count('role="img" aria-label="') == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(start: Start, number: signal.Signals) -> None:
    demo = start(*SMALL)
    demo.wait_for("-m participant")
    demo.child.send_signal(number)
    assert demo.child.wait(STEPS_S) == 130, demo.err
    assert demo.left_nothing()
    assert not demo.report.exists()


@pytest.mark.slow
def test_a_process_that_dies_is_reported_with_its_last_words(start: Start) -> None:
    demo = start(*SMALL)
    demo.wait_for("participant up")
    os.kill(demo.wait_for("coordinator serve"), signal.SIGKILL)
    assert demo.child.wait(STEPS_S) == 1, demo.err
    assert demo.left_nothing()
    assert "error: " in demo.err
    assert "hint: " in demo.err


@pytest.mark.parametrize("given", ["missing", "report"])
def test_what_cannot_work_is_refused_before_anything_starts(
    start: Start, tmp_path: Path, given: str
) -> None:
    arguments = {
        "missing": ("--data", str(tmp_path / "nowhere")),
        "report": ("--report", str(tmp_path / "nowhere" / "report.html")),
    }
    demo = start(*arguments[given])
    assert demo.child.wait(STEPS_S) in (2, 3), demo.err
    assert demo.left_nothing()
    assert "nowhere" in demo.err

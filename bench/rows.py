"""The rows of the table: what each program is asked to do, and how it is timed.

Every figure comes from whole processes started by posix_spawn and reaped by wait4, the programs in
turns (A B C A B C …), after one uncounted turn each.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import peers


def timed(argv: list[str], env: dict[str, str] | None = None) -> float:
    """Milliseconds from the start of `argv` to its end; a failing command is an error."""
    devnull = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    begin = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, env or dict(os.environ), file_actions=devnull)
    _, status = os.waitpid(pid, 0)
    took = (time.perf_counter() - begin) * 1000
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise RuntimeError(f"{' '.join(argv)}: exit status {code}")
    return took


def in_turns(commands: dict[str, Callable[[int], float]], runs: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(runs + 1):
        for name, command in commands.items():
            figure = command(turn)
            if turn > 0:
                figures[name].append(round(figure, 3))
    return figures


@dataclass
class Row:
    name: str
    unit: str
    commands: Callable[[peers.Places, list[str]], dict[str, Callable[[int], float]]]
    once: bool = False

    def measure(self, places: peers.Places, runs: int, skipped: list[str]) -> dict:
        commands = self.commands(places, skipped)
        figures = in_turns(commands, 1 if self.once else runs)
        return {"name": self.name, "unit": self.unit, "figures": figures}


def oci_run(places: peers.Places, skipped: list[str]) -> dict[str, Callable[[int], float]]:
    bundle = places.work / "bundle"
    rootfs = bundle / "rootfs"
    if not bundle.exists():
        (rootfs / "bin").mkdir(parents=True)
        subprocess.run(["cp", "/bin/busybox", rootfs / "bin/true"], check=True)
        subprocess.run([places.our("havre-runtime"), "spec", "--bundle", bundle], check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"]["args"] = ["/bin/true"]
        config["process"]["terminal"] = False
        (bundle / "config.json").write_text(json.dumps(config))

    def runner(program: list[str], root: Path) -> Callable[[int], float]:
        base = [*program, "--root", str(root), "run", "--bundle", str(bundle)]
        return lambda turn: timed([*base, f"bench-{os.getpid()}-{turn}"])

    commands = {"havre": runner(places.inside(places.our("havre-runtime")), places.work / "state-havre")}
    for name in ("crun", "runc"):
        found = places.find(name)
        if found is None:
            skipped.append(f"{name}: not installed")
        else:
            commands[name] = runner(found, places.work / f"state-{name}")
    return commands


def run_rm(places: peers.Places, skipped: list[str]) -> dict[str, Callable[[int], float]]:
    words = ["run", "--rm", "--network", "none", peers.IMAGE, "true"]
    return {name: (lambda turn, argv=argv: timed([*argv, *words])) for name, argv in places.engines(skipped).items()}


def exec_true(places: peers.Places, skipped: list[str]) -> dict[str, Callable[[int], float]]:
    commands = {}
    for name, argv in places.engines(skipped).items():
        box = f"bench-exec-{os.getpid()}"
        subprocess.run(
            [*argv, "run", "-d", "--network", "none", "--name", box, peers.IMAGE, "sleep", "3600"],
            check=True, stdout=subprocess.DEVNULL,
        )
        places.cleanup.add(
            subprocess.run, [*argv, "rm", "-f", box], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        commands[name] = lambda turn, argv=argv, box=box: timed([*argv, "exec", box, "true"])
    return commands


KNOWN = 1000


def ps_many(places: peers.Places, skipped: list[str]) -> dict[str, Callable[[int], float]]:
    commands = {}
    for name, argv in places.engines(skipped).items():
        boxes = [f"bench-ps-{number}" for number in range(KNOWN)]
        # Even when making them fails half-way, those that were made go.
        places.cleanup.add(remove_all, argv, boxes)
        for box in boxes:
            timed([*argv, "create", "--network", "none", "--name", box, peers.IMAGE, "true"])
        commands[name] = lambda turn, argv=argv: timed([*argv, "ps", "-a"])
    return commands


def remove_all(argv: list[str], boxes: list[str]) -> None:
    for first in range(0, len(boxes), 100):
        words = [*argv, "rm", "-f", *boxes[first:first + 100]]
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def idle_memory(places: peers.Places, skipped: list[str]) -> dict[str, Callable[[int], float]]:
    places.engines(skipped)
    return {name: (lambda turn, pid=pid: resident_mib(pid)) for name, pid in places.engine_pids.items()}


def resident_mib(pid: int) -> float:
    """Resident memory of a process and its descendants that are not shims, in MiB."""
    total = 0
    for member in peers.family(pid):
        try:
            if "shim" in Path(f"/proc/{member}/cmdline").read_text():
                continue
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1])
        except OSError:
            continue
    return total / 1024


ROWS = [
    Row("OCI run of a bundle", "ms", oci_run),
    Row("run --rm --network none", "ms", run_rm),
    Row("exec true", "ms", exec_true),
    Row("resident memory of the engine", "MiB", idle_memory, once=True),
    Row(f"ps -a with {KNOWN} containers known", "ms", ps_many),
]

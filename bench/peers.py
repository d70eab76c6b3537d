"""Where the programs under comparison lie, how their engines are started, and how all of it ends again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

IMAGE = "docker.io/library/busybox:latest"


class Cleanup:
    """Undo steps, run last first, each even when another fails."""

    def __init__(self) -> None:
        self.steps: list[tuple] = []

    def __enter__(self) -> "Cleanup":
        return self

    def add(self, step, *arguments, **options) -> None:
        self.steps.append((step, arguments, options))

    def __exit__(self, *_: object) -> None:
        while self.steps:
            step, arguments, options = self.steps.pop()
            try:
                step(*arguments, **options)
            except Exception as error:  # noqa: BLE001: the other steps must still run
                print(f"cleaning up: {error}", file=sys.stderr)


class Places:
    """The programs, found once; engines are started when a row first asks for them."""

    def __init__(self, ours: Path, peer_root: Path | None, work: Path, cleanup: Cleanup) -> None:
        self.ours, self.peer_root, self.work, self.cleanup = ours, peer_root, work, cleanup
        self.engine_pids: dict[str, int] = {}
        self.started: dict[str, list[str]] | None = None
        if peer_root:
            self.enter_peer_root(peer_root)

    def enter_peer_root(self, root: Path) -> None:
        """Gives the tree the host's /proc, /sys and /dev and our work directory; the mount namespace is our own."""
        # dockerd's importer remounts its root, which therefore has to be a mount point.
        subprocess.run(["mount", "--bind", root, root], check=True)
        for name in ("proc", "sys", "dev"):
            subprocess.run(["mount", "--rbind", f"/{name}", root / name], check=True)
        inner = root / str(self.work).lstrip("/")
        inner.mkdir(parents=True, exist_ok=True)
        self.cleanup.add(os.rmdir, inner)
        subprocess.run(["mount", "--bind", self.work, inner], check=True)
        self.cleanup.add(subprocess.run, ["umount", "-l", inner], check=True)

    def inside(self, *argv: str) -> list[str]:
        """Everything is entered the same way, ours too, so that the way costs all the same."""
        return ["chroot", str(self.peer_root), *argv] if self.peer_root else list(argv)

    def find(self, name: str) -> list[str] | None:
        return self.inside(name) if self.has(name) else None

    def our(self, name: str) -> str:
        """One of our programs, at a path that is valid inside the tree as well."""
        target = self.work / "bin" / name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            shutil.copy(self.ours / name, target)
        return str(target)

    def has(self, name: str) -> bool:
        if self.peer_root:
            return any((self.peer_root / folder / name).exists() for folder in ("usr/bin", "usr/sbin"))
        return shutil.which(name) is not None

    def engines(self, skipped: list[str]) -> dict[str, list[str]]:
        """Client command of each engine that could be started, with the image loaded."""
        if self.started is None:
            archive = self.work / "busybox.tar"
            made = subprocess.run([self.ours / "testkit", "archive", "busybox"], check=True, capture_output=True, text=True)
            shutil.copy(made.stdout.strip(), archive)
            self.started = {"havre": self.start_havre(archive)}
            for name, start in (("docker", self.start_docker), ("podman", self.start_podman)):
                try:
                    self.started[name] = start(archive)
                except (RuntimeError, subprocess.CalledProcessError) as error:
                    skipped.append(f"{name}: {error}")
        return self.started

    def start_havre(self, archive: Path) -> list[str]:
        home = self.work / "havre"
        home.mkdir()
        host = f"unix://{home}/havre.sock"
        self.our("containerd-shim-havre-v2")
        argv = self.inside(
            self.our("havred"), "-H", host, "--data-root", str(home / "data"),
            "--exec-root", str(home / "run"), "--pidfile", str(home / "pid"),
        )
        self.serve("havre", argv, home / "log", home / "havre.sock")
        client = self.inside(self.our("havre"), "-H", host)
        subprocess.run([*client, "load", "-q", "-i", str(archive)], check=True, stdout=subprocess.DEVNULL)
        return client

    def start_docker(self, archive: Path) -> list[str]:
        for name in ("dockerd", "docker"):
            if not self.has(name):
                raise RuntimeError(f"{name} is not installed")
        home = self.work / "docker"
        home.mkdir()
        host = f"unix://{home}/docker.sock"
        argv = self.inside(
            "dockerd", "-H", host, "--data-root", str(home / "data"), "--exec-root", str(home / "run"),
            "--pidfile", str(home / "pid"), "--bridge", "none", "--iptables=false", "--ip6tables=false",
        )
        self.serve("docker", argv, home / "log", home / "docker.sock")
        client = self.inside("docker", "-H", host)
        subprocess.run([*client, "load", "-q", "-i", str(archive)], check=True, stdout=subprocess.DEVNULL)
        return client

    def start_podman(self, archive: Path) -> list[str]:
        if not self.has("podman"):
            raise RuntimeError("podman is not installed")
        home = self.work / "podman"
        home.mkdir()
        os.environ["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
        client = self.inside(
            "podman", "--root", str(home / "data"), "--runroot", str(home / "run"),
            "--cgroup-manager", "cgroupfs", "--events-backend", "file",
        )
        loaded = subprocess.run([*client, "load", "-q", "-i", str(archive)], check=True, capture_output=True, text=True)
        # Names without a host are localhost's here.
        subprocess.run([*client, "tag", loaded.stdout.split()[-1], IMAGE], check=True)
        return client

    def serve(self, name: str, argv: list[str], log: Path, socket: Path) -> None:
        with log.open("wb") as output:
            child = subprocess.Popen(argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        self.cleanup.add(stop, child)
        deadline = time.monotonic() + 60
        while not answers(socket):
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{argv[0]} did not start: {log.read_text()[-400:]}")
            time.sleep(0.05)
        self.engine_pids[name] = child.pid


def answers(socket: Path) -> bool:
    done = subprocess.run(
        ["curl", "-sf", "--max-time", "2", "--unix-socket", str(socket), "http://localhost/_ping"],
        stdout=subprocess.DEVNULL,
    )
    return done.returncode == 0


def stop(child: subprocess.Popen) -> None:
    members = family(child.pid)
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for member in members[1:]:
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            pass


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for member in found:
        try:
            children = Path(f"/proc/{member}/task/{member}/children").read_text().split()
        except OSError:
            continue
        found.extend(int(child) for child in children)
    return found

"""docker-py against a Havre engine: attach, logs, exec and events, each as an SDK user would write it.

usage: sdk.py SOCKET IMAGE. Prints `ok NAME` for each check; the first that fails ends it with a traceback.
"""

import socket as sockets
import struct
import sys
import threading

import docker
from docker.errors import APIError, ImageNotFound, NotFound

client = docker.DockerClient(base_url=f"unix://{sys.argv[1]}", timeout=60)
IMAGE = sys.argv[2]
LONELY = {"network_mode": "none"}


def run_returns_output():
    output = client.containers.run(IMAGE, ["echo", "from docker-py"], remove=True, **LONELY)
    assert output == b"from docker-py\n", output


def failing_command_raises():
    try:
        client.containers.run(IMAGE, ["sh", "-c", "echo to stderr >&2; exit 3"], remove=True, **LONELY)
    except docker.errors.ContainerError as error:
        assert error.exit_status == 3, error
        assert b"to stderr" in error.stderr, error.stderr
    else:
        raise AssertionError("exit status 3 went unnoticed")


def attach_both_ways():
    box = client.containers.create(IMAGE, ["cat"], stdin_open=True, **LONELY)
    try:
        stream = box.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
        box.start()
        raw = stream._sock
        raw.sendall(b"there and back\n")
        raw.shutdown(sockets.SHUT_WR)
        received = b""
        while True:
            header = exactly(raw, 8)
            if not header:
                break
            kind, length = struct.unpack(">BxxxL", header)
            assert kind == 1, kind
            received += exactly(raw, length)
        assert received == b"there and back\n", received
        assert box.wait()["StatusCode"] == 0
    finally:
        box.remove(force=True)


def exactly(raw, count):
    data = b""
    while len(data) < count:
        piece = raw.recv(count - len(data))
        if not piece:
            return data
        data += piece
    return data


def attach_stream_sees_every_line():
    box = client.containers.create(IMAGE, ["sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"], **LONELY)
    try:
        stream = box.attach(stream=True, stdout=True, stderr=True)
        box.start()
        text = b"".join(stream).decode()
        assert text.splitlines() == [f"line {n}" for n in range(2000)], len(text.splitlines())
    finally:
        box.remove(force=True)


def logs_in_every_form():
    box = client.containers.run(IMAGE, ["sh", "-c", "echo one; echo two >&2; echo three"], detach=True, **LONELY)
    try:
        box.wait()
        assert box.logs(stdout=True, stderr=False) == b"one\nthree\n"
        assert box.logs(stdout=False, stderr=True) == b"two\n"
        assert len(box.logs(tail=1).splitlines()) == 1
        stamped = box.logs(timestamps=True).decode().splitlines()
        assert all(line[4] == "-" and "T" in line.split(" ")[0] for line in stamped), stamped
        last = stamped[-1].split(" ")[0]
        assert b"".join(box.logs(stream=True, follow=True)).count(b"\n") == 3
        assert len(stamped) == 3 and last.endswith("Z")
    finally:
        box.remove(force=True)


def exec_with_codes_and_streams():
    box = client.containers.run(IMAGE, ["sleep", "600"], detach=True, **LONELY)
    try:
        code, output = box.exec_run(["sh", "-c", "echo out; echo err >&2; exit 7"], demux=True)
        assert (code, output) == (7, (b"out\n", b"err\n")), (code, output)
        code, output = box.exec_run(["sh", "-c", "echo $A; pwd; id -u"], environment={"A": "b"}, workdir="/tmp", user="65534")
        assert (code, output) == (0, b"b\n/tmp\n65534\n"), (code, output)
        made = client.api.exec_create(box.id, ["cat"], stdin=True)
        stream = client.api.exec_start(made["Id"], socket=True)
        stream._sock.sendall(b"piped")
        stream._sock.shutdown(sockets.SHUT_WR)
        header = exactly(stream._sock, 8)
        assert exactly(stream._sock, struct.unpack(">BxxxL", header)[1]) == b"piped"
        stream.close()
        made = client.api.exec_create(box.id, ["/nope"])
        client.api.exec_start(made["Id"])
        assert client.api.exec_inspect(made["Id"])["ExitCode"] in (126, 127)
    except APIError as error:
        assert "nope" in str(error), error
    finally:
        box.remove(force=True)


def events_in_order():
    seen = []
    started = threading.Event()
    box = client.containers.create(IMAGE, ["true"], **LONELY)
    stream = client.events(decode=True, filters={"container": box.id})

    def listen():
        started.set()
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                return

    listener = threading.Thread(target=listen)
    listener.start()
    started.wait()
    box.start()
    box.wait()
    box.remove()
    listener.join(30)
    assert not listener.is_alive(), f"no destroy event, saw {seen}"
    assert seen == ["start", "die", "destroy"], seen


def errors_have_their_classes():
    for attempt, expected in (
        (lambda: client.containers.get("nothing-of-that-name"), NotFound),
        (lambda: client.images.get("nothing-of-that-name"), ImageNotFound),
    ):
        try:
            attempt()
        except expected:
            continue
        raise AssertionError(f"{expected.__name__} was expected")


def listing_and_inspection():
    box = client.containers.run(IMAGE, ["sleep", "600"], detach=True, name="sdk-listed", labels={"a": "b"}, **LONELY)
    try:
        assert [c.name for c in client.containers.list(filters={"label": "a=b"})] == ["sdk-listed"]
        box.reload()
        assert box.status == "running"
        assert box.attrs["State"]["Pid"] > 0
        box.stop(timeout=0)
        box.reload()
        assert box.status == "exited" and box.attrs["State"]["ExitCode"] == 137, box.attrs["State"]
    finally:
        box.remove(force=True)


for check in (
    run_returns_output,
    failing_command_raises,
    attach_both_ways,
    attach_stream_sees_every_line,
    logs_in_every_form,
    exec_with_codes_and_streams,
    events_in_order,
    errors_have_their_classes,
    listing_and_inspection,
):
    check()
    print(f"ok {check.__name__}", flush=True)

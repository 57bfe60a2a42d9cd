"""What programs do with docker-py, each step checked."""
import io
import tarfile

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound

client = docker.from_env()
assert client.ping()
assert client.version()["ApiVersion"]
assert client.info()["OSType"] == "linux"

assert client.containers.run("busybox", "echo hi", remove=True) == b"hi\n"
assert client.containers.run("busybox", "cat /proc/self/comm", remove=True) == b"cat\n"
try:
    client.containers.run("busybox", "sh -c 'echo bad >&2; exit 3'", remove=True)
    raise SystemExit("no error for exit code 3")
except ContainerError as error:
    assert error.exit_status == 3 and error.stderr == b"bad\n", error

# Streams of a detached container.
container = client.containers.run("busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done"], detach=True)
assert b"".join(container.logs(stream=True, follow=True)) == b"1\n2\n3\n"
assert container.wait()["StatusCode"] == 0
container.reload()
assert container.status == "exited"
assert container.logs(tail=1) == b"3\n"
container.remove()

# exec: output, exit code, separated streams, a socket.
container = client.containers.run("busybox", "sleep 1000", detach=True, name="py", labels={"k": "v"}, environment={"A": "1"})
code, output = container.exec_run("sh -c 'echo $A; exit 4'")
assert (code, output) == (4, b"1\n"), (code, output)
# A fast command's output must not arrive together with the response's head: docker-py would lose it.
for _ in range(50):
    assert container.exec_run("echo quick") == (0, b"quick\n")
code, (out, err) = container.exec_run("sh -c 'echo out; echo err >&2'", demux=True)
assert (code, out, err) == (0, b"out\n", b"err\n")
chunks = list(container.exec_run("seq 3", stream=True).output)
assert b"".join(chunks) == b"1\n2\n3\n"
created = client.api.exec_create(container.id, "cat", stdin=True)
stream = client.api.exec_start(created["Id"], socket=True)
raw = getattr(stream, "_sock", stream)
raw.sendall(b"over the socket\n")
header = raw.recv(8)
assert header[0] == 1, header
assert raw.recv(100) == b"over the socket\n"
stream.close()

# Archives both ways.
data = io.BytesIO()
with tarfile.open(fileobj=data, mode="w") as tar:
    member = tarfile.TarInfo("put/file.txt")
    member.size = 4
    tar.addfile(member, io.BytesIO(b"data"))
assert container.put_archive("/tmp", data.getvalue())
bits, stat = container.get_archive("/tmp/put/file.txt")
assert stat["name"] == "file.txt" and stat["size"] == 4, stat
with tarfile.open(fileobj=io.BytesIO(b"".join(bits))) as tar:
    assert tar.extractfile("file.txt").read() == b"data"

# Lists, filters, stats, top, diff.
assert [c.name for c in client.containers.list(filters={"label": "k=v"})] == ["py"]
assert container.top()["Titles"]
assert container.stats(stream=False)["memory_stats"]["usage"] > 0
assert {"Path": "/tmp/put", "Kind": 1} in container.diff()
container.pause()
container.reload()
assert container.status == "paused"
container.unpause()
container.rename("py2")
container.restart(timeout=0)
container.kill()
container.wait()
image = container.commit("fromdocker", "py")
assert "fromdocker:py" in image.tags
container.remove(force=True)
client.images.remove("fromdocker:py")

# Volumes and images.
volume = client.volumes.create("pyvol", labels={"a": "b"})
client.containers.run("busybox", "sh -c 'echo v > /v/f'", volumes={"pyvol": {"bind": "/v", "mode": "rw"}}, remove=True)
assert client.containers.run("busybox", "cat /v/f", volumes={"pyvol": {"bind": "/v", "mode": "ro"}}, remove=True) == b"v\n"
volume.remove()
busybox = client.images.get("busybox")
assert busybox.tag("renamed", "1")
saved = b"".join(client.images.get("renamed:1").save(named=True))
client.images.remove("renamed:1")
assert client.images.load(saved)[0].tags
for lost, kind in ((lambda: client.containers.get("nosuch"), NotFound), (lambda: client.images.get("nosuch"), ImageNotFound)):
    try:
        lost()
        raise SystemExit("found what is not there")
    except kind:
        pass
try:
    client.api.create_container("busybox", name="!bad")
    raise SystemExit("a bad name was taken")
except APIError as error:
    assert error.status_code == 400, error

# Builds.
import io
dockerfile = b"FROM busybox\nARG WHO=nobody\nRUN echo built for $WHO > /who\nLABEL made=here\nCMD [\"cat\", \"/who\"]\n"
image, log = client.images.build(fileobj=io.BytesIO(dockerfile), tag="pybuilt:1", buildargs={"WHO": "py"}, network_mode="none", rm=True)
assert "pybuilt:1" in image.tags and image.labels["made"] == "here", image.attrs
assert any("Step 2/" in entry.get("stream", "") for entry in log)
assert client.containers.run("pybuilt:1", remove=True) == b"built for py\n"
again, _ = client.images.build(fileobj=io.BytesIO(dockerfile), tag="pybuilt:2", buildargs={"WHO": "py"}, network_mode="none", rm=True)
assert again.id == image.id
client.images.remove("pybuilt:1")
client.images.remove("pybuilt:2")
from docker.errors import BuildError
try:
    client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN echo no; exit 7\n"), network_mode="none")
    raise SystemExit("a build that fails did not")
except BuildError as error:
    assert "exit code: 7" in error.msg, error.msg
    assert any("no\n" == entry.get("stream") for entry in error.build_log)

# Events.
events = client.events(decode=True, filters={"event": "start"})
client.containers.run("busybox", "true", remove=True)
assert next(events)["Action"] == "start"
events.close()
print("all good")

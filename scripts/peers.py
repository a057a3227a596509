"""The servers that scripts/compare-peers compares: how each is built and started, and its version.

Each runs on one core. How a peer is set up, and why, stands at the top of its source under benches/peers.
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
PEERS = ROOT / "benches" / "peers"
SERVER_CORE, LOADGEN_CORE = 0, 1
READY_SECONDS = 15
STOP_SECONDS = 5


class Failure(Exception):
    """Something that ends the comparison; the text says what to do."""


def uproar(binary, shards=1):
    def command(port):
        # The peers have no limit on messages a second either. Shards that are not pinned keep to the server's core
        # like its other threads: taskset has put the process there.
        where = ["--cores", str(SERVER_CORE)] if shards == 1 else ["--shards", str(shards)]
        return [binary, "--listen", f"127.0.0.1:{port}", *where, "--rate", "0"]
    return command


def peer(name):
    return lambda port: [TARGET / "peers" / "release" / f"peer-{name}", str(port)]


def servers(baseline):
    """Every server there is: its name, and what gives the command that runs it on a port."""
    commands = {
        "uproar": uproar(TARGET / "release" / "uproar"),
        "uproar-2-shards": uproar(TARGET / "release" / "uproar", 2),
        "library": lambda port: [TARGET / "release" / "examples" / "echo", f"127.0.0.1:{port}"],
        "uwebsockets": peer("uwebsockets"),
        **{name: peer(name) for name in RUST_PEERS},
        "ws": lambda port: ["node", PEERS / "ws" / "server.js", str(port)],
    }
    if baseline:
        commands |= {"baseline": uproar(baseline), "baseline-2-shards": uproar(baseline, 2)}
    return commands


# With the crates that say most about their speed.
RUST_PEERS = {
    "axum": ["axum", "tokio"],
    "tokio-tungstenite": ["tokio-tungstenite", "tokio"],
    "fastwebsockets": ["fastwebsockets", "hyper", "tokio"],
    "sockudo-ws": ["sockudo-ws", "tokio"],
}


def tools(names):
    """The programs that are needed to build and run these servers."""
    needed = {"uwebsockets": ["cc", "g++"], "ws": ["node", "npm"]}
    return ["cargo", "taskset", *(tool for name in names for tool in needed.get(name, []))]


def step(*command, cwd=ROOT, says=None):
    print(f"$ {says or ' '.join(map(str, command))}", flush=True)
    if subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL).returncode != 0:
        raise Failure(f"cannot build: {command[0]} failed, see above")


def build(names):
    step("cargo", "build", "--quiet", "--release", "-p", "uproar", "-p", "loadgen", "--bin", "uproar", "--bin",
         "loadgen")
    if "library" in names:
        step("cargo", "build", "--quiet", "--release", "-p", "uproar", "--example", "echo")
    for name in filter(RUST_PEERS.__contains__, names):
        # One at a time: built together, they would get the features of each other's dependencies.
        step("cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", PEERS / "Cargo.toml",
             "--target-dir", TARGET / "peers", "-p", f"peer-{name}")
    if "uwebsockets" in names:
        build_uwebsockets()
    if "ws" in names and installed_ws() != wanted_ws():
        step("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=PEERS / "ws")


def build_uwebsockets():
    """Compiles it as its own build.c and the Makefile of uSockets do, without TLS and zlib."""
    binary = TARGET / "peers" / "release" / "peer-uwebsockets"
    package = PEERS / "uwebsockets"
    changed = max((package / name).stat().st_mtime for name in ("server.cpp", "Cargo.lock"))
    if binary.exists() and binary.stat().st_mtime > changed:
        return
    metadata = subprocess.run(["cargo", "metadata", "--quiet", "--locked", "--format-version", "1", "--manifest-path",
                               package / "Cargo.toml"], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    if metadata.returncode != 0:
        raise Failure("cannot fetch the sources of uWebSockets, see above")
    crate = next(found for found in json.loads(metadata.stdout)["packages"] if found["name"] == "libuwebsockets-sys")
    sources = pathlib.Path(crate["manifest_path"]).parent / "uWebSockets"
    library = sources / "uSockets" / "src"
    objects = TARGET / "peers" / "uwebsockets"
    objects.mkdir(parents=True, exist_ok=True)
    binary.parent.mkdir(parents=True, exist_ok=True)
    parts = [file for folder in ("", "eventing", "crypto") for file in sorted((library / folder).glob("*.c"))]
    step("cc", "-DLIBUS_NO_SSL", "-flto", "-std=c11", "-O3", f"-I{library}", "-c", *parts, cwd=objects,
         says="cc … (uSockets)")
    step("g++", "-march=native", "-O3", "-flto=auto", "-std=c++20", "-DUWS_NO_ZLIB", f"-I{sources / 'src'}",
         f"-I{library}", package / "server.cpp", *sorted(objects.glob("*.o")), "-o", binary,
         says="g++ … (uWebSockets)")


def wanted_ws():
    return json.loads((PEERS / "ws" / "package.json").read_text())["dependencies"]["ws"]


def installed_ws():
    package = PEERS / "ws" / "node_modules" / "ws" / "package.json"
    return json.loads(package.read_text())["version"] if package.exists() else None


def version(name, commands):
    def said(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    if name.startswith(("uproar", "baseline")):
        return said(commands[name](0)[0], "--version")
    if name in RUST_PEERS:
        lock = (PEERS / "Cargo.lock").read_text()
        # The peers themselves are not listed, and of several versions of a crate, the last is the newest.
        versions = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
        return ", ".join(f"{crate} {versions[crate]}" for crate in RUST_PEERS[name])
    if name == "uwebsockets":
        # Of the version of libuwebsockets-sys that its Cargo.toml pins; the sources do not name their own.
        return f"uWebSockets 20.58.0, {said('g++', '--version').splitlines()[0]}"
    if name == "ws":
        return f"ws {installed_ws()}, node {said('node', '--version')}"
    return "examples/echo.rs"


@contextlib.contextmanager
def running(name, commands, log):
    """A fresh server on its core that accepts connections; it is stopped in any case. Yields its process and port."""
    port = free_port()
    command = ["taskset", "--cpu-list", str(SERVER_CORE), *commands[name](port)]
    environment = {**os.environ, "NODE_ENV": "production"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        await_listening(name, process, port, log)
        # taskset has become the server.
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def await_listening(name, process, port, log):
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise Failure(f"{name} ended with {process.returncode}: {log.read_text().strip()}")
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise Failure(f"{name} did not listen within {READY_SECONDS} s, see {log}")

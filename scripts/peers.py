"""The servers that scripts/compare-peers compares: how each is built and started, and its version.

Each runs on one core. The source of each peer under benches/peers begins with its settings and their reasons.
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
    """Ends the comparison; the text says what to do."""


def uproar(binary, shards=1):
    def command(port):
        # Without a rate limit, because the peers have none. Unpinned shards stay on the server's core, too: taskset
        # has put the process there.
        where = ["--cores", str(SERVER_CORE)] if shards == 1 else ["--shards", str(shards)]
        return [binary, "--listen", f"127.0.0.1:{port}", *where, "--rate", "0"]
    return command


def peer(name):
    return lambda port: [TARGET / "peers" / "release" / f"peer-{name}", str(port)]


def servers(baseline):
    """All servers by name, each with a function from a port to the command that runs it."""
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


# Each with the crates that determine its speed.
RUST_PEERS = {
    "axum": ["axum", "tokio"],
    "tokio-tungstenite": ["tokio-tungstenite", "tokio"],
    "fastwebsockets": ["fastwebsockets", "hyper", "tokio"],
    "sockudo-ws": ["sockudo-ws", "tokio"],
}


def tools(names):
    """The programs needed to build and run these servers."""
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
        # One at a time: cargo would unify the features of their dependencies.
        step("cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", PEERS / "Cargo.toml",
             "--target-dir", TARGET / "peers", "-p", f"peer-{name}")
    if "uwebsockets" in names:
        build_uwebsockets()
    if "ws" in names and installed_ws() != wanted_ws():
        step("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=PEERS / "ws")


def build_uwebsockets():
    """Compiles it like its own build.c and the Makefile of uSockets, without TLS and zlib."""
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
        # The last of several versions of a crate is the newest.
        versions = dict(re.findall(r'name = "([^"]+)"\nversion = "([^"]+)"', lock))
        return ", ".join(f"{crate} {versions[crate]}" for crate in RUST_PEERS[name])
    if name == "uwebsockets":
        # The version in libuwebsockets-sys, which Cargo.toml pins; the sources do not contain it.
        return f"uWebSockets 20.58.0, {said('g++', '--version').splitlines()[0]}"
    if name == "ws":
        return f"ws {installed_ws()}, node {said('node', '--version')}"
    return "examples/echo.rs"


@contextlib.contextmanager
def running(name, commands, log):
    """Starts a server on its core, waits until it accepts connections, yields its process id and port, and stops it."""
    port = free_port()
    command = ["taskset", "--cpu-list", str(SERVER_CORE), *commands[name](port)]
    environment = {**os.environ, "NODE_ENV": "production"}
    with log.open("w") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)
    try:
        await_listening(name, process, port, log)
        # taskset has replaced itself with the server.
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

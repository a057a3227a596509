"""Lets the library's servers and clients speak with those of other implementations.

    interop_websocket.py EXAMPLES CERTIFICATES
"""

import contextlib
import pathlib
import re
import ssl
import subprocess
import sys
import threading

from websockets.sync.client import connect
from websockets.sync.server import serve

EXAMPLES, CERTIFICATES = map(pathlib.Path, sys.argv[1:])
NODE = pathlib.Path(__file__).with_name("interop_websocket.cjs")
PATIENCE = 20
MESSAGES = ["", "hello", "κόσμε", "x" * 200_000, b"", bytes(range(256)), b"\0" * 1_000_000]


def check(name, found, expected):
    if found != expected:
        sys.exit(f"interop-websocket: {name}: {found!r}, not {expected!r}")
    print(f"{name}: as it should be", flush=True)


@contextlib.contextmanager
def program(*command):
    """A server that says where it listens, as `listening on URL`."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(4 * PATIENCE, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        if not (found := re.match(r"listening on (wss?://\S+)", line)):
            sys.exit(f"interop-websocket: {command[0]} says {line!r}")
        yield found[1].replace("127.0.0.1", "localhost")
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


def output(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE)
    return done.stdout if done.returncode == 0 else f"exit {done.returncode}: {done.stdout}{done.stderr}"


def trust():
    return ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")


def python_client(url):
    context = trust() if url.startswith("wss:") else None
    with connect(url, ssl=context, compression=None, max_size=None, open_timeout=PATIENCE) as client:
        for message in MESSAGES:
            client.send(message)
            if client.recv(PATIENCE) != message:
                return f"another message than {message[:20]!r}"
        client.send(iter(["in ", "three ", "parts"]))
        if client.recv(PATIENCE) != "in three parts":
            return "parts were not joined"
        client.ping().wait(PATIENCE)
    return client.close_code


def curl(url, *arguments):
    """The first line of the answer. An upgraded connection goes on until curl's time runs out."""
    done = subprocess.run(["curl", "--silent", "--include", "--http1.1", "--max-time", "2", "--cacert",
                           CERTIFICATES / "ca.pem", *arguments, url], capture_output=True, timeout=PATIENCE)
    return done.stdout.split(b"\r\n")[0].decode()


UPGRADE = [argument for field in ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") for argument in ("-H", field)]


def against_our_servers():
    certificate, key = CERTIFICATES / "cert.pem", CERTIFICATES / "key.pem"
    for command in (EXAMPLES / "echo", "127.0.0.1:0"), (EXAMPLES / "wss_server", certificate, key, "127.0.0.1:0"):
        with program(*command) as url:
            scheme = url.split(":")[0]
            check(f"websockets against {scheme}://", python_client(url), 1000)
            check(f"ws against {scheme}://", output("node", NODE, "client", url, CERTIFICATES), "1000\n")
            page = url.replace("ws", "http", 1)
            scheme = page.split(":")[0]
            check(f"curl against {scheme}://", curl(page), "HTTP/1.1 426 Upgrade Required")
            check(f"curl upgrading at {scheme}://", curl(page, *UPGRADE), "HTTP/1.1 101 Switching Protocols")


def our_client(url):
    if url.startswith("wss:"):
        return output(EXAMPLES / "wss_client", url, CERTIFICATES / "ca.pem").splitlines()[1:]
    return output(EXAMPLES / "client", url, "hello over TLS").splitlines()


def echo(connection):
    for message in connection:
        connection.send(message)


def against_their_servers():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "cert.pem", CERTIFICATES / "key.pem")
    answers = {"ws": ["hello over TLS"], "wss": ['Some(Text("hello over TLS"))']}
    for scheme, tls in ("ws", None), ("wss", context):
        with serve(echo, "127.0.0.1", 0, ssl=tls) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"{scheme}://localhost:{server.socket.getsockname()[1]}"
            check(f"our client against websockets, {scheme}://", our_client(url), answers[scheme])
            server.shutdown()
        with program("node", NODE, "server", scheme, CERTIFICATES) as url:
            check(f"our client against ws, {scheme}://", our_client(url), answers[scheme])


against_our_servers()
against_their_servers()
print("interop-websocket: everybody understands everybody")

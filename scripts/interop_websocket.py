"""Connects the chat server, and the library's servers and clients, with other implementations.

    interop_websocket.py EXAMPLES UPROAR CERTIFICATES
"""

import asyncio
import contextlib
import pathlib
import re
import ssl
import subprocess
import sys
import threading

from websockets.asyncio.client import connect
from websockets.sync.server import serve

EXAMPLES, UPROAR, CERTIFICATES = map(pathlib.Path, sys.argv[1:])
NODE = pathlib.Path(__file__).with_name("interop_websocket.cjs")
PATIENCE = 20
MESSAGES = ["", "hello", "κόσμε", "x" * 200_000, b"", bytes(range(256)), b"\0" * 1_000_000]


def check(name, found, expected):
    if found != expected:
        sys.exit(f"interop-websocket: {name}: {found!r}, not {expected!r}")
    print(f"{name}: as it should be", flush=True)


@contextlib.contextmanager
def program(*command):
    """Starts a server that prints `listening on URL`, and yields its WebSocket URL."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(4 * PATIENCE, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
        if not (found := re.search(r"listening on (?:ws|http)(s?://\S+)", line)):
            sys.exit(f"interop-websocket: {command[0]} says {line!r}")
        yield "ws" + found[1].replace("127.0.0.1", "localhost")
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
    """The close code. Uses asyncio: the package's threads set a timeout while another thread reads from TLS, and
    Python then sometimes takes it for expired."""
    return asyncio.run(asyncio.wait_for(converse(url), PATIENCE))


async def converse(url):
    context = trust() if url.startswith("wss:") else None
    async with connect(url, ssl=context, compression=None, max_size=None) as client:
        for message in MESSAGES:
            await client.send(message)
            if await client.recv() != message:
                return f"another message than {message[:20]!r}"
        await client.send(iter(["in ", "three ", "parts"]))
        if await client.recv() != "in three parts":
            return "parts were not joined"
        await (await client.ping())
    return client.close_code


def curl(url, *arguments):
    """The first line of the answer. An upgraded connection stays open until curl times out."""
    done = subprocess.run(["curl", "--silent", "--include", "--http1.1", "--max-time", "2", "--cacert",
                           CERTIFICATES / "ca.pem", *arguments, url], capture_output=True, timeout=PATIENCE)
    return done.stdout.split(b"\r\n")[0].decode()


UPGRADE = [argument for field in ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") for argument in ("-H", field)]


def against_the_chat_server():
    certificate, key = CERTIFICATES / "cert.pem", CERTIFICATES / "key.pem"
    command = [UPROAR, "--listen", "127.0.0.1:0", "--max-frame", "2MiB", "--send-queue", "4MiB"]
    for tls in [], ["--tls-cert", certificate, "--tls-key", key]:
        with program(*command, *tls) as url:
            page = url.replace("ws", "http", 1)
            scheme, secure = url.split(":")[0], page.split(":")[0]
            check(f"websockets against uproar, {scheme}://", python_client(f"{url}/echo"), 1000)
            check(f"ws against uproar, {scheme}://", output("node", NODE, "client", f"{url}/echo", CERTIFICATES), "1000\n")
            check(f"curl against uproar, {secure}://", curl(page), "HTTP/1.1 200 OK")
            check(f"curl upgrading at uproar, {secure}://", curl(f"{page}/chat", *UPGRADE),
                  "HTTP/1.1 101 Switching Protocols")
            if tls:
                check("curl with TLS 1.2", curl(page, "--tls-max", "1.2"), "HTTP/1.1 200 OK")
                check("curl without TLS at that port", curl(page.replace("https", "http")), "HTTP/1.1 400 Bad Request")
                address = page.removeprefix("https://")
                check("openssl resuming with TLS 1.2", openssl(address, "-tls1_2", "-reconnect").count("Reused, TLSv1.2"), 5)
                refused = openssl(address, "-tls1_2", stdin="R\n")
                check("openssl negotiating anew", "no renegotiation" in refused, True)
                check("uproar afterwards", curl(page), "HTTP/1.1 200 OK")


def openssl(address, *arguments, stdin="Q\n"):
    done = subprocess.run(["openssl", "s_client", "-connect", address, *arguments], input=stdin, text=True,
                          capture_output=True, timeout=PATIENCE)
    return done.stdout + done.stderr


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
    for scheme, tls in ("ws", None), ("wss", context):
        with serve(echo, "127.0.0.1", 0, ssl=tls) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"{scheme}://localhost:{server.socket.getsockname()[1]}"
            check(f"our client against websockets, {scheme}://", our_client(url), ["hello over TLS"])
            server.shutdown()
        with program("node", NODE, "server", scheme, CERTIFICATES) as url:
            check(f"our client against ws, {scheme}://", our_client(url), ["hello over TLS"])


against_the_chat_server()
against_our_servers()
against_their_servers()
print("interop-websocket: everybody understands everybody")

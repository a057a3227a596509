"""Brings tokens of PyJWT and jose to a server. Usage: interop_tokens.py SERVER DIRECTORY JOSE"""

import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jwt

ALGORITHMS = ["HS256", "RS256", "ES256", "ES384", "EdDSA"]
LIFETIME_S = 3

server_path, directory, jose = sys.argv[1], Path(sys.argv[2]), str(Path(sys.argv[3]).resolve())


def python_tokens():
    """A good token and one that soon expires, for each algorithm."""
    now = int(time.time())
    tokens = {}
    for algorithm in ALGORITHMS:
        is_secret = algorithm.startswith("HS")
        key = (directory / f"{algorithm}.{'key' if is_secret else 'pem'}").read_text()
        claims = {"sub": "python", "name": "Python", "iat": now}
        lifetimes = (60, LIFETIME_S)
        key = key.rstrip("\n") if is_secret else key
        tokens[algorithm] = [jwt.encode({**claims, "exp": now + s}, key, algorithm=algorithm) for s in lifetimes]
    return tokens


def node_tokens():
    command = ["node", "scripts/interop_tokens.mjs", jose, str(directory), str(LIFETIME_S), *ALGORITHMS]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=30).stdout)


def upgrade(port, target, fields=""):
    """The status of the answer to an upgrade, its head, and what a member is told first."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        request = (
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
        )
        connection.sendall(request.encode())
        received = b""
        while b"\r\n\r\n" not in received or (b" 101 " in received.split(b"\r\n")[0] and b'"user_name"' not in received):
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
        head, _, rest = received.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), head.decode(), rest.decode(errors="replace")


def main():
    keys = [argument for algorithm in ALGORITHMS for argument in ("--token-key", str(directory / f"{algorithm}.key"))]
    # An algorithm follows from the key, and every key may be tried.
    server = subprocess.Popen(
        [server_path, "--listen", "127.0.0.1:0", "--shards", "1", "--auth", "required", *keys],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in server.stdout:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                port = int(found[1])
                break
        else:
            sys.exit("the server did not start")
        makers = {"PyJWT": ("Python", python_tokens()), "jose": ("Node", node_tokens())}
        made_at = time.time()
        for maker, (name, tokens) in makers.items():
            for algorithm, (good, short) in tokens.items():
                for target, fields in ((f"/chat?token={good}", ""), ("/chat", f"Authorization: Bearer {short}\r\n")):
                    status, head, rest = upgrade(port, target, fields)
                    assert status == 101, f"{maker} {algorithm}: {head}"
                    assert f'"user_name":"{name}"' in rest, f"{maker} {algorithm}: {rest}"
        # An expiry that is reached; the tokens' own clock is the machine's.
        time.sleep(max(0, made_at + LIFETIME_S + 1 - time.time()))
        for maker, (_, tokens) in makers.items():
            for algorithm, (good, short) in tokens.items():
                status, head, _ = upgrade(port, f"/chat?token={short}")
                assert status == 401, f"{maker} {algorithm}, expired: {head}"
                assert 'WWW-Authenticate: Bearer error="invalid_token"' in head, head
                assert upgrade(port, f"/chat?token={good}")[0] == 101, f"{maker} {algorithm}: still good"
                forged = good[:-6] + ("A" if good[-6] != "A" else "B") + good[-5:]
                assert upgrade(port, f"/chat?token={forged}")[0] == 401, f"{maker} {algorithm}, forged"
    finally:
        server.kill()
        server.wait()
    print(f"tokens of {' and '.join(makers)} with {', '.join(ALGORITHMS)}: in, and 401 once expired or forged")


main()

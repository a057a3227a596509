"""Measures rooms that clients create: see scripts/rooms-bench, which starts this.

Times are those of one client over loopback; the time that it takes to read JSON in Python is not counted.
"""

import asyncio
import base64
import http.client
import json
import os
import pathlib
import re
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time

FLAGS = [
    "--listen", "127.0.0.1:0", "--shards", "1", "--room-pattern", "*", "--room-ttl", "1d", "--rate", "0",
    "--log-level", "off", "--ping-interval", "1h", "--idle-timeout", "2h", "--max-clients-per-address", "0",
    "--connect-rate-per-address", "0",
]
LISTS = 20


class Client:
    """A member of a room."""

    @classmethod
    async def enter(cls, port):
        """Connects, and reads what a newcomer is sent."""
        client = cls()
        client.reader, client.writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        client.writer.write(
            "GET /chat HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        await client.reader.readuntil(b"\r\n\r\n")
        await client.until("history")
        return client

    def say(self, message):
        """Sends a message, masked with zeros."""
        payload = json.dumps(message).encode()
        assert len(payload) < 126
        self.writer.write(bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload)

    async def until(self, kind):
        """The next message of this type, as bytes."""
        mark = f'"type":"{kind}"'.encode()
        while True:
            _, length = await self.reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
            message = await self.reader.readexactly(length)
            if mark in message:
                return message
            if b'"type":"error"' in message:
                raise RuntimeError(message.decode())

    async def timed(self, request, answer):
        """How long the answer takes in milliseconds, and the answer."""
        began = time.perf_counter()
        self.say(request)
        message = await self.until(answer)
        return (time.perf_counter() - began) * 1e3, message

    async def join(self, room):
        """Enters a room, and returns how long that took in milliseconds."""
        took_ms, _ = await self.timed({"type": "join_room", "room": room}, "history")
        return took_ms


class Api(http.client.HTTPConnection):
    """The HTTP API, through a unix socket."""

    def __init__(self, path):
        super().__init__("uproar")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def timed(self, path):
        """How long the answer takes in milliseconds, and its length."""
        began = time.perf_counter()
        self.request("GET", path)
        answer = self.getresponse()
        body = answer.read()
        took_ms = (time.perf_counter() - began) * 1e3
        if answer.status != 200:
            raise RuntimeError(body.decode())
        return took_ms, len(body)


def percentiles(times):
    """The median and the 99th percentile."""
    times = sorted(times)
    return f"p50 {times[len(times) // 2]:.2f} ms, p99 {times[len(times) * 99 // 100]:.2f} ms"


async def measure(server, port, api, rooms, members):
    """Creates the rooms, and prints what they cost."""

    def resident_bytes():
        status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    clients = []
    while len(clients) < members:
        batch = min(100, members - len(clients))
        clients += await asyncio.gather(*(Client.enter(port) for _ in range(batch)))
    before = resident_bytes()
    for number, client in enumerate(clients):
        await client.join(f"member-{number}")
    if members:
        each = (resident_bytes() - before) // members
        print(f"{members} rooms with a member: {each} bytes a room, beside the connections")
    walker = await Client.enter(port)
    before = resident_bytes()
    times = [await walker.join(f"room-{number}") for number in range(rooms - members)]
    each = (resident_bytes() - before) // len(times)
    print(f"{len(times)} rooms without one: {each} bytes a room; join {percentiles(times)}")
    for request in (
        {},
        {"offset": rooms // 2},
        {"offset": rooms - 1},
        {"prefix": "room-"},
        {"prefix": "room-", "offset": rooms // 2},
        {"prefix": "room-99"},
        {"prefix": "member-"},
        {"prefix": "none"},
    ):
        took = [await walker.timed({"type": "get_rooms", **request}, "rooms") for _ in range(LISTS)]
        total = json.loads(took[0][1])["total"]
        print(f"get_rooms {json.dumps(request)}: {percentiles([ms for ms, _ in took])}, total {total}")
    for path in (
        "/metrics",
        "/api/v1/stats",
        "/api/v1/rooms?limit=1000",
        "/api/v1/rooms?after=room-5&limit=1000",
        "/api/v1/rooms?order=fan_out&limit=10",
    ):
        took = [api.timed(path) for _ in range(LISTS)]
        print(f"GET {path}: {percentiles([ms for ms, _ in took])}, {took[0][1]} bytes")
    # Clients that wait behind a list: the work of a turn.
    took = [await walker.join(f"room-{number}") for number in range(1000)]
    print(f"1000 joins of rooms that are there: {percentiles(took)}")


def main():
    """Runs the server and the measurement."""
    program, rooms, members = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if not members < rooms:
        sys.exit("more rooms than members, please")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as directory:
        api = f"{directory}/api.sock"
        flags = [*FLAGS, "--rooms-max", str(rooms + 1), "--api-listen", f"unix:{api}"]
        with subprocess.Popen([program, *flags], stdout=subprocess.PIPE, text=True) as server:
            try:
                port = int(re.search(r"127\.0\.0\.1:(\d+)", server.stdout.readline())[1])
                asyncio.run(measure(server, port, Api(api), rooms, members))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()

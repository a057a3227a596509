"""Measures what a node of a cluster does for the clients of others: `scripts/cluster-bench nodes` starts this.

Two nodes share a Redis. All clients are at the first. What the second uses, it uses to follow the log.
"""

import asyncio
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from crash_clients import Line

ROOMS = 100
HISTORY = 100
CONTENT = "x" * 200
MEASURED_S = 10
PATIENCE_S = 60


class Node:
    """A running node."""

    def __init__(self, program, socket, name, directory):
        command = [program, "--listen", "127.0.0.1:0", "--redis", f"unix://{socket}", "--node", name, "--shards", "1"]
        command += ["--room-pattern", "*", "--rate", "0", "--log-level", "off", "--history", str(HISTORY)]
        command += ["--max-clients-per-address", "0", "--connect-rate-per-address", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        found = re.search(r"http://([\d.]+):(\d+)", self.process.stdout.readline())
        self.address = (found[1], int(found[2]))

    def busy_s(self):
        """Processor time that it has used."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


class Member:
    """A member of a room, who sends messages and waits for their acknowledgements."""

    @classmethod
    async def enter(cls, node, room):
        member = cls()
        member.line = await Line.open(node.address, "/chat")
        member.line.say({"type": "join_room", "room": room})
        await member.until(b'"type":"room_joined"', 1)
        return member

    async def until(self, kind, count):
        """Reads up to so many messages of this kind."""
        async with asyncio.timeout(PATIENCE_S):
            while count > 0:
                count -= sum(kind in text for text in await self.line.texts())

    async def say(self, count):
        payload = json.dumps({"type": "message", "content": CONTENT}).encode()
        head = bytes([0x81, 0xFE]) + len(payload).to_bytes(2, "big") + bytes(4)
        for _ in range(count):
            self.line.writer.write(head + payload)
        await self.until(b'"type":"message_sent"', count)


async def measure(first, second):
    """Prints the table."""
    print("| what a node without clients uses | |\n| --- | --- |")
    members = [await Member.enter(first, f"room-{number}") for number in range(ROOMS)]
    before = second.resident_bytes()
    for _ in range(HISTORY // 10):
        await asyncio.gather(*(member.say(10) for member in members))
    bytes_each = (second.resident_bytes() - before) / (ROOMS * HISTORY)
    print(f"| memory for a kept message of {len(CONTENT)} bytes | {bytes_each:.0f} bytes |")
    idle = second.busy_s()
    await asyncio.sleep(MEASURED_S)
    idle = (second.busy_s() - idle) / MEASURED_S
    print(f"| processor time while nothing is said | {idle * 100:.1f} % of a core |")
    for rate in (100, 1_000, 5_000):
        busy, began, said = second.busy_s(), time.monotonic(), 0
        while (elapsed := time.monotonic() - began) < MEASURED_S:
            due = [0] * ROOMS
            for number in range(said, int(elapsed * rate)):
                due[number % ROOMS] += 1
            await asyncio.gather(*(member.say(count) for member, count in zip(members, due) if count))
            said += sum(due)
            await asyncio.sleep(0.001)
        busy = (second.busy_s() - busy) / elapsed - idle
        each_us = busy * elapsed / said * 1e6
        print(f"| processor time for a message, at {said / elapsed:.0f} a second | {each_us:.1f} µs |")
    before = second.resident_bytes()
    crowd = []
    while len(crowd) < 5_000:
        crowd += await asyncio.gather(*(Member.enter(first, "crowd") for _ in range(50)))
    await asyncio.sleep(2)
    bytes_each = (second.resident_bytes() - before) / len(crowd)
    print(f"| memory for a member | {bytes_each:.0f} bytes |")


def main():
    """Starts everything."""
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/redis.sock"
        redis = ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", directory, "--save", ""]
        processes = [subprocess.Popen([*redis, "--maxmemory-policy", "noeviction"], stdout=subprocess.DEVNULL)]
        try:
            nodes = [Node(program, socket, name, directory) for name in ("a", "b")]
            processes += [node.process for node in nodes]
            asyncio.run(measure(*nodes))
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()

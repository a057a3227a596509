"""The clients of `scripts/crash-test --cluster`: they stay in a room, come back whatever happens, and tell the judge
what they hear."""

import asyncio
import base64
import json
import os
import random
import re
import struct
import time

from crash_judge import Sending, View

# How long a connection, an upgrade and a join may take: joins wait for Redis for 10 s.
ENTER_S = 13
# How long a nervous client bears silence in a room where much is said, and how long a patient one.
NERVOUS_S = 4
PATIENT_S = 60
# Between attempts: at most so long, twice as long after each that fails, and never longer than this.
PAUSE_S = 0.3
PAUSE_S_MAX = 4
# Bytes that a client sends ahead of a node that reads nothing. Beyond that it says nothing.
AHEAD_BYTES = 64 << 10

# Most of what is said, so it is not read as JSON.
MESSAGE = re.compile(rb'{"type":"message",.*"content":"([^"\\]*)",.*"message_id":(\d+)}')
SENT = re.compile(rb'{"content":{"message_id":(\d+),.*"type":"message_sent"}')


class Gone(Exception):
    """The connection has ended, or is given up."""


class Line:
    """A WebSocket connection."""

    @classmethod
    async def open(cls, address, path):
        """Connects and upgrades."""
        line = cls()
        line.buffer = bytearray()
        line.reader, line.writer = await asyncio.open_connection(*address)
        key = base64.b64encode(os.urandom(16)).decode()
        line.writer.write(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await line.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Gone(head.split(b"\r\n")[0].decode())
        return line

    def frame(self, opcode, payload):
        """Sends a frame. A mask of zeros does not change the payload (RFC 6455, 5.3)."""
        assert len(payload) < 126
        self.writer.write(bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload)

    def say(self, message):
        self.frame(1, json.dumps(message, separators=(",", ":")).encode())

    def may_say(self):
        return self.writer.transport.get_write_buffer_size() < AHEAD_BYTES

    async def texts(self):
        """The messages that are there, and at least one. Raises Gone at the end of the connection."""
        while not (texts := self.take()):
            received = await self.reader.read(1 << 16)
            if not received:
                raise Gone("end")
            self.buffer += received
        return texts

    def take(self):
        """The whole messages in the buffer. Fragments are joined."""
        texts, place, parts, whole = [], 0, [], 0
        buffer = self.buffer
        while len(buffer) >= place + 2:
            first, length, start = buffer[place], buffer[place + 1], place + 2
            if length == 126:
                if len(buffer) < start + 2:
                    break
                length, start = struct.unpack_from("!H", buffer, start)[0], start + 2
            elif length == 127:
                if len(buffer) < start + 8:
                    break
                length, start = struct.unpack_from("!Q", buffer, start)[0], start + 8
            if len(buffer) < start + length:
                break
            payload = bytes(buffer[start : start + length])
            place = start + length
            opcode = first & 0x0F
            if opcode == 8:
                self.frame(8, payload[:2])
                raise Gone(f"closed: {int.from_bytes(payload[:2], 'big')} {payload[2:].decode()}")
            if opcode == 9:
                self.frame(10, payload)
            elif opcode < 8:
                parts.append(payload)
                if first & 0x80:
                    texts.append(b"".join(parts))
                    parts, whole = [], place
            if not parts:
                whole = place
        del buffer[:whole]
        return texts

    def close(self):
        """Ends it without a word."""
        self.writer.transport.abort()


class Person:
    """Somebody in a room, who comes back. `rate` is what it says in a second, 0 for who only listens."""

    def __init__(self, name, room, rate, is_nervous, world):
        self.name, self.room, self.rate, self.is_nervous, self.world = name, room, rate, is_nervous, world
        self.view = View(world.judge, name, room)
        self.session = self.user = None
        self.sending = None
        self.line = None
        self.connections = 0
        self.node = None
        # When it has last heard something in its room; None while it is not there.
        self.heard_at = None
        # The same, but it stays.
        self.was_there_at = 0
        # How often its connections have ended for each reason, and how the last one has.
        self.ends, self.last_end = {}, None
        # Attempts that have failed since it was last there.
        self.failures = 0
        self.is_leaving = False

    async def live(self):
        """Comes back again and again, until it is to leave."""
        while not self.is_leaving:
            began = time.monotonic()
            try:
                await self.visit()
            except (Gone, OSError, asyncio.IncompleteReadError) as error:
                kind = re.sub(r"[\d.:\[\]()' ]+", " ", f"{type(error).__name__} {error}").strip()
                self.ends[kind] = self.ends.get(kind, 0) + 1
                self.last_end = f"{kind} after {time.monotonic() - began:.1f} s"
                self.failures += 1
            finally:
                self.heard_at = None
                if self.line:
                    self.line.close()
                self.line = None
            await asyncio.sleep(random.uniform(0, min(PAUSE_S * 2**self.failures, PAUSE_S_MAX)))

    async def visit(self):
        """One connection, to any node."""
        async with asyncio.timeout(ENTER_S):
            await self.enter()
        speaking = asyncio.create_task(self.speak()) if self.rate else None
        try:
            while True:
                async with asyncio.timeout(NERVOUS_S if self.is_nervous else PATIENT_S):
                    texts = await self.line.texts()
                self.heard_at = self.was_there_at = time.monotonic()
                for text in texts:
                    self.handle(text)
        except TimeoutError:
            if not self.is_nervous:
                self.world.judge.fail(f"{self.name} has heard nothing for {PATIENT_S} s")
            raise
        finally:
            if speaking:
                speaking.cancel()

    async def enter(self):
        """Connects, and comes to its room, behind what it has heard there."""
        path = f"/chat?session={self.session}" if self.session else "/chat"
        self.node = self.world.any_node()
        self.line = await Line.open(self.node.address, path)
        view = self.view
        if view.last is None:
            self.line.say({"type": "join_room", "room": self.room})
        else:
            self.line.say({"type": "resume", "room": self.room, "after": view.last, "epoch": view.epoch})
        members, is_there = None, False
        while True:
            texts = await self.line.texts()
            while texts:
                text = texts.pop(0)
                if not is_there and text.startswith(b'{"type":"history"'):
                    # That of the room in which it finds itself. It is long, and its own follows.
                    continue
                message = json.loads(text)
                kind, content = message["type"], message.get("content")
                if kind == "welcome":
                    self.greeted(content)
                elif kind == "error":
                    raise Gone(f"refused: {content['message']}")
                elif kind == "room_joined":
                    is_there = True
                elif kind == "users" and is_there:
                    members = {user["id"] for user in content}
                elif kind == "history" and is_there:
                    history = [(row["message_id"], row["content"]) for row in content]
                    view.enter(members, history, message["epoch"], message.get("complete"))
                    self.connections += 1
                    self.failures = 0
                    self.sending = Sending(self.world.judge, f"{self.name}.{self.connections}", self.room)
                    self.heard_at = time.monotonic()
                    for text in texts:
                        self.handle(text)
                    return

    def greeted(self, welcome):
        """It is the user that it was, since it is never away for as long as sessions are kept. There are two
        exceptions. Without Redis, a node cannot ask another one to end the connection that was there before. And a
        node knows nobody who left before it began."""
        user = welcome["user_id"]
        if self.user not in (None, user):
            self.world.strangers += 1
            if not self.world.is_redis_away and self.node.began_at < self.was_there_at:
                self.world.judge.fail(
                    f"{self.name} was {self.user} and is {user} on node {self.node.name}, last by {self.last_end}"
                )
        self.user, self.session = user, welcome.get("session")

    def handle(self, text):
        """A message in the room."""
        if found := MESSAGE.fullmatch(text):
            self.view.hear(int(found[2]), found[1].decode())
        elif found := SENT.fullmatch(text):
            number = int(found[1])
            self.view.hear(number)
            self.sending.note_acknowledged(number)
        else:
            message = json.loads(text)
            kind, content = message["type"], message.get("content")
            if kind == "join":
                self.view.join(content["user_id"])
            elif kind == "leave":
                self.view.leave(content["user_id"])
            elif kind == "error":
                self.world.refusals[content["message"]] = self.world.refusals.get(content["message"], 0) + 1
                self.sending.note_refused()
            elif kind not in ("reconnect",):
                self.world.judge.fail(f"{self.name} was told {text[:200]!r}")

    def leave(self):
        """Goes for good."""
        self.is_leaving = True
        if self.line:
            self.line.close()

    async def speak(self):
        """Says one message after the other, on schedule; what could not be said in time is left out."""
        line, due = self.line, time.monotonic()
        while self.world.is_speaking:
            due = max(due + 1 / self.rate, time.monotonic() - 0.1)
            await asyncio.sleep(due - time.monotonic())
            if line.may_say() and self.world.is_speaking:
                line.say({"type": "message", "content": self.sending.say()})

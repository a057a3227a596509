"""A backend and its users. Usage: api_demo.py SERVER DIRECTORY"""

import json
import re
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import Queue
from urllib.parse import quote

import jwt
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

PATIENCE_S = 10

server_path, directory = sys.argv[1], Path(sys.argv[2])


def step(text):
    print(f"- {text}", flush=True)


class Server:
    """A server with the HTTP API, and a key for it."""

    def __init__(self):
        self.secret = secrets.token_urlsafe(48)
        (directory / "token.key").write_text(self.secret)
        made = subprocess.run([server_path, "api-key", "shop"], check=True, stdout=subprocess.PIPE, text=True)
        line, self.key = made.stdout.split()
        (directory / "api.keys").write_text(f"{line}\n")
        (directory / "data").mkdir()
        flags = [
            "--listen", "127.0.0.1:0", "--shards", "2", "--room-pattern", "order-*",
            "--token-key", directory / "token.key", "--data", directory / "data",
            "--api-listen", "127.0.0.1:0", "--api-key-file", directory / "api.keys",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [server_path, *map(str, flags)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.clients = self.api = None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := re.search(r"the HTTP API listens address=(\S+)", line):
                self.api = found[1]
            if found := re.search(r"listening on http://([^ ]+)", line):
                self.clients = found[1].strip()
            if self.api and self.clients:
                break
        assert self.api and self.clients, "".join(said)
        # What it logs from here on has to be read, so that it never waits.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def token(self, account, **claims):
        """A token for an account, as the shop's login would give it to a page."""
        claims = {"sub": account, "exp": int(time.time()) + 60, **claims}
        return jwt.encode(claims, self.secret, algorithm="HS256")


class Backend:
    """What the shop's backend does with the HTTP API."""

    def __init__(self, server):
        self.root = f"http://{server.api}/api/v1"
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {server.key}"

    def ask(self, method, path, body=None, status=200, **headers):
        answer = self.session.request(method, self.root + path, json=body, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer

    def get(self, path):
        return self.ask("GET", path).json()

    def post(self, path, **body):
        return self.ask("POST", path, body).json()

    def events(self, query):
        """Begins to read the stream of events, and returns a queue of them."""
        stream = self.session.get(f"{self.root}/events{query}", stream=True, timeout=PATIENCE_S)
        assert stream.headers["Content-Type"] == "text/event-stream", stream.headers
        events = Queue()

        def read():
            kind = None
            try:
                for line in stream.iter_lines(decode_unicode=True):
                    if line.startswith("event:"):
                        kind = line.split(":", 1)[1].strip()
                    elif line.startswith("data:"):
                        events.put((kind, json.loads(line.split(":", 1)[1])))
            except requests.RequestException:
                pass  # The server has ended.

        threading.Thread(target=read, daemon=True).start()
        return events


class Client:
    """A user in front of a page."""

    def __init__(self, server, token):
        self.socket = connect(f"ws://{server.clients}/chat?token={token}")
        self.until("history")

    def until(self, kind):
        """The next message of this type."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if message["type"] == kind:
                return message
        raise AssertionError(f"no {kind}")

    def say(self, **message):
        self.socket.send(json.dumps(message))

    def closed(self):
        """Reads on until it is closed, and returns code and reason."""
        try:
            while True:
                self.socket.recv(timeout=PATIENCE_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code, closed.rcvd.reason


def next_event(events, wanted):
    """The next event for which `wanted` is true; others may come before it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        kind, data = events.get(timeout=PATIENCE_S)
        if wanted(kind, data):
            return data
    raise AssertionError("no such event")


def is_refused(server, token):
    try:
        connect(f"ws://{server.clients}/chat?token={token}").close()
    except InvalidStatus as refused:
        return refused.response.status_code == 403
    return False


def speak(server, backend, events):
    step("clients connect with tokens")
    ann = Client(server, server.token("ann", name="Ann"))
    bob = Client(server, server.token("bob", name="Bob"))
    begun = next_event(events, lambda kind, data: kind == "connection" and data["connection"]["account"] == "bob")
    assert begun["phase"] == "begin", begun

    step("the backend publishes, once for each idempotency key")
    headers = {"Idempotency-Key": "order-7-shipped"}
    body = {"room": "general", "content": "Order 7 is on its way.", "from_name": "Shop", "from_account": "shop"}
    first = backend.ask("POST", "/publish", body, **headers)
    again = backend.ask("POST", "/publish", body, **headers)
    assert again.json() == first.json() and again.headers["Idempotency-Replayed"] == "true"
    heard = ann.until("message")
    assert (heard["content"], heard["from_name"], heard["from_id"]) == (body["content"], "Shop", 0), heard

    step("clients talk, and the backend reads what they said")
    bob.say(type="message", content="Thank you!")
    assert ann.until("message")["content"] == "Thank you!", "and no second message of the shop before it"
    thanks = next_event(events, lambda kind, data: kind == "message" and data["from_account"] == "bob")
    history = backend.get("/rooms/general/history")["messages"]
    assert [message["content"] for message in history] == [body["content"], "Thank you!"], history
    members = backend.get("/rooms/general/members")
    assert {member["account"] for member in members["members"]} == {"ann", "bob"}, members

    step("the backend broadcasts to a topic")
    listener = connect(f"ws://{server.clients}/broadcast/prices")
    deadline = time.monotonic() + PATIENCE_S
    # The upgrade is answered before the topic is heard.
    while backend.post("/batch", items=[{"topic": "prices", "text": "42"}])["results"][0]["receivers"] == 0:
        assert time.monotonic() < deadline
    assert listener.recv(timeout=PATIENCE_S) == "42"
    return ann, bob, thanks["message_id"]


def moderate(server, backend, events, bob, message_id):
    step("a message is removed")
    backend.ask("DELETE", f"/rooms/general/messages/{message_id}")
    bob.until("message_deleted")
    assert all(message["message_id"] != message_id for message in backend.get("/rooms/general/history")["messages"])

    step("bob is muted, and unmuted")
    assert backend.post("/users/bob/mute", seconds=300) == {"connections": 1}
    bob.until("muted")
    bob.say(type="message", content="hello?")
    assert "muted" in json.dumps(bob.until("error")).lower()
    assert backend.get("/users/bob")["mute"]["until"] > time.time()
    assert backend.post("/users/bob/unmute") == {"connections": 1}
    bob.until("unmuted")

    step("bob is moved to a room of his order")
    assert backend.post("/users/bob/move", to="order-7") == {"connections": 1}
    bob.until("room_joined")
    (connection,) = backend.get("/users/bob")["connections"]
    assert connection["room"] == "order-7", connection

    step("his connection is explained")
    explained = backend.get(f"/connections/{connection['id']}")
    assert explained["account"] == "bob" and explained["messages_in"] >= 2 and explained["ended"] is None, explained
    assert explained["round_trip_ms"] > 0 and explained["acknowledged_bytes"] > 0, explained

    step("bob is banned, and cannot come back until the ban is lifted")
    assert backend.post("/users/bob/ban", seconds=3_600, reason="spam") == {"connections": 1}
    assert bob.until("kicked")["content"]["reason"] == "spam"
    assert bob.closed() == (1008, "banned")
    ended = next_event(events, lambda kind, data: kind == "connection" and data["connection"]["id"] == connection["id"])
    assert ended["connection"]["ended"]["reason"] == "banned", ended
    assert backend.get(f"/connections/{connection['id']}")["ended"]["reason"] == "banned"
    assert is_refused(server, server.token("bob"))
    (ban,) = backend.get("/bans")["bans"]
    assert (ban["account"], ban["reason"], ban["by"]) == ("bob", "spam", "key:shop"), ban
    backend.ask("DELETE", f"/bans/{ban['id']}")
    assert not is_refused(server, server.token("bob"))


def clean_up(backend, ann):
    step("one connection is disconnected")
    (connection,) = backend.get("/users/ann")["connections"]
    assert backend.post(f"/connections/{connection['id']}/disconnect", reason="good night") == {"connections": 1}
    assert ann.until("kicked")["content"]["reason"] == "good night"
    assert ann.closed()[0] == 1008

    step("a room is removed")
    assert [room["room"] for room in backend.get(f"/rooms?prefix={quote('order-')}")["rooms"]] == ["order-7"]
    backend.ask("DELETE", "/rooms/order-7")
    backend.ask("GET", "/rooms/order-7", status=404)

    step("mistakes are told in words")
    wrong = backend.ask("POST", "/publish", {"room": "general", "contents": "typo"}, status=422).json()
    assert {error["pointer"] for error in wrong["errors"]} == {"/content", "/contents"}, wrong
    backend.ask("POST", "/publish", {"room": "nowhere", "content": "hello"}, status=404)


def main():
    server = Server()
    try:
        backend = Backend(server)
        events = backend.events("?types=message,connection,moderation")
        ann, bob, message_id = speak(server, backend, events)
        moderate(server, backend, events, bob, message_id)
        clean_up(backend, ann)
        step("the server shuts down in order, with the stream of events open")
        server.process.terminate()
        assert server.process.wait(timeout=PATIENCE_S) == 0
    finally:
        server.process.kill()
    print("every step did what it should")


main()

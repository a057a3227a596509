"""Kills and pauses the nodes of a cluster, and its Redis: see `scripts/crash-test --help`, which starts this."""

import asyncio
import collections
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import crash_judge
from crash_clients import Person

ROOMS = ["general", "random", "gaming"]
NODES = ["a", "b", "c"]
# In each room: patient and nervous listeners, patient and nervous speakers.
LISTENERS, SPEAKERS = (2, 1), (2, 2)
MESSAGES_PER_SECOND = 1_000
# More than is said in a room while a client is away, so that nothing is lost for a reason.
HISTORY = 10_000
# How long everybody may need to be back, in seconds: a pause of 15 s, 12 s until a node is gone, and the machine.
PATIENCE_S = 60
# How long a node or Redis may be paused or away.
PAUSE_S = (1, 15)
AWAY_S = (0, 3)
# A node that is paused for longer may be declared gone, and then begins anew.
FENCED_S = 9
# What a round does. Each is done once before any is done again.
KINDS = ["kill a node", "pause a node", "kill Redis", "pause Redis", "kill a node and Redis"]


class Failed(Exception):
    """The test cannot go on."""


class Process:
    """A program that is started again after it was killed. Its output goes to a file."""

    def __init__(self, name, command, directory):
        self.name, self.command = name, command
        self.log = os.path.join(directory, f"{name}.log")
        self.process = self.address = None
        # Since when it may know nothing of what was before.
        self.began_at = 0

    def start(self):
        self.began_at = time.monotonic()
        with open(self.log, "ab") as log:
            self.begun = log.tell()
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)

    def printed(self):
        """What it has printed since it was started."""
        with open(self.log, "rb") as log:
            log.seek(self.begun)
            return log.read().decode(errors="replace")

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()


class World:
    """Redis, nodes and clients."""

    def __init__(self, program, directory, judge, moments):
        self.judge, self.moments = judge, moments
        self.is_speaking = True
        # True in a round in which Redis is away, up to its end. Clients who came back as somebody else.
        self.is_redis_away, self.strangers = False, 0
        self.refusals = {}
        socket = os.path.join(directory, "redis.sock")
        self.socket = socket
        redis = ["redis-server", "--port", "0", "--unixsocket", socket, "--dir", directory, "--save", ""]
        redis += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
        self.redis = Process("redis", redis, directory)
        node = [program, "--listen", "127.0.0.1:0", "--redis", f"unix://{socket}", "--history", str(HISTORY)]
        node += ["--rate", "0", "--shards", "2", "--rooms", ",".join(ROOMS)]
        self.nodes = [Process(name, [*node, "--node", name], directory) for name in NODES]
        self.people = []
        speakers = sum(SPEAKERS) * len(ROOMS)
        for room in ROOMS:
            for kind, (patient, nervous), rate in (
                ("listener", LISTENERS, 0),
                ("speaker", SPEAKERS, MESSAGES_PER_SECOND / speakers),
            ):
                for number in range(patient + nervous):
                    name = f"{kind}-{room}-{number}"
                    self.people.append(Person(name, room, rate, number >= patient, self))

    def any_node(self):
        """Any node, dead or alive, as a client without a balancer has it."""
        return random.choice(self.nodes)

    async def start_redis(self):
        if os.path.exists(self.socket):
            os.remove(self.socket)
        self.redis.start()
        await self.until("Redis answers", lambda: os.path.exists(self.socket))

    async def start_node(self, node):
        node.start()

        def listens():
            if node.process.poll() is not None:
                raise Failed(f"node {node.name} has ended:\n{node.printed()}")
            if found := re.search(r"listening on http://([\d.]+):(\d+)", node.printed()):
                node.address = (found[1], int(found[2]))
            return bool(found)

        await self.until(f"node {node.name} listens", listens)

    async def until(self, what, question):
        """Asks until it is true; what it is may be a function, too."""
        deadline = time.monotonic() + PATIENCE_S
        while not question():
            if time.monotonic() > deadline:
                raise Failed(f"not within {PATIENCE_S} s: {what() if callable(what) else what}")
            await asyncio.sleep(0.05)

    async def trouble(self, node):
        """What its /readyz says, if it is not "ready"."""
        try:
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(*node.address)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await reader.read()
                writer.close()
        except OSError as error:
            return repr(error)
        return None if answer.startswith(b"HTTP/1.1 200 ") else answer.decode().split("\r\n\r\n")[-1]

    async def until_all_is_well(self):
        """Every node is ready, and every client hears what is said."""
        deadline = time.monotonic() + PATIENCE_S
        for node in self.nodes:
            while why := await self.trouble(node):
                if time.monotonic() > deadline:
                    raise Failed(f"node {node.name} is not ready after {PATIENCE_S} s: {why}")
                await asyncio.sleep(0.05)
        since = time.monotonic()
        missing = lambda: [person.name for person in self.people if (person.heard_at or 0) <= since]
        await self.until(lambda: f"these hear something: {', '.join(missing())}", lambda: not missing())

    async def round(self, kind):
        """One round. Returns what was done."""
        moments, node = self.moments, self.moments.choice(self.nodes)
        await asyncio.sleep(moments.uniform(0.5, 2))
        self.is_redis_away = "Redis" in kind
        pause_s, away_s = moments.uniform(*PAUSE_S), moments.uniform(*AWAY_S)
        if kind.startswith("pause"):
            victim = node if "node" in kind else self.redis
            victim.send(signal.SIGSTOP)
            await asyncio.sleep(pause_s)
            victim.send(signal.SIGCONT)
            if pause_s > FENCED_S:
                victim.began_at = time.monotonic()
            done = f"{victim.name} paused for {pause_s:.1f} s"
        else:
            is_node, is_redis = "node" in kind, "Redis" in kind
            if is_node and is_redis:
                # A node that was live cannot say what it had seen.
                self.judge.epochs_allowed += 1
            done = " and ".join([node.name] * is_node + ["redis"] * is_redis) + f" killed for {away_s:.1f} s"
            if is_node:
                node.kill()
            if is_redis:
                self.redis.kill()
            await asyncio.sleep(away_s)
            if is_redis:
                await self.start_redis()
            if is_node:
                await self.start_node(node)
        await self.until_all_is_well()
        self.is_redis_away = False
        return done

    async def settle(self):
        """Everybody falls silent, has all answers, has heard the same; speakers leave, and listeners are told."""
        self.is_speaking = False
        present = lambda: all(person.heard_at for person in self.people)
        open_count = lambda: sum(person.sending.open() for person in self.people if person.rate)
        await self.until(
            lambda: f"all messages are answered; {open_count()} are not", lambda: present() and not open_count()
        )
        for room in ROOMS:
            here = [person for person in self.people if person.room == room]
            lasts = lambda: {person.view.last for person in here}
            await self.until(lambda: f"all have heard the same in {room}: {lasts()}", lambda: len(lasts()) == 1)
        for person in self.people:
            if person.rate:
                person.leave()
        for room in ROOMS:
            listeners = [person for person in self.people if person.room == room and not person.rate]
            users = {person.user for person in listeners}
            others = lambda: {person.name: person.view.members ^ users for person in listeners}
            await self.until(
                lambda: f"listeners of {room} are told who is there: {others()}",
                lambda: all(person.view.members == users for person in listeners),
            )

    def stop(self):
        for process in [*self.nodes, self.redis]:
            if process.process:
                process.kill()


async def run(world, rounds):
    """Everything. Returns how many rounds of each kind there were."""
    judge = world.judge
    await world.start_redis()
    for node in world.nodes:
        await world.start_node(node)
    lives = [asyncio.create_task(person.live()) for person in world.people]
    done = collections.Counter()
    try:
        await world.until_all_is_well()
        kinds = []
        for number in range(rounds):
            if not kinds:
                kinds = world.moments.sample(KINDS, len(KINDS))
            kind = kinds.pop()
            began, before = time.monotonic(), judge.acknowledged
            what = await world.round(kind)
            done[kind] += 1
            print(
                f"round {number + 1}: {what}, all well after {time.monotonic() - began:.1f} s; "
                f"{judge.acknowledged - before} acknowledged, {judge.refused} refused in all, "
                f"{judge.failure_count} failures",
                flush=True,
            )
            if judge.failures:
                raise Failed("the clients contradict each other")
            if judge.acknowledged == before:
                raise Failed("nothing was acknowledged, so nothing was tested")
            if ended := [life for life in lives if life.done()]:
                ended[0].result()
        await world.settle()
    finally:
        for person in world.people:
            person.leave()
        # Who is just connecting has a time-out of its own.
        await asyncio.gather(*lives, return_exceptions=True)
    judge.check_end()
    return done


def main(program, rounds, seed):
    """Runs the test, and prints what was checked."""
    print(f"moments drawn by {seed}; the judge finds {crash_judge.prove()} kinds of faults")
    judge = crash_judge.Judge()
    with tempfile.TemporaryDirectory(prefix="uproar-crash-") as directory:
        world = World(program, directory, judge, random.Random(seed))
        try:
            done = asyncio.run(run(world, rounds))
            problem = "the clients contradict each other" if judge.failures else None
        except (Failed, KeyboardInterrupt) as error:
            problem = f"{error or 'interrupted'}"
        finally:
            world.stop()
        ends = sum((collections.Counter(person.ends) for person in world.people), collections.Counter())
        print("connections ended:", "; ".join(f"{count} × {kind}" for kind, count in ends.most_common(12)))
        print("messages refused:", "; ".join(f"{count} × {kind}" for kind, count in world.refusals.items()) or "none")
        if problem:
            for process in [*world.nodes, world.redis]:
                if process.process:
                    print(f"--- {process.log}:\n" + "\n".join(process.printed().splitlines()[-15:]))
            sys.exit("scripts/crash-test: " + "\n  ".join([problem, *judge.failures]))
    connections = sum(person.connections for person in world.people)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in done.items())
    print(
        f"{rounds} rounds ({kinds}): {len(world.people)} clients with {connections} connections were told "
        f"{len(judge.places)} messages of {len(ROOMS)} rooms in one order, without a gap; {judge.acknowledged} "
        f"acknowledgements, each of a message that is there once; {judge.refused} refused, which are not; "
        f"{judge.joins} joins and {judge.leaves} leaves, each fitting; {judge.incomplete} histories with a gap, of new epochs; "
        f"{world.strangers} came back as another user, without Redis or to a node that had just begun"
    )

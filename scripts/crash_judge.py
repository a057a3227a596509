"""What clients of a cluster were told, and what contradicts it: the judge of `scripts/crash-test --cluster`.

Clients hand in what they receive, as they receive it. Nothing here waits or connects, so `prove` can hand in made-up
faults, and does so before each test.
"""

import collections

# Failures that are kept. The first ones tell most.
FAILURES_MAX = 20
# By how much message ids go on higher with a new epoch.
IDS_RAISED = 65_536


class Judge:
    """Everything that was told to anybody."""

    def __init__(self):
        self.failures = []
        self.failure_count = 0
        # By room: what stands under each id. No id is given twice, not even in another epoch.
        self.logs = collections.defaultdict(dict)
        self.places = {}
        self.epochs = collections.defaultdict(set)
        # How many epochs a room may have had.
        self.epochs_allowed = 1
        self.incomplete = 0
        self.acknowledged = 0
        self.refused = 0
        self.joins = 0
        self.leaves = 0
        self.connections = []

    def fail(self, text):
        """Notes a failure."""
        self.failure_count += 1
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(text)

    def note_message(self, who, room, number, content):
        """Somebody has seen a message."""
        before = self.logs[room].setdefault(number, content)
        if before != content:
            self.fail(f"{who} has {content!r} as id {number} of {room}, where others have {before!r}")
        place = self.places.setdefault(content, (room, number))
        if place != (room, number):
            self.fail(f"{who} has {content!r} as {(room, number)}, and it was {place}")

    def note_epoch(self, room, epoch):
        """A history names its epoch."""
        self.epochs[room].add(epoch)
        if len(self.epochs[room]) > self.epochs_allowed:
            self.fail(f"{room} has had {len(self.epochs[room])} epochs, of which {self.epochs_allowed} are explained")

    def check_end(self):
        """What can only be said when everything was told."""
        for room, log in self.logs.items():
            numbers = sorted(log)
            raises = sum(after - before >= IDS_RAISED for before, after in zip(numbers, numbers[1:]))
            missing = sum(after - before != 1 for before, after in zip(numbers, numbers[1:])) - raises
            if missing or raises >= self.epochs_allowed:
                self.fail(f"the ids of {room} have {missing} gaps, and {raises} that a new epoch makes")
        for connection in self.connections:
            connection.check_end()


class Sending:
    """One connection's own messages, and the answers to them."""

    def __init__(self, judge, who, room):
        self.judge, self.who, self.room = judge, who, room
        self.said, self.acknowledged, self.refused = [], [], 0
        judge.connections.append(self)

    def say(self):
        """The next message."""
        self.said.append(f"{self.who}/{len(self.said)}")
        return self.said[-1]

    def open(self):
        """How many have no answer."""
        return len(self.said) - len(self.acknowledged) - self.refused

    def note_acknowledged(self, number):
        """`message_sent`."""
        self.judge.acknowledged += 1
        if self.acknowledged and number <= self.acknowledged[-1]:
            self.judge.fail(f"{self.who} got the id {number} behind {self.acknowledged[-1]}")
        self.acknowledged.append(number)

    def note_refused(self):
        """`error`: the message will not come."""
        self.judge.refused += 1
        self.refused += 1

    def check_end(self):
        """Each acknowledged message is there, in the order in which it was sent."""
        log = self.judge.logs[self.room]
        said = {content: place for place, content in enumerate(self.said)}
        places = []
        for place, number in enumerate(self.acknowledged):
            content = log.get(number)
            if content not in said:
                self.judge.fail(f"{self.who} was told that {number} of {self.room} is its own, and it is {content!r}")
                continue
            places.append(said[content])
            # A refusal may overtake an acknowledgement, so only without one is it clear which message was meant.
            if not self.refused and said[content] != place:
                self.judge.fail(f"{self.who} was told {number} for {self.said[place]!r}, and there is {content!r}")
        if places != sorted(places):
            self.judge.fail(f"what {self.who} has said was acknowledged in another order")
        numbers = [self.judge.places[content][1] for content in self.said if content in self.judge.places]
        if numbers != sorted(numbers):
            self.judge.fail(f"what {self.who} has said is there in another order")
        if len(numbers) > len(self.said) - self.refused:
            self.judge.fail(f"{len(numbers)} of {self.who} are there; {len(self.said)} were said, {self.refused} refused")


class View:
    """A room as one client sees it, over all its connections."""

    def __init__(self, judge, who, room):
        self.judge, self.who, self.room = judge, who, room
        # Where it has heard nothing yet, there is no last id.
        self.last = self.epoch = None
        self.members = set()

    def enter(self, members, history, epoch, complete):
        """It has come, or come back: members and history as they are now. `complete` is None on the first entry."""
        self.members = set(members)
        self.judge.note_epoch(self.room, epoch)
        is_same = complete and (self.epoch == epoch)
        if complete is False:
            self.judge.incomplete += 1
            if self.epoch == epoch:
                self.judge.fail(f"{self.who} has missed messages of {self.room} behind {self.last}")
        elif complete and not is_same:
            self.judge.fail(f"{self.who} came back to another epoch of {self.room}, as if it had missed nothing")
        if not is_same:
            self.last = None
        self.epoch = epoch
        for number, content in history:
            self.hear(number, content)

    def hear(self, number, content=None):
        """A message, or the acknowledgement of its own, at its place in the room's order."""
        if self.last is not None and number != self.last + 1:
            is_raised = number > self.last + IDS_RAISED
            if not is_raised or self.judge.epochs_allowed == 1:
                self.judge.fail(f"{self.who} has heard {number} behind {self.last} in {self.room}")
        self.last = number
        if content is not None:
            self.judge.note_message(self.who, self.room, number, content)

    def join(self, user):
        """Somebody has come."""
        self.judge.joins += 1
        if user in self.members:
            self.judge.fail(f"{self.who} was told twice that {user} has come to {self.room}")
        self.members.add(user)

    def leave(self, user):
        """Somebody has gone."""
        self.judge.leaves += 1
        if user not in self.members:
            self.judge.fail(f"{self.who} was told that {user} has left {self.room}, who was not there")
        self.members.discard(user)


def prove():
    """Fails unless the judge finds each kind of fault, and none where there is none."""

    def world(change):
        judge = Judge()
        one, two = View(judge, "one", "r"), View(judge, "two", "r")
        sending = Sending(judge, "s", "r")
        for view in (one, two):
            view.enter({1}, [], "e", None)
            view.join(2)
        said = [sending.say() for _ in range(4)]
        for number, content in enumerate(said[:3], 1):
            sending.note_acknowledged(number)
            one.hear(number, content)
            two.hear(number, content)
        change(judge, one, two, sending, said)
        judge.check_end()
        return judge.failures

    def acknowledge(sending, number):
        sending.note_acknowledged(number)

    def raised(judge, one):
        judge.epochs_allowed = 2
        one.enter({1, 2}, [(4 + IDS_RAISED, "x")], "f", False)

    def refused(sending, one, said):
        sending.note_refused()
        one.hear(4, said[3])

    sound = [
        lambda judge, one, two, sending, said: one.hear(4, said[3]),
        lambda judge, one, two, sending, said: two.enter({1, 2}, [(4, said[3])], "e", True),
        lambda judge, one, two, sending, said: raised(judge, one),
        lambda judge, one, two, sending, said: one.leave(2),
        lambda judge, one, two, sending, said: sending.note_refused(),
    ]
    faults = {
        "lost": lambda judge, one, two, sending, said: acknowledge(sending, 4),
        "doubled": lambda judge, one, two, sending, said: one.hear(4, said[0]),
        "another message": lambda judge, one, two, sending, said: two.hear(3, "other"),
        "somebody else's": lambda judge, one, two, sending, said: (one.hear(4, "other"), acknowledge(sending, 4)),
        "left out": lambda judge, one, two, sending, said: one.hear(5, said[3]),
        "heard again": lambda judge, one, two, sending, said: one.hear(3, said[2]),
        "missed": lambda judge, one, two, sending, said: two.enter({1, 2}, [], "e", False),
        "missed in silence": lambda judge, one, two, sending, said: two.enter({1, 2}, [(5, said[3])], "e", True),
        "a new epoch": lambda judge, one, two, sending, said: two.enter({1, 2}, [], "f", False),
        "an epoch in silence": lambda judge, one, two, sending, said: two.enter({1, 2}, [], "f", True),
        "refused and there": lambda judge, one, two, sending, said: refused(sending, one, said),
        "ids that fall": lambda judge, one, two, sending, said: acknowledge(sending, 2),
        "joined twice": lambda judge, one, two, sending, said: one.join(2),
        "left twice": lambda judge, one, two, sending, said: (one.leave(2), one.leave(2)),
    }
    for number, change in enumerate(sound):
        assert not (failures := world(change)), f"sound world {number}: {failures}"
    for name, change in faults.items():
        assert world(change), f"the judge does not find: {name}"
    # Said in one order, and there in another.
    judge = Judge()
    sending = Sending(judge, "s", "r")
    one, two = sending.say(), sending.say()
    judge.note_message("one", "r", 1, two)
    judge.note_message("one", "r", 2, one)
    judge.check_end()
    assert judge.failures, "the judge does not find another order"
    return len(faults) + 1

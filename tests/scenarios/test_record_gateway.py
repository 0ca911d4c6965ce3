"""The gateway on the wall clock follows the twin's rules where no server is needed to see it: its gate, its choice."""

import asyncio
import time

from scenarios.recording.gateway import Attempt, Gateway, Told
from scenarios.recording.playing import LATE_S
from tests.twin.twin_plant import expert, profile
from twin.gateway.backlog import Backlog
from twin.gateway.rules import Rules


def played(rules, requests):
    """Return (leg, expert, seconds from the start, seconds late) of every attempt.

    `requests` gives what each does once it began.

    Two experts are offered, the first is the better; a leg's answer comes when its event in `answers` is set.
    """

    async def play():
        asked, answers, began_s = [], {}, time.monotonic()

        async def ask(sent):
            now_s = time.monotonic()
            asked.append((sent.leg, sent.expert, now_s - began_s, now_s - sent.planned_s))
            await answers.setdefault(sent.leg, asyncio.Event()).wait()
            sent.status = "served"

        told = Told(gave_up=lambda _: None, unanswered=lambda *_: None)
        gateway = Gateway(
            rules,
            [Backlog(expert(profile(), name=name)) for name in ("a", "b")],
            ask,
            told,
            begin=asyncio.ensure_future,
            stop_s=began_s + 60.0,
        )
        tasks = []
        for request, answered in enumerate(requests):
            offers = [
                Attempt(leg=request, expert=e, attempt=1, prompt_tokens=20, output_tokens=40, planned_s=began_s)
                for e in (0, 1)
            ]
            tasks.append(asyncio.ensure_future(gateway.request(request, offers)))
            for _ in range(10):  # what was begun comes to its first wait
                await asyncio.sleep(0)
            for leg in answered:
                answers.setdefault(leg, asyncio.Event()).set()
                await asyncio.wait({tasks[leg]})
        for leg in range(len(requests)):
            answers.setdefault(leg, asyncio.Event()).set()
        await asyncio.gather(*tasks)
        return asked

    return asyncio.run(play())


def test_load_aware_requests_go_where_the_least_work_waits():
    """The first to the better of two idle experts, the second to the other; back to the first once that is idle."""
    asked = played(Rules(k=1, load_aware=True), [(), (0,), ()])
    assert [(leg, chosen) for leg, chosen, *_ in asked] == [(0, 0), (1, 1), (2, 0)]
    blind = played(Rules(k=1), [(), (0,), ()])
    assert [chosen for _, chosen, *_ in blind] == [0, 0, 0]


def test_the_gate_takes_what_waits_as_one_batch():
    """Alone a prompt takes the gate's time; two that come meanwhile are decided together, after twice that."""
    gate_s = 0.5  # far longer than a busy machine takes to begin all three
    asked = played(Rules(k=1, gate_s=gate_s), [(), (), ()])
    at_s = [seconds for _, _, seconds, _ in asked]
    assert at_s[0] >= gate_s
    assert min(at_s[1:]) >= 3 * gate_s
    assert [leg for leg, *_ in asked] == [0, 1, 2]


def test_what_the_gate_takes_is_not_late():
    """A send is planned for when its gate is done: what was late before is late still, the gate's own time is not."""
    gate_s = 10 * LATE_S
    asked = played(Rules(k=1, gate_s=gate_s), [(), ()])
    for _, _, at_s, late_s in asked:  # requests were planned for 0
        assert 0 <= late_s <= at_s - gate_s + 1e-9

"""One server, iteration by iteration, in plain Python: slow and written to be checked by eye.

It shares no code with the twin. Every iteration visits every running sequence and adds its share of the joules.
"""

from dataclasses import dataclass, field


@dataclass
class Sequence:
    request_id: object
    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    started_s: float = None
    first_token_s: float = None
    finished_s: float = None
    energy_j: float = 0.0
    status: str = "unfinished"
    generated: int = 0


@dataclass
class Server:
    """Coefficients as in a profile: prefill (a, b, c), decode (d, e, f), each for seconds and joules."""

    prefill_s: tuple
    decode_s: tuple
    prefill_j: tuple
    decode_j: tuple
    max_batch: int
    kv_capacity_tokens: int
    waiting: list = field(default_factory=list)
    running: list = field(default_factory=list)
    busy_s: float = 0.0
    last_end_s: float = 0.0


def prefill(abc, p):
    a, b, c = abc
    return a + b * p + c * p * p


def decode(def_, n, context):
    d, e, f = def_
    return d + e * n + f * context


def simulate(server, sequences):
    """Serve all sequences `prefill_first`; the times and joules are written into them."""
    order = sorted(sequences, key=lambda s: (s.arrived_s, s.request_id))
    to_come = []
    for s in order:
        if s.prompt_tokens + s.output_tokens > server.kv_capacity_tokens:
            s.status = "rejected"
        else:
            to_come.append(s)
    t = 0.0
    run_start, run_k, run_first, run_growth = None, 0, 0.0, 0.0
    while to_come or server.waiting or server.running:
        while to_come and to_come[0].arrived_s <= t:
            server.waiting.append(to_come.pop(0))
        if may_admit(server):
            t = prefill_iteration(server, t)
            run_start = None
        elif server.running:
            n = len(server.running)
            context = sum(s.prompt_tokens + s.generated for s in server.running)
            if run_start is None:
                run_start, run_k = t, 0
                run_first = decode(server.decode_s, n, context)
                run_growth = server.decode_s[2] * n
            run_k += 1
            end = run_start + (run_k * run_first + run_growth * run_k * (run_k - 1) / 2)
            finished = decode_iteration(server, t, end, context)
            t = end
            if finished:
                run_start = None
        else:
            t = to_come[0].arrived_s
            run_start = None
    return order


def may_admit(server):
    if not server.waiting or len(server.running) >= server.max_batch:
        return False
    head = server.waiting[0]
    reserved = sum(s.prompt_tokens + s.output_tokens for s in server.running)
    return reserved + head.prompt_tokens + head.output_tokens <= server.kv_capacity_tokens


def prefill_iteration(server, t):
    s = server.waiting.pop(0)
    end = t + prefill(server.prefill_s, s.prompt_tokens)
    s.started_s, s.first_token_s, s.generated = t, end, 1
    s.energy_j += prefill(server.prefill_j, s.prompt_tokens)
    server.busy_s += end - t
    server.last_end_s = end
    if s.output_tokens == 1:
        s.finished_s, s.status = end, "served"
    else:
        server.running.append(s)
    return end


def decode_iteration(server, t, end, context):
    """Give each running sequence a token; return whether one of them is finished."""
    n = len(server.running)
    joules = decode(server.decode_j, n, context)
    server.busy_s += end - t
    server.last_end_s = end
    for s in server.running:
        s.energy_j += joules / n
        s.generated += 1
        if s.generated == s.output_tokens:
            s.finished_s, s.status = end, "served"
    left = [s for s in server.running if s.status != "served"]
    finished = len(left) < n
    server.running = left
    return finished

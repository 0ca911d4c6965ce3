"""One server with either scheduler and either memory, iteration by iteration, in plain Python, to be checked by eye.

It shares no code with the twin. Every boundary visits every sequence; every iteration adds up its own cost.
"""

from dataclasses import dataclass, field
from math import ceil


@dataclass
class Sequence:
    request_id: int
    arrived_s: float
    prompt_tokens: int
    output_tokens: int
    started_s: float = None
    first_token_s: float = None
    finished_s: float = None
    energy_j: float = 0.0
    status: str = "unfinished"
    generated: int = 0
    to_prefill: int = 0  # tokens whose KV is to be computed before the next token comes out
    prefilled: int = 0
    decoding: bool = False
    blocks: int = 0


@dataclass
class Server:
    """Coefficients as in a profile: prefill (a, b, c), decode (d, e, f) and mixed g, each for seconds and joules."""

    prefill_s: tuple
    decode_s: tuple
    prefill_j: tuple
    decode_j: tuple
    max_batch: int
    kv_capacity_tokens: int
    scheduler: str
    token_budget: int
    kv: str
    block_tokens: int
    knee_tokens: int
    mixed_s: float = 0.0  # what a token of context costs more where prompts are in the iteration too
    mixed_j: float = 0.0
    tile_tokens: int = 1  # `prefill_first`: a prompt costs as many tokens as whole tiles hold
    queue: list = field(default_factory=list)
    admitted: list = field(default_factory=list)  # in the order of admission
    busy_s: float = 0.0
    last_end_s: float = 0.0
    preemptions: int = 0

    @property
    def all_blocks(self):
        return self.kv_capacity_tokens // self.block_tokens

    def free_blocks(self):
        return self.all_blocks - sum(s.blocks for s in self.admitted)

    def blocks_for(self, tokens):
        return ceil(tokens / self.block_tokens)

    def never_fits(self, s):
        if self.kv == "reserve":
            return s.prompt_tokens + s.output_tokens > self.kv_capacity_tokens
        return self.blocks_for(s.prompt_tokens + s.output_tokens - 1) > self.all_blocks

    def fits_now(self, s):
        if self.kv == "reserve":
            used = sum(a.prompt_tokens + a.output_tokens for a in self.admitted)
            return used + s.prompt_tokens + s.output_tokens <= self.kv_capacity_tokens
        return self.blocks_for(s.prompt_tokens + s.generated) <= self.free_blocks()


def simulate(server, sequences, stop_s=float("inf")):  # noqa: PLR0912 - one page
    """Serve all sequences; the times and joules are written into them."""
    to_come = []
    for s in sorted(sequences, key=lambda s: (s.arrived_s, s.request_id)):
        if server.never_fits(s):
            s.status = "rejected"
        else:
            to_come.append(s)
    t, run = 0.0, None
    while to_come or server.queue or server.admitted:
        if not server.queue and not server.admitted:
            t, run = max(t, to_come[0].arrived_s), None
        while to_come and to_come[0].arrived_s <= t:
            server.queue.append(to_come.pop(0))
        if t >= stop_s:
            break
        if claim(server):
            run = None
        else:
            admit(server)
        prompts = chunks(server)
        decoding = [s for s in server.admitted if s.decoding]
        if server.scheduler == "prefill_first" and prompts:
            t, run = whole_prompt(server, prompts[0][0], t), None
        elif prompts:
            t, run = mixed(server, prompts, decoding, t), None
        else:
            if run is None:
                context = sum(s.prompt_tokens + s.generated for s in decoding)
                run = (t, 0, decode(server.decode_s, len(decoding), context), server.decode_s[2] * len(decoding))
            start, k, first, growth = run
            run = (start, k + 1, first, growth)
            end = start + ((k + 1) * first + growth * (k + 1) * k / 2)
            if only_decode(server, decoding, t, end):
                run = None
            t = end
    return sequences


def claim(server):
    """Claim the blocks of the newest tokens; return whether a sequence lost its own."""
    if server.kv == "reserve":
        return False
    preempted = False
    for s in list(server.admitted):
        while s in server.admitted and s.decoding and s.blocks < server.blocks_for(s.prompt_tokens + s.generated):
            if server.free_blocks() > 0:
                s.blocks += 1
            else:
                victim = server.admitted.pop()
                victim.blocks, victim.decoding, victim.prefilled = 0, False, 0
                server.queue.insert(0, victim)
                server.preemptions += 1
                preempted = True
    return preempted


def admit(server):
    while server.queue and len(server.admitted) < server.max_batch and server.fits_now(server.queue[0]):
        if server.scheduler == "prefill_first" and any(not s.decoding for s in server.admitted):
            return
        s = server.queue.pop(0)
        s.to_prefill = s.prompt_tokens + s.generated
        if server.kv == "paged":
            s.blocks = server.blocks_for(s.to_prefill)
        server.admitted.append(s)


def chunks(server):
    """Return the prompt tokens that the next iteration carries: (sequence, tokens)."""
    pending = [s for s in server.admitted if not s.decoding]
    if server.scheduler == "prefill_first":
        return [(s, s.to_prefill) for s in pending]
    room = server.token_budget - sum(s.decoding for s in server.admitted)
    found = []
    for s in pending:
        n = min(room, s.to_prefill - s.prefilled)
        if n > 0:
            found.append((s, n))
            room -= n
    return found


def decode(def_, n, context):
    d, e, f = def_
    return d + e * n + f * context


def whole_prompt(server, s, t):
    a, b, c = server.prefill_s
    aj, bj, cj = server.prefill_j
    p = ceil(s.to_prefill / server.tile_tokens) * server.tile_tokens
    end = t + (a + b * p + c * p * p)
    s.energy_j += aj + bj * p + cj * p * p
    s.prefilled = s.to_prefill
    if s.started_s is None:
        s.started_s = t
    ended(server, t, end)
    emit(server, s, end)
    return end


def mixed(server, prompts, decoding, t):
    context = sum(s.prompt_tokens + s.generated for s in decoding)
    seconds = decode(server.decode_s, len(decoding), context) + server.mixed_s * context
    joules = decode(server.decode_j, len(decoding), context) + server.mixed_j * context
    sharers = decoding or [s for s, _ in prompts]
    for s in sharers:
        s.energy_j += joules / len(sharers)
    tokens = len(decoding)
    for s, n in prompts:
        costs = [0.0, 0.0]
        for i in range(n):
            tokens += 1
            place = s.prefilled + i
            for q, (prefill, dec) in enumerate(
                ((server.prefill_s, server.decode_s), (server.prefill_j, server.decode_j))
            ):
                linear = dec[1] if tokens <= server.knee_tokens else prefill[1]
                costs[q] += linear + prefill[2] * ((place + 1) ** 2 - place**2)
        seconds += costs[0]
        s.energy_j += costs[1]
        if s.started_s is None:
            s.started_s = t
    end = t + seconds
    ended(server, t, end)
    for s in decoding:
        emit(server, s, end)
    for s, n in prompts:
        s.prefilled += n
        if s.prefilled == s.to_prefill:
            emit(server, s, end)
    return end


def only_decode(server, decoding, t, end):
    """Give each running sequence a token; return whether one of them is finished."""
    context = sum(s.prompt_tokens + s.generated for s in decoding)
    joules = decode(server.decode_j, len(decoding), context)
    ended(server, t, end)
    for s in decoding:
        s.energy_j += joules / len(decoding)
        emit(server, s, end)
    return any(s.status == "served" for s in decoding)


def emit(server, s, at_s):
    s.generated += 1
    s.decoding = True
    if s.first_token_s is None:
        s.first_token_s = at_s
    if s.generated == s.output_tokens:
        s.finished_s, s.status = at_s, "served"
        server.admitted.remove(s)


def ended(server, t, end):
    server.busy_s += end - t
    server.last_end_s = end

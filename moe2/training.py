"""Training of the gate: the only file that imports torch.

The default loss scores every expert on every prompt (is its answer right?), so all of them are put in order and one
gate serves every subset; mixture cross-entropy over all experts, and over random subsets of them, are there to be
compared with, on validation.
"""

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np

from moe2.answers import Answers
from moe2.fusion import likelihood, softmax
from moe2.gate import Gate
from moe2.narrowing import Arrays, narrowed
from moe2.tuning import tuned
from moe2.votes import option_ratio

MIXTURE_SMOOTHING = 0.2  # of the answers in the mixture loss
LEAST = 5  # prompts, of train and of validation, below which there is nothing to learn from or to choose on
# Prompts below which a result is in doubt. Trained on 50, 100, 200 and 400 bundled prompts, validated on as many, the
# gate's first choice is right -0.5, -0.1, +0.3 and +1.1 points (each within 0.4) more often than the best single expert
# of these prompts. On 100 validation prompts an accuracy has a standard error of up to 5 points.
ENOUGH = {"train": 200, "validation": 100}
OVERFITTED = 1e-3  # nats on validation above the best epoch at which training stops and returns to that epoch

MORE = (
    "Half of all questions become train, a fifth validation; ask more: moe2 answers collect --endpoints FILE "
    "--questions FILE"
)


Loss = Literal["score", "subset", "mixture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What was chosen on validation before the bundled gate was trained."""

    loss: Loss = "score"
    heads: int = 8  # independent perceptrons whose log-odds are averaged: together one wider perceptron
    hidden: int = 64  # per head
    rank: int = 96  # dimensions of an embedding that are read, see moe2.narrowing; more cost speed and add nothing
    dropout: float = 0.5
    weight_decay: float = 0.01
    learning_rate: float = 1e-3  # at the peak of a one-cycle schedule
    batch: int = 128
    epochs: int = 10

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            raise ValueError(f"recipe: loss is {self.loss!r}, must be one of {', '.join(get_args(Loss))}")
        for name in ("heads", "hidden", "rank", "batch", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"recipe: {name} is {getattr(self, name)}, must be at least 1")
        if not 0 <= self.dropout < 1 or not self.weight_decay >= 0 or not self.learning_rate > 0:
            raise ValueError(
                f"recipe: dropout {self.dropout} must be in [0, 1), weight_decay {self.weight_decay} at least 0, "
                f"learning_rate {self.learning_rate} above 0"
            )


def train_gate(
    answers: Answers,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    progress: Callable[[int, int], None] = lambda _epoch, _total: None,
) -> Gate:
    """Return a gate trained on the train split; epoch, temperature, smoothing and k are chosen on validation.

    Training stops early when the loss on validation has risen by more than 0.001 nats above its least, and the weights
    of that best epoch are taken. The same answers, seed and recipe give the same bits on the same machine and torch
    (one thread).

    Args:
        answers: needs train and validation prompts.
        seed: of initial weights, order of prompts and dropout.
        recipe: the default when None.
        progress: called after every epoch with (epochs done, epochs in all).

    Raises ValueError for a table of fewer than 5 train or validation prompts, ModuleNotFoundError without torch. Of
    tables that are not much larger `scarcity` says what is in doubt.
    """
    recipe = recipe or Recipe()
    train, validation = answers.rows("train"), answers.rows("validation")
    if min(train.size, validation.size) < LEAST:
        raise ValueError(
            f"answers: {train.size} train and {validation.size} validation prompts, must be at least {LEAST} of each: "
            f"the gate is learned on the ones, its temperature, smoothing and k are chosen on the others. {MORE}"
        )
    torch = _torch()
    with _one_thread(torch):
        wide, epochs = _fit(torch, answers.of(train), answers.of(validation), recipe, seed, progress)
    arrays = narrowed(wide, answers.embedding[train], recipe.rank)
    raw = Gate(
        models=answers.models,
        **arrays,
        option_ratio=option_ratio(answers.of(train)),
        temperature=1.0,
        smoothing=0.5,
        k=1,
        encoder=answers.encoder,
        evidence=_evidence(torch, answers, recipe, seed, epochs),
    )
    seen = answers.of(np.concatenate([train, validation]))
    return replace(tuned(raw, answers.of(validation)), option_ratio=option_ratio(seen))


def _evidence(torch: Any, answers: Answers, recipe: Recipe, seed: int, epochs: int) -> dict[str, Any]:
    """Return what a gate was trained on, and how; the epoch only where training stopped early."""
    return {
        **({"stopped_after_epochs": epochs} if epochs < recipe.epochs else {}),
        "seed": seed,
        "recipe": asdict(recipe),
        "answers_sha256": answers.sha256,
        "versions": {"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "n_train": int(answers.rows("train").size),
        "n_validation": int(answers.rows("validation").size),
    }


def scarcity(answers: Answers) -> str | None:
    """Return what too few prompts leave in doubt about a gate trained on this table, None where there are enough."""
    doubts = {
        "train": "a gate trained on so few is hardly better than the best single expert",
        "validation": "an accuracy on so few, and the k chosen by it, may have a standard error above 5 points",
    }
    found = {split: answers.rows(split).size for split in doubts}
    short = [
        f"{n} {split} prompts, should be at least {ENOUGH[split]}: {doubts[split]}"
        for split, n in found.items()
        if n < ENOUGH[split]
    ]
    return f"answers: {'; '.join(short)}. {MORE}" if short else None


def _fit(  # noqa: PLR0917 - in the order of what is used
    torch: Any, train: Answers, validation: Answers, recipe: Recipe, seed: int, progress: Callable[[int, int], None]
) -> tuple[Arrays, int]:
    """Return the arrays of the averaged perceptron at its best epoch on validation, and that epoch."""
    random = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(train.embedding * np.float32(np.sqrt(train.embedding.shape[1])))  # entries of order 1
    correct = torch.from_numpy(train.correct.astype(np.float32))  # (n, N)
    right = likelihood(train.choice, train.gold, train.n_options, smoothing=MIXTURE_SMOOTHING)
    right = torch.from_numpy(right.astype(np.float32))  # (n, N)
    weights = _initial(torch, random, recipe, x.shape[1], correct.mean(dim=0))
    optimiser, schedule = _optimiser(torch, weights, recipe, n_batches=-(-len(train) // recipe.batch))
    least, best = np.inf, (Arrays(), 0)
    for epoch in range(1, recipe.epochs + 1):
        for rows in torch.randperm(len(train), generator=random).split(recipe.batch):
            optimiser.zero_grad()
            logits = _outputs(torch, random, recipe.dropout, weights, x[rows])
            kept = torch.rand(logits.shape, generator=random) < 0.5 if recipe.loss == "subset" else None
            _loss(torch, kept, logits, correct[rows] if recipe.loss == "score" else None, right[rows]).backward()
            optimiser.step()
            schedule.step()
        progress(epoch, recipe.epochs)
        arrays = _averaged({name: weight.detach().numpy() for name, weight in weights.items()})
        loss = _validation_loss(arrays, validation, recipe.loss)
        if loss > least + OVERFITTED:
            return best
        if loss < least:
            least, best = loss, (arrays, epoch)
    return arrays, recipe.epochs


def _optimiser(torch: Any, weights: dict[str, Any], recipe: Recipe, *, n_batches: int) -> tuple[Any, Any]:
    """Return AdamW, which lets biases decay not at all, and the schedule of its learning rate over all epochs."""
    decayed = [w for name, w in weights.items() if "bias" not in name]
    biases = [w for name, w in weights.items() if "bias" in name]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate)
    steps = max(3, recipe.epochs * n_batches)  # torch divides by the steps of the warm-up less one
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.learning_rate, total_steps=steps, pct_start=max(0.1, 2 / steps)
    )
    return optimiser, schedule


def _validation_loss(arrays: Arrays, validation: Answers, loss: str) -> float:
    """Return what training minimises, on validation and without dropout: per expert, or of the mixture of all."""
    hidden = np.maximum(validation.embedding @ arrays["hidden_weight"] + arrays["hidden_bias"], 0)
    odds = (hidden @ arrays["output_weight"] + arrays["output_bias"]).astype(np.float64)
    if loss == "score":
        return float(np.mean(np.logaddexp(0.0, odds) - validation.correct * odds))
    right = likelihood(validation.choice, validation.gold, validation.n_options, smoothing=MIXTURE_SMOOTHING)
    return float(-np.log((softmax(odds) * right).sum(axis=1)).mean())


def _initial(torch: Any, random: Any, recipe: Recipe, dimensions: int, rate: Any) -> dict[str, Any]:
    """Return random weights of all heads; every head starts from the experts' base rates (N,)."""
    heads, hidden = recipe.heads, recipe.hidden

    def normal(*shape: int, scale: float) -> Any:
        return (torch.randn(*shape, generator=random) * scale).requires_grad_()

    return {
        "hidden": normal(heads, dimensions, hidden, scale=dimensions**-0.5),
        "hidden_bias": torch.zeros(heads, 1, hidden, requires_grad=True),
        "output": normal(heads, hidden, len(rate), scale=0.5 * hidden**-0.5),
        "output_bias": torch.logit(rate.clamp(0.01, 0.99)).repeat(heads, 1, 1).requires_grad_(),
    }


def _outputs(torch: Any, random: Any, dropout: float, weights: dict[str, Any], x: Any) -> Any:
    """Return the log-odds (heads, batch, N) of all heads; each sees its own dropout."""
    heads = len(weights["hidden"])
    hidden = torch.relu(torch.bmm(x.expand(heads, -1, -1), weights["hidden"]) + weights["hidden_bias"])
    kept = torch.rand(hidden.shape, generator=random) >= dropout
    return torch.bmm(hidden * kept / (1 - dropout), weights["output"]) + weights["output_bias"]


def _loss(torch: Any, kept: Any, logits: Any, correct: Any, right: Any) -> Any:
    """Return the loss of one batch, averaged over heads: per expert where `correct` is given, else of the mixture.

    `kept` restricts the mixture to a subset of experts, drawn anew for each prompt and head; all where it is empty.
    """
    if correct is not None:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, correct.expand_as(logits))
    if kept is not None:
        logits = logits.masked_fill(~kept & kept.any(dim=-1, keepdim=True), -torch.inf)
    return -torch.log((logits.softmax(dim=-1) * right).sum(dim=-1)).mean()


def _averaged(weights: Arrays) -> Arrays:
    """Return one perceptron whose output is the mean of the heads': their hidden layers side by side."""
    heads, dimensions, hidden = weights["hidden"].shape
    scale = np.float32(np.sqrt(dimensions))  # training scaled the embedding; the gate takes it as it is
    return {
        "hidden_weight": scale * weights["hidden"].transpose(1, 0, 2).reshape(dimensions, heads * hidden),
        "hidden_bias": weights["hidden_bias"].reshape(heads * hidden).copy(),  # training goes on in place
        "output_weight": weights["output"].reshape(heads * hidden, -1) / np.float32(heads),
        "output_bias": weights["output_bias"].mean(axis=(0, 1)),
    }


def _torch() -> Any:
    try:
        return import_module("torch")
    except ModuleNotFoundError as error:
        message = "training needs torch; install it with: pip install 'moe2-twin[gate]'"
        raise ModuleNotFoundError(message, name="torch") from error


@contextmanager
def _one_thread(torch: Any) -> Iterator[None]:
    """Sums in one order give the same bits; the caller's thread count comes back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

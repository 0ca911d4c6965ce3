"""Numbers as people read them: three significant digits, units, thin spaces, a dash with a reason for nothing."""

import math
from dataclasses import dataclass

THIN = "\u202f"  # narrow space that does not break a line
DASH = "\u2014"
UNBOUNDED = "∞"
MINUS = "\u2212"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell of a table: its text, why it says nothing, a second line, and how it is set.

    `style` is "" (text), "name" (breaks only before @), "prose" (needs room), "lines" (one per line),
    "strong", "tag" (a provenance), "number" or "words" (words in a column of numbers).
    """

    text: str
    why: str = ""
    below: str = ""
    style: str = ""


def number(value: float) -> str:
    """Return three significant digits, thousands apart; whole numbers of four digits and more lose what is beyond.

    >>> [number(v).replace(THIN, "_") for v in (36.149, 12345.0, 0.5, 0.00001234, -2.0, 0.0, 4.2e9)]
    ['36.1', '12_300', '0.500', '1.23 × 10⁻⁵', '−2.00', '0', '4.20 × 10⁹']
    """
    if value == 0:
        return "0"
    mantissa, _, power = f"{value:.2e}".partition("e")
    exponent = int(power)
    if not -4 <= exponent < 6:
        return f"{mantissa} × 10{_superscript(exponent)}".replace("-", MINUS)
    return _grouped(f"{float(f'{value:.2e}'):.{max(0, 2 - exponent)}f}")


def count(value: int) -> str:
    """Return a whole number in full, thousands apart.

    >>> count(12345).replace(THIN, "_")
    '12_345'
    """
    return _grouped(str(value))


def given(value: float) -> str:
    """Return a number that a person chose, without digits they did not write.

    >>> given(40.0), given(0.05), given(2500.0).replace(THIN, "_")
    ('40', '0.05', '2_500')
    """
    return _grouped(f"{value:.10g}") if abs(value) < 1e6 else number(value)


def percent(share: float, *, sign: bool = False) -> str:
    """Return a share as percent with one digit, whole hundreds without; less than a millionth is nothing.

    >>> [percent(share).replace(THIN, " ") for share in (0.4971, 1.0, 0.00004, 2e-12)]
    ['49.7 %', '100 %', '0.004 %', '0 %']
    """
    value = 100 * share if abs(share) >= 1e-6 else 0.0
    text = f"{value:.1f}" if abs(value) >= 0.1 else f"{value:.1g}"
    text = "100" if value == 100 else "0" if value == 0 else text
    return f"{'+' if sign and value > 0 else ''}{text}{THIN}%".replace("-", MINUS)


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit; a unit of "share" or "%" reads the value as a share of one.

    >>> quantity(36.149, "s").replace(THIN, " "), quantity(0.5, "share").replace(THIN, " ")
    ('36.1 s', '50.0 %')
    """
    if unit in {"share", "%"}:
        return percent(value)
    return f"{number(value)}{THIN}{unit}" if unit else number(value)


def bound(value: float, unit: str) -> str:
    """Return a budget with its unit."""
    return percent(value) if unit in {"share", "%"} else f"{given(value)}{THIN}{unit}".removesuffix(THIN)


def interval(low: float, high: float, unit: str) -> str:
    """Return an interval with its unit, written once.

    >>> interval(31.24, 36.9, "s").replace(THIN, " ")
    '31.2–36.9 s'
    """
    if unit in {"share", "%"}:
        return f"{percent(low).removesuffix(f'{THIN}%')}–{percent(high)}"
    return f"{number(low)}–{quantity(high, unit)}"


def duration(seconds: float) -> str:
    """Return seconds with minutes or hours beside them where that helps.

    >>> [duration(v).replace(THIN, " ") for v in (12.0, 300.0, 5400.0)]
    ['12 s', '300 s (5 min)', '5 400 s (1.5 h)']
    """
    text = f"{given(round(seconds, 3))}{THIN}s"
    if seconds >= 3600:
        return f"{text} ({seconds / 3600:.3g}{THIN}h)"
    return f"{text} ({seconds / 60:.3g}{THIN}min)" if seconds >= 120 else text


def clock(seconds: float) -> tuple[float, str]:
    """Return the unit of an axis of that length: its seconds, and its name.

    >>> clock(30.0), clock(600.0)
    ((1.0, 'seconds'), (60.0, 'minutes'))
    """
    return (60.0, "minutes") if seconds >= 120 else (1.0, "seconds")


def unanswered(share: float | None) -> str:
    """Return what an infinite delay means: for a percentile, more requests unanswered than it leaves out.

    >>> unanswered(0.95).replace(THIN, " ")
    'more than 5 % unanswered'
    """
    return "unanswered" if share is None else f"more than {100 * (1 - share):.3g}{THIN}% unanswered"


def known(value: float | None, unit: str, why: str) -> Cell:
    """Return a number cell; a dash with the reason where the value is None or NaN."""
    if value is None or math.isnan(value):
        return missing(why)
    return Cell(text=quantity(value, unit) if math.isfinite(value) else UNBOUNDED, style="number")


def missing(why: str) -> Cell:
    """Return a dash with the reason for it."""
    return Cell(text=DASH, why=why or "not known", style="number")


def delay(value: float, share: float | None, why: str = "no request was answered") -> Cell:
    """Return a delay cell in seconds; +inf in words."""
    if math.isinf(value):
        return Cell(text=unanswered(share), style="words")
    return known(value, "s", why)


def _grouped(text: str) -> str:
    whole, dot, rest = text.partition(".")
    sign, digits = (MINUS, whole[1:]) if whole.startswith("-") else ("", whole)
    if len(digits) > 3:
        head = len(digits) % 3
        digits = THIN.join(part for part in (digits[:head], *_threes(digits[head:])) if part)
    return f"{sign}{digits}{dot}{rest}"


def _threes(digits: str) -> list[str]:
    return [digits[i : i + 3] for i in range(0, len(digits), 3)]


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"))

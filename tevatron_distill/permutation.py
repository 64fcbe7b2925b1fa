"""What can be done with an order of passages: check it, invert it, make it from scores, label it, fuse several."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tevatron_distill.schema import InputError, Permutation

RANK_TRANSFORMS = ("reciprocal", "linear")
FUSIONS = ("rrf", "borda")


def check_permutation(permutation: Sequence[object], num_passages: int) -> Permutation:
    """The order as a tuple, if it lists each of ``0..num_passages-1`` once.

    Args:
        permutation: 0-based positions, best first.
        num_passages: how many passages there are.

    Raises:
        InputError: if a position is missing, repeated, out of range or no integer.

    >>> check_permutation([2, 0, 1], 3)
    (2, 0, 1)
    """
    positions = tuple(place for place in permutation if isinstance(place, int) and not isinstance(place, bool))
    if len(positions) != len(permutation) or sorted(positions) != list(range(num_passages)):
        raise InputError(f"permutation must list each of 0..{num_passages - 1} once; got {list(permutation)}")
    return positions


def complete_permutation(positions: Sequence[int], num_passages: int) -> Permutation:
    """An order that names only its best passages, with the others appended in first-stage order.

    Raises:
        InputError: if a position is repeated or out of range.

    >>> complete_permutation([2], 4)
    (2, 0, 1, 3)
    """
    named = set(positions)
    rest = [position for position in range(num_passages) if position not in named]
    return check_permutation([*positions, *rest], num_passages)


def letters_of(place: int) -> str:
    """The letters that name a 0-based place, as columns of a table: A to Z, then AA, AB, …

    >>> letters_of(0), letters_of(25), letters_of(26), letters_of(701), letters_of(702)
    ('A', 'Z', 'AA', 'ZZ', 'AAA')
    """
    more, last = divmod(place, 26)
    return (letters_of(more - 1) if more else "") + chr(ord("A") + last)


def place_of(letters: str) -> int:
    """The 0-based place that capital letters name.

    >>> place_of("A"), place_of("Z"), place_of("AA"), place_of("ZZ")
    (0, 25, 26, 701)
    """
    place = 0
    for letter in letters:
        place = 26 * place + ord(letter) - ord("A") + 1
    return place - 1


def invert(permutation: Permutation) -> tuple[int, ...]:
    """The 0-based place of each position: ``invert(p)[p[place]] == place``.

    >>> invert((2, 0, 1))
    (1, 2, 0)
    """
    places = [0] * len(permutation)
    for place, position in enumerate(permutation):
        places[position] = place
    return tuple(places)


def from_scores(scores: Sequence[float]) -> Permutation:
    """Positions by falling score; equal scores keep their order.

    Raises:
        InputError: if a score is NaN.

    >>> from_scores([0.5, 2.0, 0.5])
    (1, 0, 2)
    """
    if any(math.isnan(score) for score in scores):
        raise InputError(f"scores must be numbers to be ordered; got {list(scores)}")
    return tuple(sorted(range(len(scores)), key=lambda position: -scores[position]))


def labels_from_ranks(ranks: Sequence[int], transform: str) -> tuple[float, ...]:
    """Training targets from ranks, higher is better, best = 1.0; equal ranks get equal labels.

    Args:
        ranks: 1-based rank of each passage.
        transform: ``reciprocal`` for ``1 / rank``, ``linear`` for ``(G - rank + 1) / G``.

    Raises:
        InputError: if ``transform`` is neither.

    Source:
        reciprocal: InstructDistill (Sun et al. 2023, arXiv 2311.01555).

    >>> labels_from_ranks([2, 1, 4, 4], "reciprocal")
    (0.5, 1.0, 0.25, 0.25)
    >>> labels_from_ranks([2, 1, 4, 4], "linear")
    (0.75, 1.0, 0.25, 0.25)
    """
    if transform == "reciprocal":
        return tuple(1.0 / rank for rank in ranks)
    if transform == "linear":
        return tuple((len(ranks) - rank + 1) / len(ranks) for rank in ranks)
    raise InputError(f"a rank becomes a label by one of {', '.join(RANK_TRANSFORMS)}; got {transform!r}")


def fuse(
    permutations: Sequence[Permutation],
    method: str = "rrf",
    *,
    num_ranked: Sequence[int] | None = None,
    constant: float = 60.0,
) -> Permutation:
    """One order from several; ties keep the first-stage order.

    Args:
        permutations: orders of the same passages.
        method: ``rrf`` sums ``1 / (constant + rank)`` (reciprocal rank fusion), ``borda`` sums how many passages stand
            behind.
        num_ranked: how many leading places of each order are ranked, the others being tied; None for all. A tied
            passage adds nothing to ``rrf``, and to ``borda`` the mean of the places that it shares.
        constant: of ``rrf``, added to each 1-based rank.

    Raises:
        InputError: if there is no order, they are not of the same passages, or ``method`` is unknown.

    Source:
        Cormack et al. 2009 (rrf); de Borda 1781; Tang et al. 2024, arXiv 2310.07712 (permutation self-consistency).

    >>> fuse([(2, 0, 1), (2, 1, 0), (0, 2, 1)])
    (2, 0, 1)
    >>> fuse([(0, 1, 2), (1, 2, 0)], "borda")
    (1, 0, 2)
    """
    return from_scores(fused_scores(permutations, method, num_ranked=num_ranked, constant=constant))


def fused_scores(
    permutations: Sequence[Permutation],
    method: str = "rrf",
    *,
    num_ranked: Sequence[int] | None = None,
    constant: float = 60.0,
) -> list[float]:
    """What `fuse` orders the passages by, a score a position, higher is better.

    Args and errors are those of `fuse`.

    >>> [round(score * 60 * 61, 6) for score in fused_scores([(0, 1), (0, 1)], constant=59)]
    [122.0, 120.0]
    """
    if not permutations:
        raise InputError("fusion needs at least one permutation; got none")
    if method not in FUSIONS:
        raise InputError(f"orders are fused by one of {', '.join(FUSIONS)}; got {method!r}")
    size = len(permutations[0])
    sums: list[list[float]] = [[] for _ in range(size)]
    for permutation, ranked in zip(permutations, num_ranked or [size] * len(permutations), strict=True):
        for place, position in enumerate(check_permutation(permutation, size)):
            if method == "borda":
                sums[position].append(size - 1 - place if place < ranked else (size - 1 - ranked) / 2)
            elif place < ranked:
                sums[position].append(1.0 / (constant + place + 1))
    return [math.fsum(points) for points in sums]

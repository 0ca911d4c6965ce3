"""A wide hidden layer fed through a narrow one: what the gate reads of an embedding, in fewer dimensions.

Embeddings of prompts vary in few directions that matter, so the first layer W1 (dimensions, H) is replaced by its best
product of two thin ones; the two together cost less than half of it.
"""

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]
PROMPTS_PER_DIMENSION = 8  # fewer say too little of how embeddings vary, and the layer stays as it is


def narrowed(arrays: Arrays, embedding: NDArray[np.float32], rank: int) -> Arrays:
    """Return the perceptron with a `projection` (dimensions, rank) in front, its first layer (rank, H) behind it.

    Of all products of this rank it is the one whose hidden layer, before the bend, is nearest to the wide one's in
    mean square over these prompts (Eckart and Young 1936, on the centred layer; the mean goes into the bias). No right
    answer is looked at. The projection is the identity where `rank` is not below the dimensions, or where there are
    fewer than 8 prompts per dimension kept.

    Args:
        arrays: hidden_weight (dimensions, H), hidden_bias (H,), output_weight (H, N), output_bias (N,).
        embedding: (n, dimensions) of the prompts.
        rank: dimensions kept.
    """
    wide = arrays["hidden_weight"].astype(np.float64)  # (dimensions, H)
    if rank >= len(wide) or len(embedding) < PROMPTS_PER_DIMENSION * rank:
        return {**arrays, "projection": np.eye(len(wide), dtype=np.float32)}
    mean = embedding.mean(axis=0, dtype=np.float64)
    hidden = (embedding - mean) @ wide  # (n, H)
    basis = np.linalg.eigh(hidden.T @ hidden)[1][:, -rank:]  # (H, rank)
    projection = wide @ basis  # (dimensions, rank)
    lost = mean @ wide - (mean @ projection) @ basis.T  # (H,)
    return {
        **arrays,
        "projection": projection.astype(np.float32),
        "hidden_weight": np.ascontiguousarray(basis.T, dtype=np.float32),
        "hidden_bias": arrays["hidden_bias"] + lost.astype(np.float32),
    }

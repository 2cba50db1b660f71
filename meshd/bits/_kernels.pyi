"""Types of the compiled module. Outputs are the caller's; see meshd.bits.ops for the contracts."""

from meshd.bits.layout import Floats, Words

def pack_signed(x: Floats, beta: int, out_words: Words, out_scales: Floats, /) -> None: ...
def pack_unipolar(x: Floats, beta: int, out_words: Words, out_scales: Floats, /) -> None: ...
def unpack_signed(words: Words, scales: Floats, beta: int, k: int, out: Floats, /) -> None: ...
def unpack_unipolar(words: Words, scales: Floats, beta: int, k: int, out: Floats, /) -> None: ...
def product_signed(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    out: Floats,
    /,
) -> None: ...
def product_unipolar(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    out: Floats,
    /,
) -> None: ...
def carry_binarize(
    grad: Floats,
    carried: Floats,
    weight: float,
    gamma: int,
    out_bits: Words,
    out_means: Floats,
    /,
) -> None: ...
def carry_settle(carried: Floats, bits: Words, scale: Floats, gamma: int, /) -> None: ...
def planes_add(planes: Words, bits: Words, /) -> None: ...
def apply_votes(
    planes: Words, members: int, scale: Floats, gamma: int, n: int, out: Floats, /
) -> None: ...
def isa() -> str: ...
def list_isas() -> list[str]: ...
def use_isa(name: str, /) -> None: ...

"""Types of the compiled module. Outputs are the caller's; see meshd.bits.ops for the contracts."""

from meshd.bits.layout import Floats, Words
from meshd.bits.product import Units

def pack_signed(x: Floats, beta: int, out_words: Words, out_scales: Floats, /) -> None: ...
def pack_unipolar(x: Floats, beta: int, out_words: Words, out_scales: Floats, /) -> None: ...
def segment_means(x: Floats, beta: int, out: Floats, /) -> None: ...
def unpack_signed(words: Words, scales: Floats, beta: int, k: int, out: Floats, /) -> None: ...
def unpack_unipolar(words: Words, scales: Floats, beta: int, k: int, out: Floats, /) -> None: ...
def backward_exact(
    g: Floats,
    transposed: bool,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    unipolar: bool,
    keep: Words | None,
    threads: int,
    out: Floats,
    /,
) -> None: ...
def backward_int8(
    g: Floats,
    transposed: bool,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    unipolar: bool,
    keep: Words | None,
    threads: int,
    out: Floats,
    seed: int,
    /,
) -> None: ...
def backward_planes(
    g: Floats,
    transposed: bool,
    words: Words,
    scales: Floats,
    beta: int,
    k: int,
    unipolar: bool,
    keep: Words | None,
    threads: int,
    out: Floats,
    planes: int,
    seed: int,
    /,
) -> None: ...
def product_floats(
    x: Floats,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    threads: int,
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
def feedback_binarize(
    grad: Floats,
    carried: Floats,
    weight: float,
    scale: Floats,
    gamma: int,
    out_bits: Words,
    out_means: Floats,
    /,
) -> None: ...
def planes_add(planes: Words, bits: Words, /) -> None: ...
def planes_add_many(planes: Words, bits: Words, /) -> None: ...
def planes_sum(planes: Words, other: Words, /) -> None: ...
def apply_votes(
    planes: Words, members: int, scale: Floats, gamma: int, n: int, out: Floats, /
) -> None: ...
def votes_sgd(
    planes: Words,
    members: int,
    scale: Floats,
    gamma: int,
    velocity: Floats,
    momentum: float,
    rate: float,
    latents: Floats,
    cut: float | None,
    beta: int,
    out_words: Words,
    out_scales: Floats,
    /,
) -> None: ...
def votes_sgd_dense(
    planes: Words,
    members: int,
    scale: Floats,
    gamma: int,
    velocity: Floats,
    momentum: float,
    rate: float,
    latents: Floats,
    /,
) -> None: ...
def votes_adam(
    planes: Words,
    members: int,
    scale: Floats,
    gamma: int,
    first: Floats,
    second: Floats,
    decay_1: float,
    decay_2: float,
    epsilon: float,
    second_scale: float,
    rate: float,
    latents: Floats,
    cut: float | None,
    beta: int,
    out_words: Words,
    out_scales: Floats,
    /,
) -> None: ...
def votes_adam_dense(
    planes: Words,
    members: int,
    scale: Floats,
    gamma: int,
    first: Floats,
    second: Floats,
    decay_1: float,
    decay_2: float,
    epsilon: float,
    second_scale: float,
    rate: float,
    latents: Floats,
    /,
) -> None: ...
def isa() -> str: ...
def list_isas() -> list[str]: ...
def use_isa(name: str, /) -> None: ...
def product_signed(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    bias: Floats | None,
    panels: Units | None,
    panels_isa: str | None,
    threads: int,
    out: Floats,
    /,
) -> None: ...
def prepare_signed(
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    beta_a: int,
    k: int,
    threads: int,
    panels: Units,
    /,
) -> str: ...
def panel_units_signed(rows: int, beta_w: int, beta_a: int, k: int, /) -> int: ...
def product_unipolar(
    a_words: Words,
    a_scales: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    k: int,
    bias: Floats | None,
    panels: Units | None,
    panels_isa: str | None,
    threads: int,
    out: Floats,
    /,
) -> None: ...
def prepare_unipolar(
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    beta_a: int,
    k: int,
    threads: int,
    panels: Units,
    /,
) -> str: ...
def panel_units_unipolar(rows: int, beta_w: int, beta_a: int, k: int, /) -> int: ...
def binarized_product_signed(
    x: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None,
    panels: Units | None,
    panels_isa: str | None,
    threads: int,
    cut: float | None,
    out_kept: Words | None,
    out_words: Words,
    out_scales: Floats,
    out: Floats,
    /,
) -> None: ...
def binarized_product_unipolar(
    x: Floats,
    beta_a: int,
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None,
    panels: Units | None,
    panels_isa: str | None,
    threads: int,
    cut: float | None,
    out_kept: Words | None,
    out_words: Words,
    out_scales: Floats,
    out: Floats,
    /,
) -> None: ...
def conv2d_signed(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: tuple[int, ...],
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None,
    panels: Units | None,
    panels_isa: str | None,
    threads: int,
    out: Floats,
    /,
) -> None: ...
def prepare_conv2d_signed(
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    beta_a: int,
    shape: tuple[int, ...],
    threads: int,
    panels: Units,
    /,
) -> str: ...
def conv2d_panel_units_signed(
    filters: int, beta_w: int, beta_a: int, shape: tuple[int, ...], /
) -> int: ...
def conv2d_unipolar(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: tuple[int, ...],
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    bias: Floats | None,
    panels: Units | None,
    panels_isa: str | None,
    threads: int,
    out: Floats,
    /,
) -> None: ...
def prepare_conv2d_unipolar(
    w_words: Words,
    w_scales: Floats,
    beta_w: int,
    beta_a: int,
    shape: tuple[int, ...],
    threads: int,
    panels: Units,
    /,
) -> str: ...
def conv2d_panel_units_unipolar(
    filters: int, beta_w: int, beta_a: int, shape: tuple[int, ...], /
) -> int: ...
def conv2d_out_size(shape: tuple[int, ...], /) -> tuple[int, int]: ...
def im2col(
    x_words: Words,
    x_scales: Floats,
    beta_a: int,
    shape: tuple[int, ...],
    threads: int,
    out_words: Words,
    out_scales: Floats,
    /,
) -> None: ...
def within(x: Floats, cut: float, out: Words, /) -> None: ...

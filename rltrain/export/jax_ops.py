"""The operators of torch's graphs as expressions in JAX."""

from __future__ import annotations

from collections.abc import Callable

HELPERS = '''
def _cast(x, dtype):
    """float64 and int64 are float32 and int32 unless JAX was told to use 64 bits."""
    return jnp.asarray(x).astype(jax.dtypes.canonicalize_dtype(dtype))


def _full(shape, value, dtype=None):
    """An array of one value."""
    dtype = type(value) if dtype is None else dtype
    return jnp.full(shape, value, jax.dtypes.canonicalize_dtype({float: "float32"}.get(dtype, dtype)))


def _expanded(x, shape):
    """The shape that an array is spread to, where -1 stands for a side as it is."""
    own = (1,) * (len(shape) - x.ndim) + x.shape
    return tuple(have if side == -1 else side for side, have in zip(shape, own))


def _slice(x, axis, start, end, step):
    """A part along one axis."""
    return x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]


def _split(x, sizes, axis):
    """Parts one after another along an axis."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return jnp.split(x, ends[:-1], axis)


def _scatter(x, axis, index, source):
    """x with the numbers of source where index says along an axis."""
    grid = list(jnp.indices(index.shape, sparse=True))
    grid[axis % x.ndim] = index
    part = source if jnp.ndim(source) == 0 else source[tuple(slice(0, side) for side in index.shape)]
    return x.at[tuple(grid)].set(part)


def _layer_norm(x, sides, weight, bias, epsilon):
    """Mean 0 and variance 1 over the last axes."""
    axes = tuple(range(-len(sides), 0))
    y = (x - x.mean(axes, keepdims=True)) * jax.lax.rsqrt(x.var(axes, keepdims=True) + epsilon)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _batch_norm(x, weight, bias, mean, variance, epsilon):
    """Mean 0 and variance 1 by running statistics of the second axis."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    y = (x - mean.reshape(shape)) * jax.lax.rsqrt(variance.reshape(shape) + epsilon)
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _convolution(x, weight, bias, stride, padding, dilation, groups):
    """A convolution, channels first."""
    sides = [(side, side) for side in padding]
    y = jax.lax.conv_general_dilated(
        x, weight, stride, sides, rhs_dilation=dilation, feature_group_count=groups, precision="highest"
    )
    return y if bias is None else y + bias.reshape((1, -1) + (1,) * (y.ndim - 2))


def _matmul(x, y):
    """A matrix product in full precision, also on accelerators."""
    return jnp.matmul(x, y, precision="highest")
'''
"""What the expressions use, as it stands in every file."""


def binary(sign: str) -> Callable[..., str]:
    """An operator between two arrays or numbers."""
    return lambda x, y: f"{x} {sign} {y}"


def scaled(sign: str) -> Callable[..., str]:
    """A sum or difference with a factor at the second part."""
    return lambda x, y, alpha="1": f"{x} {sign} {y}" if alpha == "1" else f"{x} {sign} {alpha} * {y}"


def call(name: str, numbers: int = 1) -> Callable[..., str]:
    """A function of the first arguments; the others, such as memory formats, change no numbers."""
    return lambda *args, **_: f"{name}({', '.join(args[:numbers])})"


def over(name: str) -> Callable[..., str]:
    """A reduction over one or several axes."""

    def write(x: str, axes: str = "None", keep: str = "False", **_: str) -> str:
        axes = f"tuple({axes})" if axes.startswith("[") else axes
        return f"{name}({x}, {axes}, keepdims={keep})"

    return write


def same(x: str, *_: str, **__: str) -> str:
    """The array itself."""
    return x


def clamp(x: str, low: str = "None", high: str = "None", **named: str) -> str:
    """An array within bounds."""
    return f"jnp.clip({x}, {named.get('min', low)}, {named.get('max', high)})"


def cast(x: str, dtype: str = "None", **named: str) -> str:
    """An array of another type, if one is given."""
    dtype = named.get("dtype", dtype)
    return x if dtype == "None" else f"_cast({x}, {dtype})"


def full(shape: str, value: str, dtype: str = "None", **_: str) -> str:
    """An array of one value."""
    return f"_full({shape}, {value}, {dtype})"


def filled(value: str) -> Callable[..., str]:
    """An array of one value that the name of the operator says."""
    return lambda shape, dtype="None", **_: f"_full({shape}, {value}, {dtype})"


def full_like(x: str, value: str, dtype: str = "None", **_: str) -> str:
    """An array of one value with the shape of another."""
    kind = f"{x}.dtype" if dtype == "None" else f"jax.dtypes.canonicalize_dtype({dtype})"
    return f"jnp.full({x}.shape, {value}, {kind})"


def sliced(x: str, axis: str = "0", start: str = "None", end: str = "None", step: str = "1") -> str:
    """A part along an axis."""
    return f"_slice({x}, {axis}, {start}, {end}, {step})"


def linear(x: str, weight: str, bias: str = "None") -> str:
    """A linear layer."""
    product = f"_matmul({x}, {weight}.T)"
    return product if bias == "None" else f"{product} + {bias}"


def convolution(x: str, weight: str, bias: str, stride: str, padding: str, dilation: str, *rest: str) -> str:
    """A convolution; transposed ones are not supported."""
    if rest[0] != "False":
        raise KeyError("a transposed convolution")
    return f"_convolution({x}, {weight}, {bias}, {stride}, {padding}, {dilation}, {rest[2]})"


def layer_norm(x: str, sides: str, weight: str = "None", bias: str = "None", epsilon: str = "1e-05", *_: str) -> str:
    """Layer normalisation, the first of the three results of torch's operator."""
    return f"(_layer_norm({x}, {sides}, {weight}, {bias}, {epsilon}),)"


def batch_norm(x: str, weight: str, bias: str, mean: str, variance: str, _: str, epsilon: str) -> str:
    """Batch normalisation by running statistics, the first of the three results of torch's operator."""
    return f"(_batch_norm({x}, {weight}, {bias}, {mean}, {variance}, {epsilon}),)"


def squeeze(x: str, axes: str) -> str:
    """An array without axes of one entry."""
    return f"jnp.squeeze({x}, {f'tuple({axes})' if axes.startswith('[') else axes})"


def elu(x: str, alpha: str = "1.0", scale: str = "1.0", inner: str = "1.0") -> str:
    """The exponential linear unit, and the scaled one."""
    return f"{scale} * jnp.where({x} > 0, {x}, {alpha} * jnp.expm1({inner} * jnp.minimum({x}, 0.0)))"


def gelu(x: str, approximate: str = "'none'") -> str:
    """The Gaussian error linear unit."""
    return f"jax.nn.gelu({x}, approximate={approximate != repr('none')})"


UNARY = {
    **{name: f"jnp.{name}" for name in ("tanh", "exp", "log", "log1p", "expm1", "abs", "sqrt", "sign", "round")},
    **{name: f"jnp.{name}" for name in ("sin", "cos", "floor", "ceil", "isnan", "logical_not", "square", "reciprocal")},
    **{"sigmoid": "jax.nn.sigmoid", "relu": "jax.nn.relu", "rsqrt": "jax.lax.rsqrt", "bitwise_not": "jnp.invert"},
    **{"neg": "jnp.negative", "erf": "jax.scipy.special.erf", "softplus": "jax.nn.softplus"},
}
BETWEEN = {"mul": "*", "div": "/", "eq": "==", "ne": "!=", "gt": ">", "lt": "<", "ge": ">=", "le": "<=", "pow": "**"}
TWO = ("maximum", "minimum", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor")
SAME = ("clone", "alias", "detach", "lift_fresh_copy", "contiguous", "dropout")
RESHAPE = ("view", "reshape", "_unsafe_view", "_reshape_alias")

OPS: dict[str, Callable[..., str]] = {
    **{name: call(function) for name, function in UNARY.items()},
    **{name: binary(sign) for name, sign in BETWEEN.items()},
    **{name: call(f"jnp.{name}", 2) for name in TWO},
    **dict.fromkeys(SAME, same),
    **dict.fromkeys(RESHAPE, call("jnp.reshape", 2)),
    **{"add": scaled("+"), "sub": scaled("-"), "rsub": lambda x, y, alpha="1": f"{y} - {alpha} * {x}"},
    **{"sum": over("jnp.sum"), "mean": over("jnp.mean"), "amax": over("jnp.max"), "amin": over("jnp.min")},
    **{"any": over("jnp.any"), "all": over("jnp.all"), "argmax": over("jnp.argmax"), "argmin": over("jnp.argmin")},
    **{"clamp": clamp, "_to_copy": cast, "to": cast, "full": full, "full_like": full_like, "slice": sliced},
    **{"zeros": filled("0.0"), "ones": filled("1.0"), "scalar_tensor": lambda x, **k: full("()", x, **k)},
    **{"linear": linear, "convolution": convolution, "native_layer_norm": layer_norm, "squeeze": squeeze},
    **{"_native_batch_norm_legit_no_training": batch_norm, "elu": elu, "gelu": gelu},
    "where": lambda c, x, y: f"jnp.where({c}, {x}, {y})",
    "mm": call("_matmul", 2),
    "bmm": call("_matmul", 2),
    "matmul": call("_matmul", 2),
    "addmm": lambda bias, x, y: f"{bias} + _matmul({x}, {y})",
    "permute": call("jnp.transpose", 2),
    "transpose": call("jnp.swapaxes", 3),
    "t": lambda x: f"{x}.T",
    "expand": lambda x, shape, **_: f"jnp.broadcast_to({x}, _expanded({x}, {shape}))",
    "unsqueeze": call("jnp.expand_dims", 2),
    "cat": lambda parts, axis="0": f"jnp.concatenate({parts}, {axis})",
    "stack": lambda parts, axis="0": f"jnp.stack({parts}, {axis})",
    "select": lambda x, axis, index: f"jnp.take({x}, {index}, {axis})",
    "split_with_sizes": lambda x, sizes, axis="0": f"_split({x}, {sizes}, {axis})",
    "scatter": call("_scatter", 4),
    "gather": lambda x, axis, index, **_: f"jnp.take_along_axis({x}, {index}, {axis})",
    "max": lambda x, axis, keep="False": (
        f"(jnp.max({x}, {axis}, keepdims={keep}), jnp.argmax({x}, {axis}, keepdims={keep}))"
    ),
    "_softmax": lambda x, axis, _="False": f"jax.nn.softmax({x}, {axis})",
    "_log_softmax": lambda x, axis, _="False": f"jax.nn.log_softmax({x}, {axis})",
    "leaky_relu": lambda x, slope="0.01": f"jax.nn.leaky_relu({x}, {slope})",
    "sym_size": lambda x, axis: f"{x}.shape[{axis}]",
    "arange": lambda *args, **_: f"jnp.arange({', '.join(args)})",
}
"""By the name of an operator of ATen: from its arguments as expressions to the expression."""

SKIPPED = (
    "_assert_tensor_metadata",
    "_assert_scalar",
    "_assert_async",
    "sym_constrain_range_for_size",
    "sym_constrain_range",
)
"""Operators that check and compute nothing."""

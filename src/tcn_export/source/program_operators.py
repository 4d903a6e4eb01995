"""Which operators a program may call: those of an inference, from a list, and nothing else.

PyTorch has some two thousand, and many trust their arguments: a forged index or size makes
them read and write beyond their tensors. Those listed here look at their arguments themselves;
for the few that do not, `check_arguments` does.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

import torch

_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
_ELEMENTWISE = {
    "abs", "acos", "acosh", "add", "addcdiv", "addcmul", "asin", "asinh", "atan", "atan2",
    "atanh", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor", "ceil", "celu",
    "clamp", "clamp_max", "clamp_min", "clip", "cos", "cosh", "div", "divide", "elu", "eq",
    "erf", "exp", "exp2", "expm1", "floor", "floor_divide", "fmod", "frac", "ge", "gelu",
    "greater", "gt", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "isfinite", "isinf",
    "isnan", "le", "leaky_relu", "lerp", "less", "log", "log10", "log1p", "log2",
    "log_sigmoid", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor",
    "logit", "lt", "masked_fill", "maximum", "minimum", "mish", "mul", "multiply",
    "nan_to_num", "ne", "neg", "negative", "pow", "prelu", "reciprocal", "relu", "relu6",
    "remainder", "round", "rsqrt", "rsub", "selu", "sgn", "sigmoid", "sign", "silu", "sin",
    "sinc", "sinh", "softplus", "softshrink", "sqrt", "square", "sub", "subtract", "tan",
    "tanh", "threshold", "true_divide", "trunc", "where", "xlogy",
}  # fmt: skip
_REDUCTIONS = {
    "all", "amax", "amin", "any", "argmax", "argmin", "count_nonzero", "cummax", "cumprod",
    "cumsum", "linalg_vector_norm", "log_softmax", "_log_softmax", "logcumsumexp", "logsumexp",
    "max", "mean", "median", "min", "norm", "norm_except_dim", "prod", "softmax", "_softmax",
    "_safe_softmax", "sort", "std", "std_mean", "sum", "topk", "var", "var_mean",
}  # fmt: skip
_LAYERS = {
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "addbmm", "addmm", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "baddbmm", "batch_norm", "bmm", "constant_pad_nd", "conv1d",
    "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "convolution", "_convolution",
    "dot", "dropout", "einsum", "embedding", "feature_dropout", "glu", "group_norm",
    "instance_norm", "layer_norm", "linear", "matmul", "max_pool1d", "max_pool1d_with_indices",
    "max_pool2d", "max_pool2d_with_indices", "mm", "mv", "native_group_norm",
    "native_layer_norm", "_native_batch_norm_legit_no_training", "outer", "pad",
    "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d", "reflection_pad2d",
    "replication_pad1d", "replication_pad2d", "rms_norm", "scaled_dot_product_attention",
    "tensordot", "_weight_norm", "_weight_norm_interface",
}  # fmt: skip
_SHAPES = {
    "alias", "atleast_1d", "broadcast_tensors", "broadcast_to", "cat", "channel_shuffle",
    "chunk", "clone", "column_stack", "concat", "concatenate", "contiguous", "copy", "detach",
    "diagonal", "diff", "expand", "expand_as", "flatten", "flip", "fliplr", "flipud", "gather",
    "hstack", "index", "index_select", "lift_fresh_copy", "masked_select", "meshgrid",
    "moveaxis", "movedim", "narrow", "numpy_T", "permute", "ravel", "repeat",
    "repeat_interleave", "reshape", "reshape_as", "resolve_conj", "resolve_neg", "roll",
    "select", "select_scatter", "slice", "slice_scatter", "split", "split_with_sizes",
    "squeeze", "stack", "swapaxes", "swapdims", "sym_numel", "sym_size", "t", "take_along_dim",
    "tensor_split", "tile", "to", "_to_copy", "transpose", "tril", "triu", "type_as", "unbind",
    "unflatten", "unfold", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes",
    "_unsafe_view", "unsqueeze", "view", "view_as", "vstack",
}  # fmt: skip
_MADE = {
    "arange", "eye", "full", "full_like", "hamming_window", "hann_window", "linspace",
    "new_full", "new_ones", "new_zeros", "ones", "ones_like", "scalar_tensor", "zeros",
    "zeros_like",
}  # fmt: skip
_SPECTRA = {
    "angle", "complex", "conj", "fft_fft", "fft_fftshift", "fft_ifft", "fft_ifftshift",
    "fft_irfft", "fft_rfft", "imag", "real", "stft", "view_as_complex", "view_as_real",
}  # fmt: skip
_ALLOWED = _ELEMENTWISE | _REDUCTIONS | _LAYERS | _SHAPES | _MADE | _SPECTRA
_RESIZING = {
    "upsample_bicubic2d", "upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d",
    "upsample_nearest2d",
}  # fmt: skip
"""Only as ``vec``: the others take scales that contradict the sizes, and believe both."""
_IN_PLACE = {
    "add_", "clamp_", "clamp_max_", "clamp_min_", "copy_", "div_", "dropout_", "elu_", "exp_",
    "feature_dropout_", "fill_", "hardsigmoid_", "hardswish_", "hardtanh_", "leaky_relu_",
    "masked_fill_", "mish_", "mul_", "neg_", "relu6_", "relu_", "selu_", "sigmoid_", "silu_",
    "sqrt_", "sub_", "tanh_", "zero_",
}  # fmt: skip
"""What ``nn.ReLU(inplace=True)``, ``x += y`` and ``x[:, 0] = 0`` are exported to. They look at
overlaps themselves; who writes into a weight is found by `Probe`."""
_NOT_AS = {"view.dtype"}
"""Numbers that are read as those of another type."""
_RECURRENT = re.compile(r"(quantized_)?(lstm|gru|rnn_tanh|rnn_relu)(_cell)?|_thnn_\w+")
_CHANCE = re.compile(r"(rand|bernoulli|multinomial|normal|poisson|native_dropout)\w*")
_CHECKS = re.compile(
    r"torch\.ops\.aten\.(_assert_\w+|_functional_assert_\w+|sym_constrain_range\w*"
    r"|_functional_sym_constrain_range\w*)\.\w+"
)
_NUMBERS: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in (
            "add", "sub", "mul", "floordiv", "truediv", "mod", "neg",
            "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_", "not_",
        )
    },
    **{
        f"torch.{name}": getattr(torch, name)
        for name in ("sym_float", "sym_int", "sym_max", "sym_min", "sym_not")
    },
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc")},
}  # fmt: skip


def is_check(target: str) -> bool:
    """Whether an operator only asserts; what it asserts is looked at otherwise."""
    return _CHECKS.fullmatch(target) is not None


def is_aten(target: str) -> bool:
    """Whether the arguments of an operator have names."""
    return _ATEN.fullmatch(target) is not None


def find_operator(target: str) -> Callable[..., Any] | None:
    """Look an operator up by the name that a program calls it by.

    >>> find_operator("_operator.add")(2, 3)
    5
    >>> find_operator("torch.ops.aten.from_file.default") is None
    True
    """
    if target in _NUMBERS:
        return _NUMBERS[target]
    match = _ATEN.fullmatch(target)
    if match is None:
        return None
    name, overload = match.groups()
    is_listed = (
        name in _ALLOWED or name in _IN_PLACE or (name in _RESIZING and overload == "vec")
    )
    if not is_listed or f"{name}.{overload}" in _NOT_AS:
        return None
    found = getattr(getattr(torch.ops.aten, name, None), overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        return None
    if found._schema.is_mutable and name not in _IN_PLACE:
        return None  # it writes into an `out` of the caller's
    return found


def why_not(target: object) -> str:
    """Why an operator is not taken, and what to do, as the end of a sentence."""
    match = _ATEN.fullmatch(str(target))
    if match and _RECURRENT.fullmatch(match[1]):
        return (
            "which trusts the sizes of its states and corrupts memory where they do not fit. "
            "Export this network by --factory, or as ONNX."
        )
    if match and _CHANCE.fullmatch(match[1]):
        return (
            "which draws random numbers. Call model.eval() before torch.export.export, and "
            "leave chance out of forward."
        )
    return (
        "which is none of the operators that are taken from a program. Leave control flow and "
        "modes out of forward (torch.no_grad among them), or export this network by "
        "--factory, or as ONNX."
    )

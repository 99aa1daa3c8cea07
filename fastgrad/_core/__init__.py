"""The compiled core: storage, tensors, autograd, ops. This page is the list of what it offers.

A row of FUNCTIONS names the functions of a module that are `fastgrad.name`; a row of METHODS those that are
`Tensor.name` (`name=function` where the two are called differently). Adding an op means adding its name here.
"""

from importlib import import_module
from importlib.util import find_spec

if find_spec("fastgrad._core.tensor") is None:
    raise ImportError(
        f"[fastgrad] the compiled core must be beside {__file__}, a source tree that has not been built and that hides "
        "a fastgrad installed elsewhere; run `pip install -e .` in it, or start Python from another folder"
    )

from fastgrad._core import tensor as _tensor
from fastgrad._core.tensor import Size, Tensor, device, dtype, get_default_dtype, layout, set_default_dtype, strided

FUNCTIONS = {
    "storage": "memory_stats reset_peak_memory empty_cache",
    "launch": "observe show_config set_num_threads get_num_threads",
    "autograd": """
        no_grad enable_grad set_grad_enabled inference_mode is_grad_enabled is_inference_mode_enabled""",
    "function": "Function",
    "ops.unary": """
        abs neg sign sqrt rsqrt reciprocal square exp expm1 log log1p sin cos tanh sigmoid erf floor ceil round trunc
        relu abs_ neg_ sign_ sqrt_ rsqrt_ reciprocal_ square_ exp_ expm1_ log_ log1p_ sin_ cos_ tanh_ sigmoid_ erf_
        floor_ ceil_ round_ trunc_ relu_""",
    "ops.arithmetic": "add sub rsub mul div pow maximum minimum floor_divide remainder fmod addcmul addcdiv lerp",
    "ops.comparison": """
        eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
        bitwise_not isnan isinf isfinite isclose allclose equal""",
    "ops.selection": "where masked_fill clamp clamp_ clamp_min clamp_max",
    "ops.copying": "clone",
    "ops.operands": "result_type promote_types",
    "ops.shape": """
        reshape flatten unflatten squeeze unsqueeze transpose t permute movedim broadcast_to detach as_strided cat stack
        split chunk unbind flip broadcast_tensors broadcast_shapes""",
    "ops.indexing": "select narrow index_select gather scatter scatter_add index_add masked_select nonzero",
    "ops.reduce": "sum mean prod any all amax amin max min argmax argmin norm var std logsumexp cumsum count_nonzero",
    "ops.linalg": "matmul mm bmm mv dot outer addmm addmv baddbmm",
    "ops.loss": "softmax log_softmax",
    "ops.random": """
        Generator default_generator manual_seed seed initial_seed get_rng_state set_rng_state rand randn randint
        randperm rand_like randn_like normal bernoulli""",
    "ops.creation": """
        tensor as_tensor from_numpy frombuffer from_dlpack empty zeros ones full empty_like zeros_like ones_like
        full_like arange linspace eye is_tensor is_floating_point numel=numel_of""",
}

# What nn, optim and the tests of kernels use and PyTorch does not have at its top level.
FUSED = {
    "ops.linalg": "linear",
    "ops.indexing": "embedding",
    "ops.loss": "cross_entropy cross_entropy_composite",
    "ops.random": "dropout",
    "ops.rnn": "recurrent_layer recurrent_cell recurrent_composite",
    "launch": "launch_kernel",
    "module": "ModuleBase call_in_turn",
    "ops.optim": "sgd_step adam_step has_grads clear_grads grad_norm scale_grads",
}

METHODS = {
    "autograd": "backward=tensor_backward register_hook register_post_accumulate_grad_hook retain_grad",
    "ops.unary": """
        abs neg sign sqrt rsqrt reciprocal square exp expm1 log log1p sin cos tanh sigmoid erf floor ceil round trunc
        relu abs_ neg_ sign_ sqrt_ rsqrt_ reciprocal_ square_ exp_ expm1_ log_ log1p_ sin_ cos_ tanh_ sigmoid_ erf_
        floor_ ceil_ round_ trunc_ relu_""",
    "ops.arithmetic": """
        add sub rsub mul div pow add_ sub_ mul_ div_ pow_ maximum minimum floor_divide remainder fmod addcmul addcdiv
        addcmul_ addcdiv_ lerp lerp_""",
    "ops.comparison": """
        eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor
        bitwise_not isnan isinf isfinite isclose allclose equal""",
    "ops.selection": "where=tensor_where masked_fill masked_fill_ clamp clamp_ clamp_min clamp_max",
    "ops.copying": """
        clone copy_ contiguous=contiguous_tensor to type=type_ type_as float=to_float double=to_double long=to_long
        int=to_int bool=to_bool byte=to_byte""",
    "ops.shape": """
        view reshape view_as reshape_as flatten unflatten squeeze unsqueeze transpose t permute movedim expand expand_as
        broadcast_to detach detach_ as_strided split chunk unbind repeat flip""",
    "ops.indexing": """
        select narrow index_select gather scatter scatter_add scatter_ scatter_add_ index_add index_add_ index_put_
        masked_select nonzero""",
    "ops.reduce": "sum mean prod any all amax amin max min argmax argmin norm var std logsumexp cumsum count_nonzero",
    "ops.linalg": "matmul mm bmm mv dot outer addmm addmv baddbmm",
    "ops.loss": "softmax log_softmax",
    "ops.random": "uniform_ normal_ exponential_ random_ bernoulli_ bernoulli",
    "ops.creation": "new_tensor=new_tensor_of new_zeros new_ones new_empty new_full fill_ zero_",
}

float32, float64, int64, int32, uint8, bool = (
    _tensor.float32, _tensor.float64, _tensor.int64, _tensor.int32, _tensor.uint8, _tensor.bool_,
)  # fmt: skip
float, double, long, int = float32, float64, int64, int32


def _named(table):
    """{public name: function} of a table."""
    return {
        name: getattr(import_module(f"fastgrad._core.{module}"), function or name)
        for module, names in table.items()
        for name, _, function in (entry.partition("=") for entry in names.split())
    }


functions = _named(FUNCTIONS)
globals().update(functions)
globals().update(_named(FUSED))
_shape, _autograd = import_module("fastgrad._core.ops.shape"), import_module("fastgrad._core.autograd")
_tensor.add_methods(
    _named(METHODS)
    | {
        "T": property(_shape.adjoint_view),
        "mT": property(_shape.matrix_transpose),
        "retains_grad": property(_autograd.retains_grad),
        "multiply": functions["mul"],
        "divide": functions["div"],
    }
)

__all__ = [
    "Size", "Tensor", "bool", "device", "double", "dtype", "float", "float32", "float64", "get_default_dtype", "int",
    "int32", "int64", "layout", "long", "set_default_dtype", "strided", "uint8", *sorted(functions),
]  # fmt: skip

"""Memory for time: a checkpointed function keeps its inputs alone, and is run again when the backward comes to it.

T. Chen, B. Xu, C. Zhang, C. Guestrin, "Training deep nets with sublinear memory cost", 2016, arXiv:1604.06174. The
names are those of torch.utils.checkpoint.
"""

from __future__ import annotations

import contextlib
import traceback
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from fastgrad import _core
from fastgrad._core import Tensor
from fastgrad._core.autograd import backward, enable_grad, has_whole_backward, is_grad_enabled
from fastgrad._core.function import once_differentiable
from fastgrad.autograd import Function
from fastgrad.autograd.graph import saved_tensors_hooks

__all__ = [
    "CheckpointError", "CheckpointFunction", "check_backward_validity", "checkpoint", "checkpoint_sequential",
    "noop_context_fn", "set_checkpoint_debug_enabled", "set_checkpoint_early_stop",
]  # fmt: skip

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]

_early_stop: bool | None = None
_debug: bool | None = None


class CheckpointError(RuntimeError):
    """A checkpointed function did not save the same tensors when it was run again."""


def noop_context_fn() -> Contexts:
    """Two contexts that do nothing: the default of `checkpoint`'s `context_fn`."""
    return contextlib.nullcontext(), contextlib.nullcontext()


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """For the calls of `checkpoint` inside, overrides their `early_stop`."""
    global _early_stop
    before, _early_stop = _early_stop, enable
    try:
        yield
    finally:
        _early_stop = before


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """For the calls of `checkpoint` inside, overrides their `debug`; None leaves it to them."""
    global _debug
    before, _debug = _debug, enabled
    try:
        yield
    finally:
        _debug = before


@contextlib.contextmanager
def _random_numbers_from(state: Tensor | None) -> Iterator[None]:
    """Inside, the default generator goes on from `state`; afterwards from where it was."""
    if state is None:
        yield
        return
    outer = _core.get_rng_state()
    _core.set_rng_state(state)
    try:
        yield
    finally:
        _core.set_rng_state(outer)


class _SavedInputs(Function):
    """Its Node keeps the inputs of a call as an op's would: through the hooks around it, with their version numbers."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return _core.empty(0)


class _Arguments:
    """The arguments of a call, its tensors kept by the Node of `_SavedInputs`."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        values = [*args, *kwargs.values()]
        tensors = {k: value for k, value in enumerate(values) if isinstance(value, Tensor)}
        self.others = [None if k in tensors else value for k, value in enumerate(values)]
        self.places, self.names = list(tensors), list(kwargs)
        self.node: Any = _SavedInputs.apply(_core.empty(0, requires_grad=True), *tensors.values()).grad_fn

    def given_to(self, function: Callable[..., Any]) -> Any:
        values = list(self.others)
        for place, tensor in zip(self.places, self.node.saved_tensors, strict=True):
            values[place] = tensor
        positional = len(values) - len(self.names)
        return function(*values[:positional], **dict(zip(self.names, values[positional:], strict=True)))


class _Holder:
    """What the graph keeps in place of one saved tensor."""

    __slots__ = ("__weakref__",)


class _Stop(BaseException):
    """All tensors that the first run saved are there again. Not an Exception, which the function might catch."""


def _shape_dtype_device(x: Tensor) -> tuple[Any, ...]:
    return tuple(x.shape), x.dtype, x.device


_DETERMINISM_CHECKS: dict[str, Callable[[Tensor], Any]] = {"default": _shape_dtype_device, "none": lambda x: None}


class _Frame:
    """One checkpointed call. Its two methods `pack` and `unpack` are the hooks under which the function runs first.

    The graph gets an empty holder for each tensor that is saved. When the backward asks for the content of one, the
    function runs again and what it saves is noted beside the holders, in the same order. A tensor that was handed out
    is forgotten here, as is one whose holder the graph has dropped.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: _Arguments,
        random_state: Tensor | None,
        context: AbstractContextManager[Any],
        description: Callable[[Tensor], Any],
        early_stop: bool,
        debug: bool,
    ) -> None:
        self.function, self.arguments, self.random_state, self.context = function, arguments, random_state, context
        self.description, self.early_stop, self.debug = description, early_stop, debug
        self.holders: list[weakref.ref[_Holder]] = []
        self.saved: list[tuple[Any, str]] = []
        self.complete = False  # has the first run ended?
        self.recomputed: weakref.WeakKeyDictionary[_Holder, Tensor] = weakref.WeakKeyDictionary()

    def described(self, x: Tensor) -> tuple[Any, str]:
        """What must be the same in both runs, and where it was saved."""
        return self.description(x), "".join(traceback.format_stack()[:-2]) if self.debug else ""

    def pack(self, x: Tensor) -> _Holder:
        holder = _Holder()
        self.holders.append(weakref.ref(holder))
        self.saved.append(self.described(x))
        return holder

    def unpack(self, holder: _Holder) -> Tensor:
        if holder not in self.recomputed:
            self.run_again()
        return self.recomputed.pop(holder)

    def run_again(self) -> None:
        recomputed: weakref.WeakKeyDictionary[_Holder, Tensor] = weakref.WeakKeyDictionary()
        saved: list[tuple[Any, str]] = []

        def pack(x: Tensor) -> Tensor:
            x = x.detach()
            if len(saved) < len(self.holders):
                holder = self.holders[len(saved)]()
                if holder is not None:
                    recomputed[holder] = x
            saved.append(self.described(x))
            if self.early_stop and len(saved) == len(self.holders):
                raise _Stop
            return x

        hooks = saved_tensors_hooks(pack, lambda x: x)
        with contextlib.suppress(_Stop), _random_numbers_from(self.random_state), self.context, hooks, enable_grad():
            self.arguments.given_to(self.function)
        self.check(saved)
        self.recomputed = recomputed

    def check(self, saved: list[tuple[Any, str]]) -> None:
        """Raise unless the two runs saved alike. A backward inside the function sees a first run that has not ended."""
        for k, ((at_first, where_at_first), (again, where)) in enumerate(zip(self.saved, saved, strict=False)):
            if at_first != again:
                raise CheckpointError(
                    "[checkpoint] the function must save tensors of the same shapes and dtypes when it is run again; "
                    f"got {again} for tensor {k}, at first {at_first}{self.traces(where_at_first, where)}"
                )
        if len(saved) < len(self.saved) or (self.complete and len(saved) > len(self.saved)):
            k = min(len(saved), len(self.saved))
            where_at_first, where = ("".join(w for _, w in runs[k : k + 1]) for runs in (self.saved, saved))
            raise CheckpointError(
                "[checkpoint] the function must save as many tensors when it is run again as it did at first; got "
                f"{len(saved)}, at first {len(self.saved)}{self.traces(where_at_first, where)}"
            )

    def traces(self, at_first: str, again: str) -> str:
        if not self.debug:
            return "; debug=True shows where"
        return f". At first it was saved here:\n{at_first or 'nowhere'}\nand when run again here:\n{again or 'nowhere'}"


def _outside_the_graph(x: Any) -> Any:
    return x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x


class CheckpointFunction(Function):
    """The reentrant way: the function runs without recording, its backward runs it again and differentiates that."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        """`function(*args)`; the tensors among the arguments are what is saved."""
        check_backward_validity(args)
        ctx.function = function
        ctx.random_state = _core.get_rng_state() if preserve_rng_state else None
        ctx.places = [k for k, value in enumerate(args) if isinstance(value, Tensor)]
        ctx.others = [None if isinstance(value, Tensor) else value for value in args]
        ctx.save_for_backward(*[args[k] for k in ctx.places])
        return function(*args)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of the arguments; those of other leaves go to their `.grad`."""
        if not has_whole_backward(ctx):
            raise RuntimeError(
                "[checkpoint] with use_reentrant=True gradients can be had by backward() without inputs alone, as it "
                "adds to the .grad of all leaves; got autograd.grad or an inputs argument; set use_reentrant=False"
            )
        values = list(ctx.others)
        for place, tensor in zip(ctx.places, ctx.saved_tensors, strict=True):
            values[place] = _outside_the_graph(tensor)
        with _random_numbers_from(ctx.random_state), enable_grad():
            result = ctx.function(*values)
        outputs = result if isinstance(result, tuple) else (result,)
        roots = [k for k, x in enumerate(outputs) if isinstance(x, Tensor) and x.requires_grad]
        if not roots:
            raise RuntimeError(
                "[checkpoint] with use_reentrant=True an output must require grad when the function is run again; got "
                f"none among {len(outputs)}"
            )
        backward([outputs[k] for k in roots], [gradients[k] for k in roots])
        return (None, None, *[x.grad if isinstance(x, Tensor) else None for x in values])


def check_backward_validity(inputs: Iterable[Any]) -> None:
    """Warn if none of the tensors requires grad: the reentrant way then gives no gradients at all."""
    if not any(x.requires_grad for x in inputs if isinstance(x, Tensor)):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)


def _reentrant_or_not(use_reentrant: bool | None, name: str) -> bool:
    if use_reentrant is None:
        warnings.warn(
            f"[{name}] the use_reentrant parameter should be passed explicitly; use_reentrant=False is recommended, "
            "and use_reentrant=True is what holds without it",
            stacklevel=3,
        )
    return use_reentrant is not False


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], Contexts] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, of which the graph keeps the tensors among the arguments and nothing else.

    The backward runs the function again to get what its ops had saved. A chain of n equal parts that is cut into
    sqrt(n) checkpointed pieces needs memory of order sqrt(n), for the time of one more forward.

    Args:
        use_reentrant: False, recommended: works with all ways to differentiate, derivatives of higher order, keyword
            arguments, nested structures and checkpoints inside. True: the older way, for `backward()` without inputs
            and positional tensors only, one of which must require grad. None warns and means True.
        context_fn: returns two context managers, one for the first run and one for each later one.
        determinism_check: "default" compares shape, dtype and device of what the runs save; "none" only counts.
        debug: errors show where in the function the runs differ.
        early_stop: a later run ends with the last tensor that is needed.
        preserve_rng_state: random numbers are the same in all runs, those of dropout for instance.

    Raises CheckpointError in the backward if the runs do not save alike; ValueError for an unknown
    `determinism_check`, and with use_reentrant=True for keyword arguments, `context_fn` or `debug`. See
    torch.utils.checkpoint.checkpoint.

    >>> import fastgrad
    >>> from fastgrad.utils.checkpoint import checkpoint
    >>> x = fastgrad.tensor([0., 1.], requires_grad=True)
    >>> y = checkpoint(lambda x: x.exp() * x, x, use_reentrant=False)
    >>> y.sum().backward(); x.grad
    tensor([1.0000, 5.4366])
    """
    if _reentrant_or_not(use_reentrant, "checkpoint"):
        if kwargs:
            raise ValueError(f"[checkpoint] use_reentrant=True takes no keyword arguments; got {', '.join(kwargs)}")
        if context_fn is not noop_context_fn or debug is not False:
            raise ValueError("[checkpoint] context_fn and debug need use_reentrant=False; got use_reentrant=True")
        return CheckpointFunction.apply(function, preserve_rng_state, *args)
    if determinism_check not in _DETERMINISM_CHECKS:
        raise ValueError(
            f"[checkpoint] determinism_check must be one of {list(_DETERMINISM_CHECKS)}; got {determinism_check!r}"
        )
    first, again = context_fn()
    if not is_grad_enabled():
        return function(*args, **kwargs)
    random_state = _core.get_rng_state() if preserve_rng_state else None
    frame = _Frame(
        function, _Arguments(args, kwargs), random_state, again, _DETERMINISM_CHECKS[determinism_check],
        early_stop if _early_stop is None else _early_stop, debug if _debug is None else _debug,
    )  # fmt: skip
    with saved_tensors_hooks(frame.pack, frame.unpack), first:
        result = function(*args, **kwargs)
        frame.complete = True
    if not frame.complete:
        raise RuntimeError("[checkpoint] the first context of context_fn may not suppress exceptions; got one that did")
    if random_state is not None and _core.equal(random_state, _core.get_rng_state()):
        frame.random_state = None  # 5 KB that many small checkpoints would feel
    return result


def checkpoint_sequential(
    functions: Any,
    segments: int,
    input: Any,
    use_reentrant: bool | None = None,
    *,
    preserve_rng_state: bool = True,
) -> Any:
    """The functions one after the other, cut into so many segments, all but the last of which are checkpointed.

    Raises ValueError unless 1 <= segments <= len(functions). See torch.utils.checkpoint.checkpoint_sequential.

    >>> import fastgrad
    >>> from fastgrad.utils.checkpoint import checkpoint_sequential
    >>> model = fastgrad.nn.Sequential(*[fastgrad.nn.Tanh() for _ in range(9)])
    >>> x = fastgrad.ones(1, requires_grad=True)
    >>> checkpoint_sequential(model, 3, x, use_reentrant=False).backward(); x.grad
    tensor([0.0469])
    """
    reentrant = _reentrant_or_not(use_reentrant, "checkpoint_sequential")
    parts = list(functions)  # of a Sequential its modules
    if not 1 <= segments <= len(parts):
        raise ValueError(
            "[checkpoint_sequential] there must be between one segment and one for each function; got "
            f"{segments} for {len(parts)} functions"
        )

    def run(part: Sequence[Callable[[Any], Any]], x: Any) -> Any:
        for function in part:
            x = function(x)
        return x

    size = len(parts) // segments
    for start in range(0, size * (segments - 1), size):
        input = checkpoint(
            run, parts[start : start + size], input, use_reentrant=reentrant, preserve_rng_state=preserve_rng_state
        )
    return run(parts[size * (segments - 1) :], input)

"""Module: the base class of all neural network modules.

A parameter, buffer or child module is an ordinary attribute of the instance, so reading `self.weight` is a plain
attribute access. Beside them the instance keeps three ordered registries of names; `_parameters`, `_buffers` and
`_modules` are mappings made on demand over a registry and the attributes, so every value has one place. Nothing here
touches `__dict__`: in CPython 3.11 an instance that was asked for it once reads its attributes five times slower.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple, TypeVar

from fastgrad import _core
from fastgrad._core import Tensor, no_grad
from fastgrad.nn.parameter import Buffer, Parameter
from fastgrad.utils.hooks import BackwardHooks, RemovableHandle

Self = TypeVar("Self", bound="Module")


class _Members(MutableMapping):
    """The members of one kind of a module: name -> value, in the order of registration."""

    __slots__ = ("module", "names")

    def __init__(self, module: Module, names: dict[str, bool]) -> None:
        self.module = module
        self.names = names

    def __getitem__(self, name: str) -> Any:
        if name not in self.names:
            raise KeyError(name)
        return getattr(self.module, name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.names.setdefault(name, True)
        object.__setattr__(self.module, name, value)

    def __delitem__(self, name: str) -> None:
        del self.names[name]
        object.__delattr__(self.module, name)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return repr(dict(self))


class _IncompatibleKeys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Module(_core.ModuleBase):
    """Base class of all modules; your models subclass it and define `forward`.

    Names, arguments and semantics are those of PyTorch's `nn.Module`.

    >>> import fastgrad as torch
    >>> class Twice(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.linear = torch.nn.Linear(2, 2)
    ...     def forward(self, x):
    ...         return self.linear(self.linear(x))
    >>> [name for name, parameter in Twice().named_parameters()]
    ['linear.weight', 'linear.bias']
    """

    _version = 1
    training: bool
    _call_hooks: dict[str, OrderedDict] | None = None
    _state_hooks: dict[str, OrderedDict] | None = None
    # None until __init__ has run. The values say whether a member is part of the state dict.
    _parameter_names: dict[str, bool] = None  # type: ignore[assignment]
    _buffer_names: dict[str, bool] = None  # type: ignore[assignment]
    _module_names: dict[str, bool] = None  # type: ignore[assignment]

    def __init__(self) -> None:
        set_plain = super().__setattr__
        set_plain("training", True)
        set_plain("_call_hooks", None)
        set_plain("_parameter_names", {})
        set_plain("_buffer_names", {})
        set_plain("_module_names", {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            # Registries of its own, so that a shallow copy may gain and lose members.
            is_registry = name in ("_parameter_names", "_buffer_names", "_module_names")
            super().__setattr__(name, dict(value) if is_registry else value)

    # the call

    def forward(self, *input: Any) -> Any:
        """Compute the module's result; every subclass defines it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def _call_with_hooks(self, args: tuple, kwargs: dict) -> Any:
        hooks = self._call_hooks or {}
        pending = dict(hooks.get("forward", {}))
        try:
            for hook, with_kwargs in tuple(hooks.get("forward_pre", {}).values()):
                if with_kwargs:
                    changed = hook(self, args, kwargs)
                    if changed is not None:
                        if not isinstance(changed, tuple) or len(changed) != 2:
                            raise RuntimeError(
                                "[forward_pre_hook] a hook with kwargs must return None or a tuple (args, kwargs); got "
                                f"{type(changed).__name__}"
                            )
                        args, kwargs = changed
                else:
                    changed = hook(self, args)
                    if changed is not None:
                        args = changed if isinstance(changed, tuple) else (changed,)
            backward = None
            if hooks.get("backward") or hooks.get("backward_pre"):
                kinds = (list(hooks.get(kind, {}).values()) for kind in ("backward_pre", "backward"))
                backward = BackwardHooks(self, *kinds)
                args = backward.tap_input(args)
            result = self.forward(*args, **kwargs)
            for number, (hook, with_kwargs, _) in tuple(pending.items()):
                del pending[number]
                changed = hook(self, args, kwargs, result) if with_kwargs else hook(self, args, result)
                if changed is not None:
                    result = changed
            return result if backward is None else backward.tap_output(result)
        except Exception:
            for hook, with_kwargs, always_call in pending.values():
                if always_call:
                    hook(self, args, kwargs, None) if with_kwargs else hook(self, args, None)
            raise

    # attributes

    @property
    def _parameters(self) -> _Members:
        return _Members(self, self._parameter_names)

    @property
    def _buffers(self) -> _Members:
        return _Members(self, self._buffer_names)

    @property
    def _modules(self) -> _Members:
        return _Members(self, self._module_names)

    def _registries(self) -> tuple[dict[str, bool], dict[str, bool], dict[str, bool]]:
        return self._parameter_names, self._buffer_names, self._module_names

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Parameter, Module, Buffer)):
            kind = "parameters" if isinstance(value, Parameter) else "module" if isinstance(value, Module) else "buffer"
            if self._parameter_names is None:
                raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
            if name not in self._registries()[("parameters", "buffer", "module").index(kind)]:
                self._forget(name)
            if isinstance(value, Parameter):
                self.register_parameter(name, value)
            elif isinstance(value, Buffer):
                self.register_buffer(name, value, value.persistent)
            else:
                self._modules[name] = value
            return
        if value is not None and self._parameter_names is not None:
            for names, kind, wanted in (
                (self._parameter_names, "parameter", "nn.Parameter"),
                (self._module_names, "child module", "nn.Module"),
                (self._buffer_names, "buffer", "Tensor, nn.Buffer"),
            ):
                if name in names and not (kind == "buffer" and isinstance(value, Tensor)):
                    raise TypeError(
                        f"cannot assign '{_typename(value)}' as {kind} '{name}' ({wanted} or None expected)"
                    )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        for registry in self._registries():
            registry.pop(name, None)

    def _forget(self, name: str) -> None:
        with contextlib.suppress(AttributeError):
            super().__delattr__(name)
        for registry in self._registries():
            registry.pop(name, None)

    def _check_name(self, name: Any, kind: str, registry: dict[str, bool]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_typename(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in registry and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter, or a name whose parameter is None (as for `bias=False`)."""
        if self._parameter_names is None:
            raise AttributeError("cannot assign parameter before Module.__init__() call")
        self._check_name(name, "parameter", self._parameter_names)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_typename(param)}' object to parameter '{name}' (nn.Parameter or None required)"
            )
        if param is not None and param.grad_fn is not None:
            raise ValueError(
                f"cannot assign non-leaf Tensor to parameter '{name}': model parameters must be created explicitly; to "
                f"express '{name}' as a function of another Tensor, compute the value in the forward() method"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that belongs to the module's state but is not trained; `persistent=False` keeps it out of
        the state dict."""
        if self._buffer_names is None:
            raise AttributeError("cannot assign buffer before Module.__init__() call")
        self._check_name(name, "buffer", self._buffer_names)
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{_typename(tensor)}' object to buffer '{name}' (Tensor or None required)")
        self._buffer_names[name] = persistent
        super().__setattr__(name, tensor)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under a name that may also be a number."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        if self._module_names is None:
            raise AttributeError("cannot assign module before Module.__init__() call")
        self._check_name(name, "module", self._module_names)
        self._modules[name] = module

    register_module = add_module

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path, e.g. `net.get_submodule("encoder.0")`; the module itself for ""."""
        module: Any = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        return self._get_member(target, "_parameter_names", "is not an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a dotted path."""
        return self._get_member(target, "_buffer_names", "is not a buffer")

    def _get_member(self, target: str, registry: str, complaint: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in getattr(module, registry):
            raise AttributeError(f"`{name}` {complaint}")
        return getattr(module, name)

    # iteration

    def _named_members(self, members: Callable, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator:
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for module_prefix, module in modules:
            for name, value in members(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield module_prefix + ("." if module_prefix else "") + name, value

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter) of the module and, with `recurse`, of all modules in it; a shared one once."""
        return self._named_members(lambda module: module._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, in the order of `named_parameters`."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, buffer), as `named_parameters`."""
        return self._named_members(lambda module: module._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers, in the order of `named_buffers`."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of the immediate children; a shared one once."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The immediate children."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of the module itself and of all modules in it; a shared one once."""
        memo = set() if memo is None else memo
        if self not in memo:
            if remove_duplicate:
                memo.add(self)
            yield prefix, self
            for name, module in self._modules.items():
                if module is not None:
                    child_prefix = prefix + ("." if prefix else "") + name
                    yield from module.named_modules(memo, child_prefix, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """The module itself and all modules in it."""
        return (module for _, module in self.named_modules())

    # changes to the whole tree

    def apply(self: Self, fn: Callable[[Module], None]) -> Self:
        """Call `fn` on every module in it, children first, then on the module itself; returns the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Set `training` on all modules; Dropout and its like behave accordingly."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self: Self) -> Self:
        """`train(False)`."""
        return self.train(False)

    def requires_grad_(self: Self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` on all parameters."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters: to None, or to zeros with `set_to_none=False`."""
        for parameter in self.parameters():
            if parameter.grad is not None:
                if set_to_none:
                    parameter.grad = None
                else:
                    parameter.grad = _core.zeros_like(parameter.grad)

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Replace every parameter's data and gradient, and every buffer, by `fn` of it; parameters stay the same
        objects, so an optimizer keeps them."""
        if recurse:
            for module in self.children():
                module._apply(fn)
        for parameter in self._parameters.values():
            if parameter is None:
                continue
            with no_grad():
                data = fn(parameter.data)
                grad = None if parameter.grad is None else fn(parameter.grad.detach())
            requires_grad = parameter.requires_grad
            parameter.grad = None
            parameter.requires_grad_(False)
            parameter.data = data
            parameter.requires_grad_(requires_grad)
            parameter.grad = grad
        for name, buffer in self._buffers.items():
            if buffer is not None:
                super().__setattr__(name, fn(buffer))
        return self

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        """Move or cast all parameters and buffers in place: `to(device)`, `to(dtype)`, `to(device, dtype)` or
        `to(tensor)`; integer buffers keep their dtype."""
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        kwargs.pop("non_blocking", None)
        tensor = kwargs.pop("tensor", None)
        if kwargs:
            raise TypeError(f"[to] the arguments are device, dtype, non_blocking and tensor; got {', '.join(kwargs)}")
        for argument in (*args, tensor):
            if isinstance(argument, Tensor):
                device, dtype = argument.device, argument.dtype
            elif isinstance(argument, _core.dtype):
                dtype = argument
            elif argument is not None and not isinstance(argument, bool):
                device = argument
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"[to] a module is cast to floating-point dtypes only; got {dtype}")
        device = None if device is None else _core.device(device)

        def convert(t: Tensor) -> Tensor:
            return t.to(t.device if device is None else device, dtype if t.is_floating_point() else None)

        return self._apply(convert)

    def cpu(self: Self) -> Self:
        """Move all parameters and buffers to the CPU."""
        return self.to("cpu")

    def float(self: Self) -> Self:
        """Cast all floating-point parameters and buffers to float32."""
        return self.to(_core.float32)

    def double(self: Self) -> Self:
        """Cast all floating-point parameters and buffers to float64."""
        return self.to(_core.float64)

    def type(self: Self, dst_type: Any) -> Self:
        """Cast all parameters and buffers to `dst_type`."""
        return self._apply(lambda t: t.to(dst_type))

    # hooks

    def _add_hook(self, kind: str, hook: Any, prepend: bool = False) -> RemovableHandle:
        attribute = "_state_hooks" if "state" in kind else "_call_hooks"
        table = getattr(self, attribute)
        if table is None:
            table = {}
            setattr(self, attribute, table)
        hooks = table.setdefault(kind, OrderedDict())
        handle = RemovableHandle(hooks)
        hooks[handle.id] = hook
        if prepend:
            hooks.move_to_end(handle.id, last=False)
        return handle

    def register_forward_pre_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """`hook(module, args)` runs before `forward` and may return changed args; with `with_kwargs` it is
        `hook(module, args, kwargs)` and may return `(args, kwargs)`."""
        return self._add_hook("forward_pre", (hook, with_kwargs), prepend)

    def register_forward_hook(
        self, hook: Callable, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """`hook(module, args, output)`, or `hook(module, args, kwargs, output)`, runs after `forward` and may return a
        changed output; with `always_call` it runs even when `forward` raises."""
        return self._add_hook("forward", (hook, with_kwargs, always_call), prepend)

    def register_full_backward_pre_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_output)` runs when the gradients of the outputs are known and may return others."""
        return self._add_hook("backward_pre", hook, prepend)

    def register_full_backward_hook(self, hook: Callable, prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_input, grad_output)` runs when the gradients of the inputs are known and may return other
        `grad_input`. Only positional tensor inputs have one."""
        return self._add_hook("backward", hook, prepend)

    def register_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """`hook(module, prefix, keep_vars)` runs before `state_dict` collects."""
        return self._add_hook("state_dict_pre", hook)

    def register_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata)` runs after; it may change the dict in place."""
        return self._add_hook("state_dict_post", hook)

    def register_load_state_dict_pre_hook(self, hook: Callable) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)` runs
        before the module's own tensors are looked up."""
        return self._add_hook("load_state_dict_pre", hook)

    def register_load_state_dict_post_hook(self, hook: Callable) -> RemovableHandle:
        """`hook(module, incompatible_keys)` runs after loading and may change the two lists in place."""
        return self._add_hook("load_state_dict_post", hook)

    def _state_hooks_of(self, kind: str) -> list:
        return list((self._state_hooks or {}).get(kind, {}).values())

    # state

    def get_extra_state(self) -> Any:
        """Override to put something beside tensors into the state dict."""
        raise RuntimeError("[get_extra_state] a subclass that calls it must define it; got the one of Module")

    def set_extra_state(self, state: Any) -> None:
        """Override to take back what `get_extra_state` gave."""
        raise RuntimeError("[set_extra_state] a subclass that calls it must define it; got the one of Module")

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for names, members in ((self._parameter_names, self._parameters), (self._buffer_names, self._buffers)):
            for name, value in members.items():
                if value is not None and names[name]:
                    destination[prefix + name] = value if keep_vars else value.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + "_extra_state"] = self.get_extra_state()

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """An ordered dict of the parameters and persistent buffers under their dotted names, sharing their memory.

        >>> import fastgrad as torch
        >>> list(torch.nn.Linear(3, 2).state_dict())
        ['weight', 'bias']
        """
        if args:  # the order of the arguments before they became keywords
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and prefix == "" else prefix
            keep_vars = args[2] if len(args) > 2 and keep_vars is False else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = metadata
        for hook in self._state_hooks_of("state_dict_pre"):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=prefix + name + ".", keep_vars=keep_vars)
        for hook in self._state_hooks_of("state_dict_post"):
            hook(self, destination, prefix, metadata)
        return destination

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Check this module's own entries. What is to be written goes to the list `local_metadata["assignments"]`,
        which `load_state_dict` carries out when nothing at all was wrong; without that list it is done at once."""
        for hook in self._state_hooks_of("load_state_dict_pre"):
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = local_metadata.get("assign_to_params_buffers", False)
        assignments: list[tuple[Callable, tuple]] = []
        persistent = [name for name, kept in self._buffer_names.items() if kept]
        local = {
            name: value for name in (*self._parameter_names, *persistent) if (value := getattr(self, name)) is not None
        }
        for name, value in local.items():
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            saved = state_dict[key]
            if not isinstance(saved, Tensor):
                error_msgs.append(
                    f'While copying the parameter named "{key}", expected Tensor or Tensor-like object from checkpoint '
                    f"but received {type(saved)}"
                )
                continue
            if value.ndim == 0 and tuple(saved.shape) == (1,):
                saved = saved[0]
            if saved.shape != value.shape:
                error_msgs.append(
                    f"size mismatch for {key}: copying a param with shape {saved.shape} from checkpoint, the shape in "
                    f"current model is {value.shape}."
                )
                continue
            if assign:
                assignments.append((self._assign_tensor, (name, value, saved)))
            else:
                assignments.append((_copy_into, (value, saved)))
        extra = prefix + "_extra_state"
        if type(self).set_extra_state is not Module.set_extra_state:
            if extra in state_dict:
                assignments.append((self.set_extra_state, (state_dict[extra],)))
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    name, dot, _ = key[len(prefix) :].partition(".")
                    if name not in (self._module_names if dot else local):
                        unexpected_keys.append(key)
        if "assignments" in local_metadata:
            local_metadata["assignments"].extend(assignments)
        else:
            for function, arguments in assignments:
                function(*arguments)

    def _assign_tensor(self, name: str, value: Tensor, saved: Tensor) -> None:
        if isinstance(value, Parameter):
            if isinstance(saved, Parameter):
                saved.requires_grad_(value.requires_grad)
            else:
                saved = Parameter(saved, requires_grad=value.requires_grad)
        setattr(self, name, saved)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> _IncompatibleKeys:
        """Copy a state dict into the module, or with `assign` put its tensors in place of the module's.

        Everything is checked before anything is written: a load that raises leaves the module as it was. With
        `strict=False` missing and unexpected keys are returned instead of raised.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        assignments: list[tuple[Callable, tuple]] = []
        post_hooks: list[tuple[Callable, Module]] = []
        metadata = getattr(state_dict, "_metadata", None) or {}

        def collect(module: Module, entries: dict[str, Any], prefix: str) -> None:
            local_metadata = {**metadata.get(prefix[:-1], {}), "assignments": assignments}
            if assign:
                local_metadata["assign_to_params_buffers"] = True
            module._load_from_state_dict(entries, prefix, local_metadata, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    child_prefix = prefix + name + "."
                    child_entries = {key: value for key, value in entries.items() if key.startswith(child_prefix)}
                    collect(child, child_entries, child_prefix)
            post_hooks.extend((hook, module) for hook in module._state_hooks_of("load_state_dict_post"))

        collect(self, dict(state_dict), "")
        incompatible = _IncompatibleKeys(missing, unexpected)

        def check() -> None:
            messages = list(errors)
            if strict:
                for keys, adjective in ((unexpected, "Unexpected"), (missing, "Missing")):
                    if keys:
                        quoted = ", ".join(f'"{key}"' for key in keys)
                        messages.insert(0, f"{adjective} key(s) in state_dict: {quoted}. ")
            if messages:
                text = "\n\t".join(messages)
                raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{text}")

        if errors or not post_hooks:
            check()
        # A post hook sees the loaded module and may still forgive a key, so what it may have to give back is kept.
        backup = [(t, t.detach().clone()) for t in self.state_dict(keep_vars=True).values() if isinstance(t, Tensor)] \
            if post_hooks and strict and (missing or unexpected) else []  # fmt: skip
        for function, arguments in assignments:
            function(*arguments)
        try:
            for hook, module in post_hooks:
                if hook(module, incompatible) is not None:
                    raise AssertionError(
                        "[load_state_dict_post_hook] the hook must change incompatible_keys in place and return None; "
                        "got a value"
                    )
            check()
        except BaseException:
            for tensor, saved in backup:
                _copy_into(tensor, saved)
            raise
        return incompatible

    # text

    def extra_repr(self) -> str:
        """What stands between the parentheses of `repr(module)`; override it."""
        return ""

    def _get_name(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [
            f"({name}): " + repr(module).replace("\n", "\n  ") for name, module in self._modules.items()
        ]  # fmt: skip
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({extra})"
        body = "".join(f"\n  {line}" for line in lines + children)
        return f"{self._get_name()}({body}\n)" if body else f"{self._get_name()}()"


def _copy_into(target: Tensor, source: Tensor) -> None:
    with no_grad():
        target.copy_(source)


def _typename(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}" if type(value).__module__ != "builtins" \
        else type(value).__qualname__  # fmt: skip

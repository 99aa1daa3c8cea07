"""The call of an nn.Module, which stands between every two ops of a small network."""

cimport cython

cdef extern from *:
    """
    #define fg_call_slot(object) (Py_TYPE(object)->tp_call)
    """
    ctypedef void* ternaryfunc
    ternaryfunc call_slot "fg_call_slot" (object)


@cython.auto_pickle(False)
cdef class ModuleBase:
    """Base of nn.Module: `module(...)` is `module.forward(...)`, through the hooks if there are any."""

    def __call__(self, *args, **kwargs):
        if self._call_hooks is None:
            return self.forward(*args, **kwargs)
        return self._call_with_hooks(args, kwargs)


cdef ternaryfunc PLAIN_CALL = call_slot(ModuleBase())


def call_in_turn(owner, names, input):
    """The modules of these names one after the other, each on the result of the one before."""
    for name in names:
        module = getattr(owner, name)
        # A class that defines __call__ itself has another slot.
        if call_slot(module) == PLAIN_CALL and module._call_hooks is None:
            input = module.forward(input)
        else:
            input = module(input)
    return input

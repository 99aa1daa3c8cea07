"""The modes: no_grad and its kin, which belong to a thread, and anomaly detection."""

import functools
import inspect

from fastgrad._core.graph cimport anomaly, grad_enabled, inference_enabled, switch_inference, switch_recording


cdef class GradMode:
    """A context manager that also decorates functions and generator functions."""

    cdef int recording_off, inference, was_off, was_inference

    cdef GradMode fresh(self):
        """Another one for one call, so that a decorated function may call itself."""
        cdef GradMode made = GradMode.__new__(GradMode)
        made.recording_off, made.inference = self.recording_off, self.inference
        return made

    def __enter__(self):
        self.was_off = switch_recording(self.recording_off)
        if self.inference >= 0:
            self.was_inference = switch_inference(self.inference)
        return self

    def __exit__(self, kind, value, trace):
        switch_recording(self.was_off)
        if self.inference >= 0:
            switch_inference(self.was_inference)

    def __call__(self, function):
        if inspect.isgeneratorfunction(function):
            return self.wrapped_generator(function)

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            with self.fresh():
                return function(*args, **kwargs)
        return wrapped

    def wrapped_generator(self, function):
        """The mode holds while the generator runs, not between its items."""
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            generator = function(*args, **kwargs)
            sent = None
            try:
                while True:
                    with self.fresh():
                        try:
                            item = generator.send(sent)
                        except StopIteration as stop:
                            return stop.value
                    sent = yield item
            finally:
                generator.close()
        return wrapped


cdef object mode_or_decorated(int recording_off, int inference, object function):
    """The mode, or a function decorated with it: `@no_grad` and `@no_grad()` alike."""
    cdef GradMode mode = GradMode.__new__(GradMode)
    mode.recording_off, mode.inference = recording_off, inference
    return mode if function is None else mode(function)


def no_grad(function=None):
    """Record nothing inside: a context manager and a decorator, for this thread only. As torch.no_grad.

    >>> import fastgrad
    >>> x = fastgrad.ones(1, requires_grad=True)
    >>> with fastgrad.no_grad():
    ...     (x * 2).requires_grad
    False
    """
    return mode_or_decorated(1, -1, function)


def enable_grad(function=None):
    """Record again inside, within a `no_grad`. As torch.enable_grad."""
    return mode_or_decorated(0, -1, function)


def inference_mode(mode=True):
    """`no_grad` under PyTorch's other name: nothing is recorded inside. Tensors made inside are ordinary ones."""
    if callable(mode):
        return mode_or_decorated(1, 1, mode)
    return mode_or_decorated(bool(mode), bool(mode), None)


cdef class set_grad_enabled(GradMode):
    """Switch recording on or off, at once and, as a context manager, until its end. As torch.set_grad_enabled."""

    def __init__(self, mode):
        self.recording_off, self.inference = not mode, -1
        self.was_off = switch_recording(self.recording_off)

    def __enter__(self):
        switch_recording(self.recording_off)
        return self

    def __call__(self, function):
        switch_recording(self.was_off)
        return GradMode.__call__(self, function)


def is_grad_enabled() -> bool:
    """Are ops recorded in this thread?"""
    return grad_enabled()


def is_inference_mode_enabled() -> bool:
    """Is this thread inside `inference_mode`?"""
    return inference_enabled()


class set_detect_anomaly:
    """Switch anomaly detection on or off, at once and, as a context manager, until its end."""

    def __init__(self, bint mode, bint check_nan=True):
        self.previous = anomaly.enabled, anomaly.checks_nan
        anomaly.enabled, anomaly.checks_nan = mode, check_nan

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        anomaly.enabled, anomaly.checks_nan = self.previous


class detect_anomaly(set_detect_anomaly):
    """Inside, a backward that makes a NaN raises an error that shows where the op's forward ran. As torch.autograd's.

    >>> import fastgrad
    >>> with fastgrad.autograd.detect_anomaly():
    ...     x = fastgrad.zeros(1, requires_grad=True)
    ...     y = (x / x).sum()
    """

    def __init__(self, check_nan=True):
        super().__init__(True, check_nan)

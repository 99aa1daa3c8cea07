"""Build of the compiled core: the C kernels once per instruction set, then the Cython modules of fastgrad._core."""

import os
import pathlib
import platform
import re
import shutil
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).parent
KERNELS = ROOT / "src" / "kernels"
STAGE = ROOT / "build" / "cython"

X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "x86")
ISA_FLAGS = {"baseline": []}
if X86:
    ISA_FLAGS["avx2"] = ["-mavx2", "-mfma"]
    ISA_FLAGS["avx512"] = [
        *ISA_FLAGS["avx2"], "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mprefer-vector-width=512",
    ]  # fmt: skip
KERNEL_FLAGS = ["-std=gnu11", "-O3", "-fno-math-errno", "-fno-trapping-math"]
# Objects are cleared at birth; gcc would do it with `rep stos`, at their size three times slower than memset.
CORE_FLAGS = ["-g0", "-fno-strict-aliasing", "-fwrapv", "-fno-builtin-memset"]
SHARED_FLAGS = [] if os.name == "nt" else ["-fPIC", "-fvisibility=hidden"]
ONCE = {"table.c", "blas.c", "threads.c"}  # compiled once, whatever the instruction set
ISA_MACROS = [(f"FG_ISA_{isa.upper()}", "1") for isa in ISA_FLAGS]


def stage_cython() -> None:
    """Copy src/core to build/cython/fastgrad/_core, where Cython finds `fastgrad._core.x` under its import name."""
    for source in (ROOT / "src" / "core").rglob("*"):
        if source.suffix not in (".pyx", ".pxd", ".pxi", ".h"):
            continue
        target = STAGE / "fastgrad" / "_core" / source.relative_to(ROOT / "src" / "core")
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != source.read_bytes():
            shutil.copyfile(source, target)
    for staged in (STAGE / "fastgrad" / "_core").rglob("*.p[yx][xd]"):
        source = ROOT / "src" / "core" / staged.relative_to(STAGE / "fastgrad" / "_core")
        if not source.exists() and staged.name not in ("kernel_ids.pxd", "__init__.pxd"):
            staged.unlink()
    names = re.findall(r"^KERNEL\((\w+),", (KERNELS / "kernels.def").read_text(), re.MULTILINE)
    ids = 'cdef extern from "kernel.h":\n    enum:\n' + "".join(f"        FG_KERNEL_{name}\n" for name in names)
    target = STAGE / "fastgrad" / "_core" / "kernel_ids.pxd"
    if not target.exists() or target.read_text() != ids:
        target.write_text(ids)
    for folder in ("fastgrad", "fastgrad/_core", "fastgrad/_core/ops"):
        (STAGE / folder / "__init__.pxd").touch()


def extensions() -> list[Extension]:
    stage_cython()
    found = []
    for source in sorted((STAGE / "fastgrad").rglob("*.pyx")):
        name = ".".join(source.relative_to(STAGE).with_suffix("").parts)
        found.append(
            Extension(
                name,
                [os.path.relpath(source, ROOT)],
                include_dirs=["src/kernels", "src/core"],
                define_macros=[("CYTHON_CLINE_IN_TRACEBACK", "0")],
                extra_compile_args=[*CORE_FLAGS, os.environ.get("FASTGRAD_CORE_OPT", "-O2")],
                extra_link_args=[] if sys.platform == "darwin" else ["-Wl,-s"],
            )
        )
    return found


class BuildKernelsFirst(build_ext):
    """Compiles src/kernels once per instruction set and links the objects into fastgrad._core.launch."""

    def run(self) -> None:
        from Cython.Build import cythonize

        self.extensions = cythonize(
            self.extensions,
            include_path=[str(STAGE)],
            nthreads=0,
            quiet=True,
            compiler_directives={
                "language_level": 3,
                "boundscheck": False,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": False,
                "allow_none_for_extension_args": False,
                "embedsignature": False,
                "freethreading_compatible": False,
            },
        )
        for extension in self.extensions:
            extension._needs_stub = False
        super().run()

    def build_extensions(self) -> None:
        self.parallel = self.parallel or os.cpu_count()
        objects = self.compile_kernels()
        for extension in self.extensions:
            if extension.name == "fastgrad._core.launch":
                extension.extra_objects = objects
                extension.depends = [*extension.depends, *objects]
                extension.libraries = [
                    *extension.libraries,
                    *([] if sys.platform == "darwin" else ["m", "dl", "pthread"]),
                ]
        super().build_extensions()

    def compile_kernels(self) -> list[str]:
        headers = [*KERNELS.glob("*.h"), *KERNELS.glob("*.def"), *KERNELS.glob("*.inc")]
        objects: list[str] = []
        for isa, flags in [("once", []), *ISA_FLAGS.items()]:
            folder = pathlib.Path(self.build_temp) / "kernels" / isa
            for source in sorted(KERNELS.glob("*.c")):
                if (source.name in ONCE) != (isa == "once"):
                    continue
                target = folder / "src" / "kernels" / source.with_suffix(".o").name
                newest = max(path.stat().st_mtime for path in [source, *headers])
                if not target.exists() or target.stat().st_mtime < newest:
                    try:
                        self.compiler.compile(
                            [os.path.relpath(source, ROOT)],
                            output_dir=str(folder),
                            macros=ISA_MACROS if isa == "once" else [("FG_ISA", isa)],
                            extra_postargs=[*KERNEL_FLAGS, *flags, "-g0", *SHARED_FLAGS],
                        )
                    except Exception as error:
                        if shutil.which(self.compiler.compiler[0] if hasattr(self.compiler, "compiler") else "cc"):
                            raise
                        raise SystemExit(
                            "fastgrad: no C compiler was found; install gcc or clang (Debian: apt install gcc "
                            "python3-dev, macOS: xcode-select --install) and try again"
                        ) from error
                objects.append(str(target))
        return objects


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernelsFirst})

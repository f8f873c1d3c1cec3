"""Builds the native modules. Everything else about the package stands in pyproject.toml.

Three builds of the same sources: release; checked (STREAMDSL_DEBUG=1: bounds checks, assertions, fault points, planted bugs,
no optimisation); sanitized (STREAMDSL_SANITIZE=1: checked, under AddressSanitizer and UBSan). Each keeps its generated C and
its objects to itself, and building another one in the same place builds every module anew.
"""

import os
import pathlib
import subprocess
import sys
import sysconfig

from setuptools import Extension, find_namespace_packages, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).parent
SANITIZE = os.environ.get("STREAMDSL_SANITIZE") == "1"
DEBUG = SANITIZE or os.environ.get("STREAMDSL_DEBUG") == "1"
BUILD = "sanitized" if SANITIZE else "checked" if DEBUG else "release"
#: Says which build stands in the source tree.
IN_PLACE = ROOT / "build" / "in-place"


def native_modules() -> list[Extension]:
    """One extension for each .pyx; STREAMDSL_BUILD_ONLY=flow,expr builds the named folders alone."""
    only = [name for name in os.environ.get("STREAMDSL_BUILD_ONLY", "").split(",") if name]
    flags = ["-O1" if SANITIZE else "-O0", "-g", "-DSTREAMDSL_CHECKED"] if DEBUG else ["-O3", "-g0"]
    links = []
    if sys.platform == "linux":
        # What reads strangers' bytes: a smashed stack, an overrun copy and an overwritten table of functions end the process.
        links = ["-Wl,-z,relro", "-Wl,-z,now", "-Wl,-z,noexecstack"]
        flags += ["-fstack-protector-strong"]
        if not DEBUG:
            flags += ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"]
    if SANITIZE:
        # Python's own functions are called through pointers of other types; left shifts of negative numbers are what GCC defines.
        checks = ["-fsanitize=address,undefined", "-fno-sanitize=vptr,shift-base"]
        links += checks
        flags += [*checks, "-fno-omit-frame-pointer"]
    # Results must not depend on the compiler's liking for fused multiply-add.
    flags += ["-ffp-contract=off", "-fno-strict-aliasing", "-Wno-unused-function", "-Wno-unreachable-code"]
    modules = []
    for source in sorted((ROOT / "streamdsl" / "_native").rglob("*.pyx")):
        path = source.relative_to(ROOT)
        if only and not any(f"_native/{name}" in path.as_posix() for name in only):
            continue
        name = ".".join(path.with_suffix("").parts)
        modules.append(Extension(name, [path.as_posix()], extra_compile_args=flags, extra_link_args=links))
    return modules


class BuildNative(build_ext):
    """Says what is missing in one line instead of a page of compiler output, and never mixes the modules of two builds."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if BUILD != "release":
            self.build_temp += f"-{BUILD}"
        if self.inplace:
            before = IN_PLACE.read_text() if IN_PLACE.exists() else "release"
            self.force = self.force or before != BUILD
            if before != BUILD and os.environ.get("STREAMDSL_BUILD_ONLY"):
                sys.exit(f"STREAMDSL_BUILD_ONLY would leave a {before} build that is in part a {BUILD} one; build all modules first")

    def run(self) -> None:
        super().run()
        if self.inplace:
            IN_PLACE.parent.mkdir(exist_ok=True)
            IN_PLACE.write_text(BUILD)

    def build_extensions(self) -> None:
        header = pathlib.Path(sysconfig.get_paths()["include"]) / "Python.h"
        if not header.exists():
            sys.exit(f"streamdsl needs the header Python.h ({header} does not exist); on Debian: apt install python3-dev")
        try:
            subprocess.run([self.compiler.compiler_so[0], "--version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            name = self.compiler.compiler_so[0] if self.compiler.compiler_so else "cc"
            sys.exit(f"streamdsl needs a C compiler ({name} did not run); on Debian: apt install gcc")
        self.parallel = self.parallel or os.cpu_count()
        self.built = 0
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        super().build_extension(ext)
        self.built += 1
        if sys.stdout.isatty() or self.built % 10 == 0 or self.built == len(self.extensions):
            end = "\r" if sys.stdout.isatty() and self.built < len(self.extensions) else "\n"
            print(f"  {self.built} of {len(self.extensions)} modules", end=end, flush=True)


def cythonized() -> list[Extension]:
    if not {"build_ext", "bdist_wheel", "editable_wheel", "install", "develop", "build"} & set(sys.argv):
        return native_modules()
    from Cython.Build import cythonize

    return cythonize(
        native_modules(),
        nthreads=os.cpu_count() or 1,
        build_dir="build/cython" if BUILD == "release" else f"build/cython-{BUILD}",
        quiet=True,
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": DEBUG,
            # Not nonecheck, which Cython refuses in code without the GIL.
            # Hashes wrap on purpose, times saturate by hand; what must not wrap, UBSan sees in the sanitized build.
            "overflowcheck": False,
            "embedsignature": True,
            "freethreading_compatible": False,
        },
    )


#: `streamdsl demo` runs the examples from an installed package: they travel in it under a name of their own.
EXAMPLES = "streamdsl._examples"

setup(
    packages=[
        *find_namespace_packages(include=["streamdsl*"], exclude=["*__pycache__*"]),
        EXAMPLES,
        *(f"{EXAMPLES}.{name}" for name in find_packages("examples")),
    ],
    package_dir={EXAMPLES: "examples"},
    ext_modules=cythonized(),
    cmdclass={"build_ext": BuildNative},
)

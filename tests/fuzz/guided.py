"""One target under atheris: ``python -m tests.fuzz.guided TARGET [libFuzzer's flags and folders]``; never returns."""

import sys

import atheris

with atheris.instrument_imports(include=["durable_streams_cluster", "uvicorn.protocols.http"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    program, name, *flags = sys.argv
    atheris.Setup([program, *flags], TARGETS[name].check)
    atheris.Fuzz()


main()

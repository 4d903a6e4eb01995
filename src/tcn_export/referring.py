"""The eager model's answers to everything that an export is judged on, computed once.

Where several candidates are judged, the answers on many windows are what costs; they are kept
in a temporary file and read again.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np

from tcn_export.export_data import ExportData, golden_feeds
from tcn_export.graph import Signature
from tcn_export.options import AUTO, ExportOptions
from tcn_export.parity.golden import Golden, Reference
from tcn_export.parity.rows import ORACLE
from tcn_export.progress import Progress
from tcn_export.signals import reached, stream_lengths

if TYPE_CHECKING:
    from tcn_export.source.base import Source


@dataclass(frozen=True, slots=True)
class References:
    """What artifacts are compared with.

    Attributes:
        golden: The feeds of the bundle, with the eager model's answers.
        told: The precision of the oracle, and where that is not float64 the reason.
        is_classification: Whether top answers mean something.
        windows: The answers on the windows of the user, batch by batch; empty without data.
        receptive_field: Steps that an answer depends on; None where nobody knows.
    """

    golden: Golden
    told: str
    is_classification: bool
    windows: WindowReferences
    receptive_field: int | None = None


class WindowReferences:
    """The oracle's answers on many windows; each iteration gives them all.

    Args:
        compute: Begins to compute them, batch by batch.
        names: Of the outputs.
        keep: Compute them once only. The file is as large as all answers together.
    """

    def __init__(
        self,
        compute: Callable[[], Iterator[Reference]],
        names: tuple[str, ...],
        keep: bool,
    ) -> None:
        self._compute = compute
        self._names = names
        self._file: IO[bytes] | None = None
        self._batches: int | None = None
        if keep:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
            weakref.finalize(self, self._file.close)

    def __iter__(self) -> Iterator[Reference]:
        """All answers, from the first batch."""
        if self._file is None:
            yield from self._compute()
        elif self._batches is None:
            yield from self._first_time(self._file)
        else:
            self._file.seek(0)
            for _ in range(self._batches):
                yield self._read(self._file)

    def _first_time(self, file: IO[bytes]) -> Iterator[Reference]:
        file.seek(0)
        count = 0
        for reference in self._compute():
            for values in (reference.float64, reference.float32):
                np.save(file, bool(values))
                for name in self._names if values else ():
                    np.save(file, values[name])
            count += 1
            yield reference
        self._batches = count  # only now: who stops early has not seen them all

    def _read(self, file: IO[bytes]) -> Reference:
        both = [
            {name: np.load(file) for name in self._names} if np.load(file) else {}
            for _ in range(2)
        ]
        return Reference(*both)


def refer(
    source: Source,
    signature: Signature,
    data: ExportData | None,
    options: ExportOptions,
    progress: Progress,
) -> References:
    """Ask the eager model.

    Args:
        source: Holds the eager model.
        signature: Of the artifacts that are going to be judged.
        data: Windows to judge on; None for the stress set alone.
        options: Precision and seed.
        progress: Told of every feed.
    """
    from tcn_export.parity.oracle import Oracle

    oracle = Oracle(source.module, source.signature, bool(source.only_single))
    lengths = stream_lengths(source, signature, options) if options.mode == "stream" else ()
    feeds = golden_feeds(source, signature, data, options.seed, lengths)
    answers = {}
    with progress.stage("Asking the eager model", len(feeds)) as advance:
        for feed in feeds:
            answers[feed.name] = reached(oracle.run(feed.inputs), signature)
            advance()

    def on_windows() -> Iterator[Reference]:
        if data is None:
            return iter(())
        name = signature.inputs[0].name
        both = options.precision in ("float32", AUTO)
        answered = oracle.batches(name, data.parity.x, both)
        return (reached(reference, signature) for reference in answered)

    names = tuple(spec.name for spec in signature.outputs)
    return References(
        Golden(feeds, answers, source.classes),
        f"float32: {source.only_single}" if source.only_single else ORACLE,
        source.task == "classification",
        WindowReferences(on_windows, names, keep=options.may_quantize),
    )

"""Which model is meant: by its name or in memory, on which device, in which precision.

Encoders of other packages have names too, SCHEME:WHICH: a package registers a function in the group of entry points
`colbert_video.encoders`, which is called with WHICH and `device=`, and returns a `VideoEncoder`. An index never names such an
encoder: who searches it names the encoder again, so that no index chooses code that runs.
"""

import os
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from colbert_video.base.checks import check_flags
from colbert_video.device import Device
from colbert_video.errors import ColBERTVideoError, ModelError, SettingsError, in_one_line, shown
from colbert_video.model.backbones.transformers_files import PREFIX
from colbert_video.model.checkpoint import settled_name
from colbert_video.model.encoder import VideoEncoder, check_encoder, is_name
from colbert_video.model.encoders.first_dims import FirstDims
from colbert_video.model.precision import Precision, check_precision
from colbert_video.model.query_runtime import QueryRuntime, check_query_runtime
from colbert_video.model.video_colbert import VideoColBERT

Model = VideoEncoder | str | Path
"""An encoder in memory, or a name that `load_encoder` takes."""
ENCODERS = "colbert_video.encoders"
"""Group of the entry points that load encoders of other packages."""


def load_encoder(
    name: str | Path,
    *,
    device: Device | None = None,
    precision: Precision | None = None,
    compile: bool = False,
    query_runtime: QueryRuntime | None = None,
) -> VideoEncoder:
    """Load an encoder by its name, to encode with it.

    Args:
        name: As for `VideoColBERT.from_pretrained`, or SCHEME:WHICH, for an encoder of another package.
        device: Where it computes; None for the first GPU, else the CPU.
        precision: As for `VideoColBERT.from_pretrained`; None for "auto".
        compile: As for `VideoColBERT.from_pretrained`.
        query_runtime: As for `VideoColBERT.with_query_runtime`.

    Raises:
        ModelError: If there is no such model or it cannot be used.
        SettingsError: If the device does not compute in the precision.
        DependencyError: If a compiler or a runtime is missing.
    """
    check_query_runtime(query_runtime)
    registered = find_registered(name)
    if registered is not None:
        encoder = in_precision(load_registered(*registered, device), None if precision == "auto" else precision)
        return made_faster(encoder, compile=compile, query_runtime=query_runtime)
    model = VideoColBERT.from_pretrained(name, device=device, precision=precision or "auto", compile=compile)
    return model if query_runtime is None else model.with_query_runtime(query_runtime)


def find_registered(name: str | os.PathLike[str]) -> tuple[EntryPoint, str] | None:
    """Return what loads an encoder of another package, and which one; None for every other name.

    Args:
        name: A name such as "st:org/model"; a folder of this name is meant first.
    """
    scheme, mark, which = str(name).partition(":")
    if not mark or not scheme.isidentifier() or str(name).startswith(PREFIX) or Path(name).is_dir():
        return None
    found = [*entry_points(group=ENCODERS, name=scheme)]
    return (found[0], which) if found else None


def load_registered(point: EntryPoint, which: str, device: Device | None) -> VideoEncoder:
    """Load an encoder of another package.

    Raises:
        ModelError: If the package fails.
        SettingsError: If what it returns is no encoder.
    """
    try:
        encoder = point.load()(which, device=device)
    except ColBERTVideoError:
        raise
    except Exception as error:  # any code may run here
        raise ModelError(
            f"the encoder {shown(which)} cannot be loaded by {point.value}, which is registered as {shown(point.name)}: "
            f"{in_one_line(error)}."
        ) from error
    check_encoder(encoder)
    made: VideoEncoder = encoder
    return made


def check_not_named_by_index(name: str | os.PathLike[str]) -> None:
    """Check that an index does not name an encoder of another package.

    Raises:
        ModelError: If it does.
    """
    if find_registered(name) is not None:
        raise ModelError(
            f"the index names the encoder {shown(str(name))}, which code of another package loads; if you trust the index, name "
            "the encoder yourself: --model, or model= in Python."
        )


def in_precision(encoder: VideoEncoder, precision: Precision | None) -> VideoEncoder:
    """Return an encoder in a precision: itself where None is given or it has that one, else a converted copy.

    Raises:
        SettingsError: If it cannot be converted.
    """
    if precision is None or precision == encoder.precision:
        return encoder
    if isinstance(encoder, FirstDims):
        return FirstDims(in_precision(encoder.whole, precision), encoder.dim)
    if isinstance(encoder, VideoColBERT):
        return encoder.at_precision(precision)
    raise SettingsError(
        f"precision={shown(precision)}: a {type(encoder).__name__} computes in {encoder.precision}; leave the precision out, or "
        "choose it where the encoder is made."
    )


def made_faster(encoder: VideoEncoder, *, compile: bool, query_runtime: QueryRuntime | None) -> VideoEncoder:
    """Return an encoder with compiled towers, or queries in a runtime, as asked; the given one stays as it is.

    Raises:
        SettingsError: If it is no `VideoColBERT`.
        DependencyError: If a compiler or a runtime is missing.
    """
    if not compile and query_runtime is None:
        return encoder
    if isinstance(encoder, FirstDims):
        return FirstDims(made_faster(encoder.whole, compile=compile, query_runtime=query_runtime), encoder.dim)
    if not isinstance(encoder, VideoColBERT):
        option = "compile=True" if compile else f"query_runtime={shown(query_runtime)}"
        raise SettingsError(
            f"{option} is for models of this library, and a {type(encoder).__name__} computes by itself; leave it out."
        )
    model = encoder.with_query_runtime(query_runtime)
    if compile:
        model.compile()
    return model


@dataclass(frozen=True)
class ModelChoice:
    """The model that a user has chosen for an index or a search, which is loaded later."""

    given: Model | None
    """None for the model that the index names."""
    device: Device | None
    """Where a model given by name computes."""
    precision: Precision | None
    """None for "auto", and for that of a model in memory."""
    compile: bool = False
    query_runtime: QueryRuntime | None = None

    @classmethod
    def from_given(
        cls,
        model: Model | None,
        device: Device | None = None,
        precision: Precision | None = None,
        compile: bool = False,
        query_runtime: QueryRuntime | None = None,
    ) -> "ModelChoice":
        """Check what was given; the name of a folder becomes its absolute path.

        Raises:
            SettingsError: If the model is neither a name nor an encoder, or the precision or runtime is unknown.
            ModelError: If the name is empty or cannot be one.
            DependencyError: If the runtime is not installed.
        """
        check_precision(precision)
        check_flags(compile=compile)
        check_query_runtime(query_runtime)
        if is_name(model):
            name = model if isinstance(model, str) else Path(os.fspath(model))
            model = settled_name(name)
        elif model is not None:
            check_encoder(model)
        return cls(cast("Model | None", model), device, precision, compile, query_runtime)

    @property
    def by_name(self) -> bool:
        """True if the model is loaded by its name, rather than given."""
        return self.given is None or is_name(self.given)

    def load(self, named: str | None) -> VideoEncoder | None:
        """Return the encoder; None if none was given and the index names none.

        Args:
            named: The model that the index names.

        Raises:
            ModelError: If it cannot be loaded.
            SettingsError: If the device is not there, or does not compute in the precision.
            DependencyError: If a compiler or a runtime is missing.
        """
        source = named if self.given is None else self.given
        if source is None:
            return None
        if isinstance(source, str | Path):
            if self.given is None:
                check_not_named_by_index(source)
            return load_encoder(source, device=self.device, precision=self.precision, **self._speed)
        return made_faster(in_precision(source, self.precision), **self._speed)

    @property
    def _speed(self) -> dict[str, Any]:
        return {"compile": self.compile, "query_runtime": self.query_runtime}

"""Request bodies, which take nothing that they do not name."""

from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

TOKEN: Final = "hfs_…"  # noqa: S105 - an example that opens nothing
"""What stands for a token in the examples."""


def _taking(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": list(examples)})


Metadata = Annotated[
    dict[str, Any],
    Field(description="A JSON object: at most 64 keys, depth 16, 16 KiB; integers within ±2^53."),
]
Changes = Annotated[
    dict[str, Any],
    Field(description="Merged into the metadata after RFC 7396: null removes a key, an object is merged."),
]


class CreateBody(BaseModel):
    """A session to begin."""

    model_config = _taking({"user_id": "u1", "metadata": {"lang": "ko"}}, {})
    user_id: Annotated[str | None, Field(description="Whose it is, 1 to 255 characters; absent: anonymous.")] = None
    metadata: Metadata = Field(default_factory=dict)


class ValidateBody(BaseModel):
    """A token to check."""

    model_config = _taking({"token": TOKEN})
    token: str


class MetadataBody(BaseModel):
    """Changes to metadata, and to nothing else."""

    model_config = _taking({"changes": {"lang": "en", "draft": None}})
    changes: Changes


class ExtendBody(BaseModel):
    """How far from now the session shall live."""

    model_config = _taking({"hours": 24})
    hours: Annotated[float, Field(gt=0, description="From now; never past the cap.")] = 24


class TicketBody(BaseModel):
    """Where a ticket will be used."""

    model_config = _taking({"origin": "https://app.example.com"}, {})
    origin: Annotated[str | None, Field(description="The Origin header of the handshake; absent: it carries none.")] = (
        None
    )

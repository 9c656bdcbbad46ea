"""Which events a request is about: its query parameters, checked."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.v1.problems import Problem
from schemas.event import KINDS, Kind
from store.search import FILTERS, MAX_PAGE, EventSearch

Word = Annotated[str, Field(min_length=1, max_length=256)]


class EventQuery(BaseModel):
    """The filters of events; all of them must hold."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    kind: list[Kind] = Field([], max_length=len(KINDS), description="Of these kinds; all without it.")
    since: AwareDatetime | None = Field(None, alias="from", description="Event time, RFC 3339; included.")
    until: AwareDatetime | None = Field(None, alias="to", description="Event time, RFC 3339; not included.")
    event_id: Word | None = None
    user_id: Word | None = None
    source_ip: Word | None = None
    service: Word | None = None
    session_id: Word | None = None
    trace_id: Word | None = None
    token_id: Word | None = None
    outcome: Literal["success", "failure"] | None = None
    reason: Word | None = None
    action: Word | None = None
    auth_method: Word | None = None
    permission: Word | None = None
    resource_type: Word | None = None
    resource_id: Word | None = None
    resource_tenant_id: Word | None = None
    http_method: Word | None = None
    http_route: Word | None = None
    http_status: Annotated[int, Field(ge=100, le=999)] | None = None
    api_key_id: Word | None = None
    text: Word | None = Field(
        None,
        description="Somewhere in the user, resource, path, client, reason or attributes, in any case.",
    )
    order: Literal["newest", "oldest"] = "newest"

    def search(self) -> EventSearch:
        """Return what the store is asked.

        Raises
        ------
        Problem
            If the times are the wrong way round.
        """
        if self.since and self.until and self.until <= self.since:
            detail = "`to` is not after `from`"
            raise Problem("invalid", detail, errors=[{"field": "query.to", "detail": detail}])
        given = {name: getattr(self, name) for name in FILTERS}
        return EventSearch(
            tuple(kind for kind in KINDS if kind in self.kind) or KINDS,
            self.since,
            self.until,
            {name: (value,) for name, value in given.items() if value is not None},
            self.http_status,
            () if self.text is None else (self.text,),
            self.order == "newest",
        )

    def asked(self) -> dict[str, Any]:
        """Return the filters by name, for a cursor to be bound to."""
        return self.model_dump(mode="json", exclude_none=True)


class EventPageQuery(EventQuery):
    """A page of them."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = Field(100, description="Events on the page.")
    cursor: Annotated[str, Field(min_length=1, max_length=1_000)] | None = Field(
        None, description="`next_cursor` of the page before, with the same filters."
    )

    def asked(self) -> dict[str, Any]:
        """Return the filters by name, for a cursor to be bound to."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"limit", "cursor"})

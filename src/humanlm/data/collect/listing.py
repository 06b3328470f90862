"""Posts that are listed first and read one by one afterwards: the way of all three platforms."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, JsonValue

from humanlm.data.collect.source import Fault, Run, Step
from humanlm.data.collect.web import Refused, Unanswered
from humanlm.data.raw import RawRecord


class Page(NamedTuple):
    """A page of a listing.

    Attributes:
        posts: The ids on it, those that are wanted.
        following: Where the next page begins; None after the last one.
    """

    posts: list[str]
    following: str | None


class Piece(NamedTuple):
    """A piece of a post: the post itself, a page of its comments, one response.

    Attributes:
        records: What it holds.
        following: What of this post is to be read next; None when it is done.
        faults: What was refused, as request and problem.
    """

    records: list[RawRecord]
    following: JsonValue = None
    faults: tuple[tuple[str, str], ...] = ()


class Cursor(BaseModel):
    """How far a listing and the reading of its posts are."""

    model_config = ConfigDict(extra="forbid")

    place: int = 0
    page: str | None = None
    listed: bool = False
    posts: list[str] = []
    done: int = 0
    piece: JsonValue = None


def walk(
    run: Run,
    places: list[str],
    *,
    list_page: Callable[[str, str | None], Page],
    read_piece: Callable[[str, JsonValue], Piece],
    most_posts: int | None,
    skip_failed: bool,
    given: list[str] | None = None,
) -> Iterator[Step]:
    """Lists the posts of all places, then reads them piece by piece; one step a page and a piece.

    Args:
        run: What is known of the collection.
        places: Channels, subreddits or tags.
        list_page: Gives a page of a place's listing.
        read_piece: Gives a piece of a post; None asks for the first one.
        most_posts: Read at most this many posts.
        skip_failed: Pass over what the platform did not answer, instead of stopping.
        given: Posts that were named, read before the listed ones.

    Raises:
        RunError: The platform did not answer, or no key is left.
    """
    at = Cursor.model_validate(run.cursor) if run.cursor is not None else Cursor(posts=list(given or []))
    known = set(at.posts)
    while not at.listed:
        if at.place >= len(places) or (most_posts is not None and len(at.posts) >= most_posts):
            at.listed = True
            at.posts = at.posts[:most_posts]
            yield Step(at.model_dump())
            break
        place, faults = places[at.place], []
        try:
            page = list_page(place, at.page)
        except (Refused, Unanswered) as error:
            faults.append(_fault(error, f"list {place}", skip_failed=skip_failed))
            page = Page([], None)
        for post in page.posts:
            if post not in known:
                known.add(post)
                at.posts.append(post)
        at.page = page.following
        at.place += page.following is None
        yield Step(at.model_dump(), (), faults)
    while at.done < len(at.posts) and not run.enough():
        post = at.posts[at.done]
        try:
            piece = read_piece(post, at.piece)
            faults = [Fault(request, None, problem) for request, problem in piece.faults]
        except (Refused, Unanswered) as error:
            piece, faults = Piece([]), [_fault(error, f"read {post}", skip_failed=skip_failed)]
        at.piece = piece.following
        at.done += piece.following is None
        yield Step(at.model_dump(), piece.records, faults, (post, None))


def _fault(error: Exception, request: str, *, skip_failed: bool) -> Fault:
    if isinstance(error, Unanswered) and not skip_failed:
        raise error
    return Fault(request, None, str(error).partition(": try later")[0])

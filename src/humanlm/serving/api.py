"""The endpoint's words: OpenAI's chat completions, with one field of our own."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_MESSAGES = 1000
MOST_SAMPLES = 8
ROLES = ("system", "developer", "user", "assistant")


class Extension(BaseModel):
    """What OpenAI's interface has no word for; the field ``humanlm`` of a request.

    Attributes:
        persona_id: A persona of the server's store. A system message is then added to it.
        persona: A persona as text or object, instead of one from the store.
        states: Whether to tell the six states.
        thinking: Whether to tell the reasoning.
        fix: States that are not left to the model.
        roles: Who is who. ``caller``: the messages stand as for any model that is asked, so ``assistant`` is the simulated person
            and ``user`` whoever talks to it. ``conversation``: they stand as in the conversation itself, so ``user`` is the
            simulated person and ``assistant`` its counterpart.
        author: Who speaks in messages of the other side that bear no ``name``.
    """

    model_config = ConfigDict(extra="forbid")

    persona_id: str | None = None
    persona: str | dict[str, Any] | None = None
    states: bool = False
    thinking: bool = False
    fix: dict[str, str] = Field(default_factory=dict, max_length=40)
    roles: Literal["caller", "conversation"] = "caller"
    author: str = Field(default="assistant", max_length=200)


class Part(BaseModel):
    """A part of a message; only text can be read."""

    type: str
    text: str | None = None


class Message(BaseModel):
    """One message; further fields are ignored."""

    role: Annotated[str, Field(json_schema_extra={"enum": list(ROLES)})]
    content: str | list[Part] | None = None
    name: str | None = Field(default=None, max_length=200)


class StreamOptions(BaseModel):
    """How a stream ends."""

    include_usage: bool = False


Stop = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=8)]


class ChatRequest(BaseModel):
    """A request for a chat completion. Fields of OpenAI's that are not listed have no meaning here and are ignored."""

    model: str
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=100_000)
    n: int | None = Field(default=None, ge=1, le=MOST_SAMPLES)
    seed: int | None = Field(default=None, ge=-(2**62), le=2**62)
    stop: Annotated[str, Field(min_length=1, max_length=200)] | Stop | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    humanlm: Extension = Field(default_factory=Extension)

    @property
    def stops(self) -> list[str]:
        """Texts at which a reply is cut."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())


class ErrorBody(BaseModel):
    """What went wrong, in OpenAI's shape."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """The body of every answer that is no success."""

    error: ErrorBody


class UsageBody(BaseModel):
    """Tokens read and written, reasoning and state prompts included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Told(BaseModel):
    """What a reply says beyond its text; states and thinking only if they were asked for.

    Attributes:
        states: By dimension.
        thinking: The reasoning.
        faults: Deviations of the model's output from its form; none means well formed.
        persona_id: The persona of the store that answered.
    """

    states: dict[str, str] | None = None
    thinking: str | None = None
    faults: list[str]
    persona_id: str | None = None


class ReplyMessage(BaseModel):
    """The reply as a message."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    """One sample."""

    index: int
    message: ReplyMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None
    humanlm: Told


class ChatAnswer(BaseModel):
    """The answer to a request that is not streamed."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody


class ModelBody(BaseModel):
    """A simulator that can be asked."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "humanlm"
    humanlm: dict[str, Any]


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelBody]


class PersonaBody(BaseModel):
    """A persona of the store."""

    id: str
    persona: dict[str, Any]


class PersonaList(BaseModel):
    """Ids of the store, a page at a time."""

    object: Literal["list"] = "list"
    data: list[str]
    total: int
    has_more: bool


class Health(BaseModel):
    """Whether requests are taken."""

    status: Literal["ok", "stopping"]

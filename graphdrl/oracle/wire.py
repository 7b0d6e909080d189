"""Questions and answers of every kind as JSON, for clients that are not in the cluster."""

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from graphdrl.oracle.bodies import (
    AnswerBody,
    NameAnswerBody,
    NameQuestionBody,
    ProposeAnswerBody,
    ProposeQuestionBody,
    QuestionBody,
    RankAnswerBody,
    RankQuestionBody,
    RelateAnswerBody,
    RelateQuestionBody,
    ScoreAnswerBody,
    ScoreQuestionBody,
)
from graphdrl.oracle.protocol import OracleError
from graphdrl.oracle.questions import Ask, NameQuestion, ProposeQuestion, Question, RankQuestion, RelateQuestion

MOST_BYTES = 32 << 20
"""Of a whole question; whoever reads it counts before parsing."""

_LONGEST_SHOWN = 64

D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True)
class Codec:
    """How one kind of question goes through the door: under which route (and which others), as which documents."""

    route: str
    question: type[QuestionBody]
    answer: type[AnswerBody]
    also: tuple[str, ...] = ()

    def question_to_json(self, question: Ask[Any]) -> bytes:
        """Raises ValueError, in one sentence, for what the door would refuse anyway."""
        return self.body(question).model_dump_json().encode()

    def question_from_json(self, content: bytes) -> Ask[Any]:
        """A stranger's question, checked before its images are decoded; raises ValueError, in one sentence.

        TooLarge, a ValueError, is what has more pixels than fit into one question.
        """
        return parsed(self.question, content).question()

    def answer_to_json(self, answer: Any) -> bytes:
        return self.answer.of(answer).model_dump_json().encode()

    def answer_from_json(self, content: bytes) -> Any:
        """Raises ValueError for what is no answer to such a question."""
        return self.answer.model_validate_json(content).answer()

    def body(self, question: Ask[Any]) -> QuestionBody:
        """The document of a question; raises ValueError, in one sentence, for what the door would refuse anyway."""
        try:
            return self.question.of(question)
        except ValidationError as error:
            raise _refusal(error, self.question) from None


CODECS: dict[type[Ask[Any]], Codec] = {
    Question: Codec("answer", ScoreQuestionBody, ScoreAnswerBody, also=("score",)),
    RankQuestion: Codec("rank", RankQuestionBody, RankAnswerBody),
    RelateQuestion: Codec("relate", RelateQuestionBody, RelateAnswerBody),
    NameQuestion: Codec("name", NameQuestionBody, NameAnswerBody),
    ProposeQuestion: Codec("propose", ProposeQuestionBody, ProposeAnswerBody),
}
"""Every kind of question that can be asked through HTTP; rooms above add theirs when they are imported."""


def codec_of(question: Ask[Any]) -> Codec:
    """Raises OracleError for a kind of question that does not go through HTTP."""
    if type(question) not in CODECS:
        raise OracleError(
            f"a {type(question).__name__} cannot be asked through HTTP: ask inside the cluster, with HandleOracle"
        )
    return CODECS[type(question)]


def parsed(document: type[D], content: bytes) -> D:
    """JSON as a document; raises ValueError, in one sentence, for what is none such."""
    try:
        return document.model_validate_json(content)
    except ValidationError as error:
        raise _refusal(error, document) from None


def _refusal(error: ValidationError, body: type[BaseModel]) -> ValueError:
    """The first thing that is wrong, in one sentence."""
    first = error.errors(include_url=False, include_input=False)[0]
    place, limits, kind = first["loc"], first.get("ctx", {}), first["type"]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    fields = ", ".join(sorted(body.model_fields))
    match kind:
        case "json_invalid":
            return ValueError("the body is not JSON")
        case "model_type" if not place:
            return ValueError(f"a question is a JSON object: its fields are {fields}")
        case "extra_forbidden" if len(place) == 1:
            return ValueError(f"a question has no field {_shown(where)!r}: its fields are {fields}")
        case "missing" if len(place) == 1:
            return ValueError(f"{where} is missing: a question's fields are {fields}")
        case "too_long":
            many = f"{limits['actual_length']:,}" if limits.get("actual_length") else "too many"
            return ValueError(f"{where} has {many} entries: {limits['max_length']:,} are the most of one question")
        case "too_short":
            return ValueError(f"{where} has {limits['actual_length']} entries: give at least {limits['min_length']}")
        case "string_too_long":
            return ValueError(f"{where} is longer than the limit of {limits['max_length']:,} characters")
        case "value_error":
            return ValueError(str(limits["error"]))
    return ValueError(f"{_shown(where)}: {first['msg'][:1].lower()}{first['msg'][1:]}")


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."

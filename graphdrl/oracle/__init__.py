"""What is asked of the multimodal model, what it answers, and the protocol between."""

from graphdrl.oracle.identity import model_key
from graphdrl.oracle.prompts import check_attribute, load_prompt
from graphdrl.oracle.protocol import Busy, Late, Oracle, OracleError
from graphdrl.oracle.questions import (
    HIGHEST_GRADE,
    Answer,
    Ask,
    NameAnswer,
    NameQuestion,
    ProposeAnswer,
    ProposeQuestion,
    Question,
    RankAnswer,
    RankQuestion,
    RelateAnswer,
    RelateQuestion,
    Scores,
)

__all__ = [
    "HIGHEST_GRADE",
    "Answer",
    "Ask",
    "Busy",
    "Late",
    "NameAnswer",
    "NameQuestion",
    "Oracle",
    "OracleError",
    "ProposeAnswer",
    "ProposeQuestion",
    "Question",
    "RankAnswer",
    "RankQuestion",
    "RelateAnswer",
    "RelateQuestion",
    "Scores",
    "check_attribute",
    "load_prompt",
    "model_key",
]

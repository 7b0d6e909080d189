"""What is asked of the multimodal model, what it answers, and the protocol between."""

from graphdrl.oracle.identity import model_key
from graphdrl.oracle.prompts import check_attribute, load_prompt
from graphdrl.oracle.protocol import Busy, Oracle, OracleError
from graphdrl.oracle.questions import HIGHEST_GRADE, Answer, Question, Scores

__all__ = [
    "HIGHEST_GRADE",
    "Answer",
    "Busy",
    "Oracle",
    "OracleError",
    "Question",
    "Scores",
    "check_attribute",
    "load_prompt",
    "model_key",
]

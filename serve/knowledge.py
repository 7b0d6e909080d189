"""What can be asked of the model that answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from graphdrl.oracle.doubt import Calibration
from graphdrl.oracle.prompts import Prompt, check_attribute
from graphdrl.oracle.scores import Grades


@dataclass(frozen=True)
class Knowledge:
    """What a model can be asked, and in which words.

    model: its key in the stores. load_prompt: the words of each kind of question.
    attributes: all that it ever learnt; None: anything. has_commonsense: whether beliefs can be asked for.
    has_eyes: whether it reads images.
    calibration: measured on a gold set; scores of images unlike it are flagged.
    """

    model: str
    load_prompt: Callable[[str], Prompt]
    attributes: tuple[str, ...] | None = None
    has_commonsense: bool = True
    has_eyes: bool = True
    calibration: Calibration | None = None

    def flags(self, grades: Grades, attributes: tuple[str, ...], prompt_version: str) -> np.ndarray:
        """Bool [B]: images whose grades look unlike the gold set's; grades asked in other words are not compared."""
        calibration = self.calibration
        if calibration is None or calibration.prompt_version != prompt_version:
            return np.zeros(len(grades.expected), np.bool_)
        return calibration.flags(grades.expected, grades.entropy, attributes)

    def check_attributes(self, attributes: Sequence[str]) -> None:
        """Raises ValueError for a name that cannot be asked, that this model never learnt, or that comes twice."""
        for attribute in attributes:
            check_attribute(attribute)
            if self.attributes is not None and attribute not in self.attributes:
                raise ValueError(
                    f"model {self.model!r} never learnt the attribute {attribute!r} (it knows: "
                    f"{', '.join(self.attributes)}; any other name needs another oracle.model)"
                )
        if len(set(attributes)) < len(attributes):
            raise ValueError(f"an attribute is asked twice in one question: {', '.join(attributes)}")

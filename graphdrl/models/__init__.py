"""The model: encoders, decoders, the critic, the relation graph, and their assembly."""

from graphdrl.models.critic import CodeCritic, JointCritic
from graphdrl.models.disgraph import DisGraph
from graphdrl.models.gem import GEM, GEMConfig, Outputs

__all__ = ["GEM", "CodeCritic", "DisGraph", "GEMConfig", "JointCritic", "Outputs"]

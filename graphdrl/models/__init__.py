"""The model: encoders, decoders, the critic, the relation graph, and their assembly."""

from graphdrl.models.critic import JointCritic
from graphdrl.models.disgraph import DisGraph
from graphdrl.models.gem import GEM, GEMConfig, Outputs

__all__ = ["GEM", "DisGraph", "GEMConfig", "JointCritic", "Outputs"]

"""The Docker Engine as the ``Swarm`` port: ``async with open_swarm(docker_host, clock) as swarm``."""

from warmd.adapters.docker.swarm import DockerSwarm, open_swarm

__all__ = ["DockerSwarm", "open_swarm"]

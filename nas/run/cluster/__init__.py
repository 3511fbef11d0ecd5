"""Work on a Ray cluster; the one package that knows Ray, which starts processes and tells when one is lost."""

from nas.run.cluster.connection import LOCAL, connected
from nas.run.cluster.place import Lost, Needs, Place
from nas.run.cluster.processes import together
from nas.run.cluster.tasks import each

__all__ = ["LOCAL", "Lost", "Needs", "Place", "connected", "each", "together"]

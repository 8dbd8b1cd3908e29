"""stackbuild composes Python environments out of layers and ships them as archives."""

__version__ = "0.1.0"

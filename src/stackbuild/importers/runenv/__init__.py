"""Imports repositories of the kind of runenv-python-3: reads, converts, reports. Offline."""

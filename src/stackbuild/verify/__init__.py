"""Check deployed layers: native modules, requirements, files, shared libraries."""

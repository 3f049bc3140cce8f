"""Identities: keys, the alliance's authority, certificates, roster, manifests, signatures."""

//! Fixtures for system tests: images from Debian packages, a registry, engines.

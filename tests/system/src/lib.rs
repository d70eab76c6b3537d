//! Empty: this package is its tests, which use the programs from outside.

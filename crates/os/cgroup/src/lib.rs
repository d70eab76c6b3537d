//! Cgroup v1, v2 and hybrid behind one interface.
